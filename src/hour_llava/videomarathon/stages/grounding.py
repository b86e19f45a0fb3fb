"""From what a model says to what a row holds: evidence by clip and event, options by letter.

A quote that is not found is kept as it is: it is for `verify` to reject the row and say why.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from hour_llava.videomarathon.records import Aspect, ClipCaption, Event, Evidence, Span, Video
from hour_llava.videomarathon.schemas import QAEvidence
from hour_llava.videomarathon.stages.asking import StructureError
from hour_llava.videomarathon.stages.inputs import ASPECTS
from hour_llava.videomarathon.wording import read_key

_NEAR_MS = 1000
NUMBERS_OF_OPTIONS = (2, 4)


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What evidence may cite; `aspect` is the topic's, looked at first."""

    video: Video
    captions: tuple[ClipCaption, ...]
    events: tuple[Event, ...]
    aspect: str | None = None


def resolve(cited: Sequence[QAEvidence], sources: Sources) -> tuple[Evidence, ...]:
    """Find the clip or event that each piece of evidence means; what means none is left out."""
    found = [_resolve_one(one, sources) for one in cited]
    return tuple(dict.fromkeys(evidence for evidence in found if evidence is not None))


def _resolve_one(cited: QAEvidence, sources: Sources) -> Evidence | None:
    event = _event_named(cited.event or cited.clip, sources.events)
    caption = None if event is not None else _caption_at(cited, sources)
    if event is not None:
        span = _told_span(cited, sources.video) or event.span
        return Evidence(span=span, quote=cited.quote, event_id=event.id)
    if caption is None:
        return None
    span = _told_span(cited, sources.video) or caption.span
    aspect = aspect_of(cited.quote, caption, sources.aspect)
    return Evidence(span=span, quote=cited.quote, clip_id=caption.clip_id, aspect=aspect)


def _told_span(cited: QAEvidence, video: Video) -> Span | None:
    if cited.start_seconds is None or cited.end_seconds is None:
        return None
    start = max(0, round(cited.start_seconds * 1000))
    end = min(video.duration_ms, round(cited.end_seconds * 1000))
    return Span(start_ms=start, end_ms=end) if start < end else None


def _event_named(name: str | None, events: Sequence[Event]) -> Event | None:
    wanted = _fold(name or "")
    named = [event for event in events if wanted in (_fold(event.title), event.id)]
    return named[0] if named else None


def _caption_at(cited: QAEvidence, sources: Sources) -> ClipCaption | None:
    """Find the caption by its key, else by its quote where only one caption holds it."""
    times = read_key(cited.clip or "")
    if times is None:
        quote = _fold(cited.quote)
        holding = [
            c
            for c in sources.captions
            if any(quote in _fold(str(getattr(c.aspects, name))) for name in ASPECTS)
        ]
        return holding[0] if len(holding) == 1 else None
    start, end = times
    near = [
        caption
        for caption in sources.captions
        if abs(caption.span.start_ms - start) <= _NEAR_MS
        and abs(caption.span.end_ms - end) <= _NEAR_MS
    ]
    if near:
        return near[0]
    if not 0 <= start < end:
        return None
    meant = Span(start_ms=start, end_ms=end)
    best = max(sources.captions, key=lambda c: c.span.overlap_ms(meant), default=None)
    return best if best is not None and best.span.overlap_ms(meant) else None


def aspect_of(quote: str, caption: ClipCaption, preferred: str | None) -> Aspect | None:
    """Name the aspect that holds a quote: the preferred one first; that one where none does."""
    first = (preferred,) if preferred in ASPECTS else ()
    for as_compared in (_one_spaced, _fold):
        wanted = as_compared(quote)
        for name in (*first, *ASPECTS):
            if wanted in as_compared(str(getattr(caption.aspects, name))):
                return cast(Aspect, name)
    return cast(Aspect, first[0]) if first else None


def read_options(options: Mapping[str, str] | None, answer: str) -> tuple[tuple[str, ...], str]:
    """Read lettered options and the answer, which is a letter or an option's text.

    Returns: (options in order of their letters, the right one).
    Raises:
        StructureError: not 2 or 4, two of them alike, or not exactly one is the answer.
    """
    if options is None:
        raise StructureError("a multiple-choice question has no options")
    texts = {letter.strip().upper().strip("().:"): _bare(text) for letter, text in options.items()}
    ordered = tuple(texts[letter] for letter in sorted(texts))
    folded = [_fold(text) for text in ordered]
    if len(ordered) not in NUMBERS_OF_OPTIONS or len(ordered) != len(options):
        raise StructureError(f"a question has {len(options)} options; 4 are asked, or 2")
    if len(set(folded)) != len(folded) or "" in folded:
        raise StructureError("two options of a question are the same, or one is empty")
    letter = re.match(r"\(?([A-Za-z])(?:[).:]|$)", answer.strip())
    if letter and letter[1].upper() in texts and _fold(answer) not in folded:
        return ordered, texts[letter[1].upper()]
    right = [text for text in ordered if _fold(text) == _fold(_bare(answer))]
    if len(right) != 1:
        raise StructureError(f"the answer {answer!r} is none of the options")
    return ordered, right[0]


def _bare(text: str) -> str:
    """Cut a letter that stands before an option's text: "B. red"."""
    return re.sub(r"^\s*\(?[A-D][).:]\s+", "", text).strip()


def _one_spaced(text: str) -> str:
    return " ".join(text.split())


def _fold(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    return " ".join(folded.split()).strip(" .,;:!?\"'")
