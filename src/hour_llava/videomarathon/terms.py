"""Things and actions that captions speak of, found by word: what existence and place are asked of.

Only words that are hard to mistake are taken: everyday things from a list, and actions in the
continuous form ("slicing an onion"), as the caption prompt asks for them. English only; captions in
another language give none, and then nothing is asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hour_llava.videomarathon.checks.words import (
    SMALL_WORDS,
    content_words,
    mentions,
    sentences_of,
)
from hour_llava.videomarathon.records import ClipCaption, Span

_THINGS = """\
airplane backpack ball balloon banana basket bench bottle bowl broom bucket bus cake camera
candle car cat chair clock cow cup desk dog door elephant fork giraffe guitar hat helicopter
helmet horse kettle keyboard kite knife ladder lamp laptop microphone mirror motorcycle
mushroom oven pencil piano pillow pizza refrigerator rope sandwich scissors sheep shoe sofa
spoon suitcase telescope television tent tomato towel tractor tree truck trumpet umbrella
vase violin wheelchair window zebra"""
THINGS: tuple[str, ...] = tuple(_THINGS.split())
"""Everyday things whose names are no verbs, colours or parts of other words in a caption."""

_CONTINUOUS = re.compile(
    r"\b([a-z]{2,}ing)(?:\s+(a|an|the|his|her|their|some|two|three)\s+([a-z]+)"
    r"(?=(?:\s+([a-z]+))?(?:\s+([a-z]+))?))?"
)
_LINK_WORDS = """\
above across against ahead along alongside although amid among apart around aside away back behind
below beneath beside besides beyond except forward inside later like near next onto opposite outside
past per since throughout till together toward towards underneath unless upon via whereas within
without yet"""
_LINKS = frozenset(_LINK_WORDS.split())
_COLOUR_WORDS = """\
black blue brown golden green grey gray orange pink purple red silver white yellow"""
_COLOURS = frozenset(_COLOUR_WORDS.split())
_NOT_ACTIONS = """\
during something anything nothing everything morning evening string spring ring king wing
ceiling building clothing being having thing sibling railing lighting setting including
following surrounding interesting amazing going doing making showing continuing remaining
standing sitting wearing appearing beginning starting stopping ending looking"""
_IS_NO_ACTION = frozenset(_NOT_ACTIONS.split())


@dataclass(frozen=True, kw_only=True)
class Run:
    """An action that is spoken of in one unbroken run of clips and nowhere else."""

    label: str
    span: Span
    captions: tuple[ClipCaption, ...]


def whole_text(caption: ClipCaption) -> str:
    """Return all six aspects of a caption."""
    return "\n".join(caption.aspects.model_dump().values())


def sentence_with(text: str, term: str) -> str | None:
    """Return the first sentence that affirms a term, as it stands."""
    return next((s.strip() for s in sentences_of(text) if mentions(s, term)), None)


def first_sentence(text: str) -> str:
    """Return a text's first sentence, as it stands."""
    return next(iter(sentences_of(text)), text).strip()


def actions_in(text: str) -> list[str]:
    """List the actions of a text, in order: "slicing an onion", "running"."""
    found: list[str] = []
    for verb, article, *rest in _CONTINUOUS.findall(text.lower()):
        if verb in _IS_NO_ACTION:
            continue
        thing = _thing_of(rest)
        found.append(" ".join([verb, article, *thing] if thing else [verb]))
    return list(dict.fromkeys(found))


def _thing_of(words: Sequence[str]) -> list[str]:
    """Keep the words that name a thing: up to two, or three where the second is a colour."""
    thing: list[str] = []
    for word in words:
        is_link = not word or word in SMALL_WORDS or word in _LINKS
        is_next = bool(thing) and word.endswith(("ing", "ly", "s"))
        is_full = len(thing) == 2 and thing[-1] not in _COLOURS
        if is_link or is_full or (is_next and thing[-1] not in _COLOURS):
            break
        thing.append(word)
    return [] if thing and thing[-1] in _COLOURS else thing


class TermIndex:
    """Looks terms up in captions; a set of stems before the slower reading."""

    def __init__(self, captions: Sequence[ClipCaption]) -> None:
        self.captions = tuple(captions)
        self._texts = [whole_text(caption) for caption in captions]
        self._stems = [frozenset(content_words(text)) for text in self._texts]

    def places(self, term: str) -> list[int]:
        """List the positions of the captions that affirm a term."""
        wanted = set(content_words(term))
        return [
            index
            for index, (text, stems) in enumerate(zip(self._texts, self._stems, strict=True))
            if wanted and wanted <= stems and mentions(text, term)
        ]

    def knows_word(self, term: str) -> bool:
        """Say whether a term's words stand in any caption at all, also in "no dog"."""
        wanted = set(content_words(term))
        return any(wanted <= stems for stems in self._stems)

    def runs(self) -> list[Run]:
        """List the actions that take place in one unbroken run of clips, in order of time."""
        runs: list[Run] = []
        for label in _distinct(
            label for caption in self.captions for label in actions_in(caption.aspects.action)
        ):
            places = self.places(label)
            if places and places == list(range(places[0], places[-1] + 1)):
                own = self.captions[places[0] : places[-1] + 1]
                span = Span(start_ms=own[0].span.start_ms, end_ms=own[-1].span.end_ms)
                runs.append(Run(label=label, span=span, captions=own))
        return sorted(runs, key=lambda run: (run.span.start_ms, run.label))


def _distinct(labels: Iterable[str]) -> list[str]:
    """Keep one of labels that are the same words, and drop those that others contain."""
    by_stems: dict[tuple[str, ...], str] = {}
    for label in labels:
        by_stems.setdefault(tuple(content_words(label)), label)
    return [
        label
        for stems, label in by_stems.items()
        if stems and not any(_contains(other, stems) for other in by_stems if other != stems)
    ]


def _contains(words: tuple[str, ...], part: tuple[str, ...]) -> bool:
    last = len(words) - len(part)
    return any(words[at : at + len(part)] == part for at in range(last + 1))
