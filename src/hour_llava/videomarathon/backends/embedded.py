"""The embedded backend: measured facts and a templater, for a machine without any model.

It says what `measures.py` measured and nothing else: colours, light, motion, cuts, and the parts of
a video that they divide it into. Of the 22 tasks it asks those that follow from these by
computing; it claims no objects, no people, no actions. Every row is marked `embedded`, and no
release calls such rows training data.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import numpy as np
from pydantic import BaseModel

from hour_llava.errors import VideoError
from hour_llava.tasks import task_named
from hour_llava.videomarathon.backends.items import item_of
from hour_llava.videomarathon.backends.measures import (
    COLOURS,
    MUCH_MOTION,
    SHORTEST_RUN_SECONDS,
    STILL_MOTION,
    TICKS_A_SECOND,
    Measures,
    Run,
    colour_runs,
    measure,
    motion_runs,
)
from hour_llava.videomarathon.facts import Fact, FactTables, facts_for, other_spans
from hour_llava.videomarathon.records import (
    Claim,
    ClaimItem,
    ClipCaption,
    Event,
    Evidence,
    Span,
    Video,
)
from hour_llava.videomarathon.schemas import (
    ClipAspects,
    EventDescription,
    EventSplit,
    GlobalDescription,
    QAItem,
    QAReply,
)
from hour_llava.videomarathon.stage import Reply, Request, UnitError
from hour_llava.videomarathon.terms import TermIndex, first_sentence, sentence_with
from hour_llava.videomarathon.wording import say_clock, say_key, say_span

MODEL = "measures"
MAX_EVENTS = 40
FROM_EVENTS = (
    "duration_perception",
    "temporal_gap_estimation",
    "temporal_order",
    "event_sequence",
)
MOSTLY, NEVER = 0.5, 0.2
_KEPT_VIDEOS = 4
_ORDINALS = (
    *("first", "second", "third", "fourth", "fifth", "sixth"),
    *("seventh", "eighth", "ninth", "tenth", "eleventh", "twelfth"),
)
_STILL = "hardly moves"


class EmbeddedBackend:
    """Answers for all videos of a folder; each is measured once, the last few are kept."""

    def __init__(self, source_folder: Path) -> None:
        self._source_folder = source_folder
        self._measured: OrderedDict[str, Measures] = OrderedDict()
        self._lock = asyncio.Lock()

    async def answer(self, request: Request) -> Reply:
        """Answer a request of any stage up to qa.

        Raises:
            UnitError: the video cannot be decoded.
        """
        measures = await self._measures_of(request.video)
        payload = await asyncio.to_thread(answer_from_measures, measures, request)
        return Reply(payload=payload, backend="embedded", model=MODEL)

    async def _measures_of(self, video: Video) -> Measures:
        async with self._lock:
            if video.id not in self._measured:
                file = self._source_folder / video.path
                try:
                    found = await asyncio.to_thread(measure, str(file), video.duration_ms)
                except VideoError as error:
                    raise UnitError(str(error), failure="input") from error
                self._measured[video.id] = found
            self._measured.move_to_end(video.id)
            while len(self._measured) > _KEPT_VIDEOS:
                self._measured.popitem(last=False)
            return self._measured[video.id]


def answer_from_measures(measures: Measures, request: Request) -> BaseModel:
    """Give the payload for a request.

    Raises:
        ValueError: a schema that needs a model (judges and blind readers).
    """
    schema = request.schema
    if schema is ClipAspects:
        return clip_aspects(measures, request.subject[0].span)
    if schema is EventSplit:
        return event_split(measures)
    if schema is EventDescription:
        event = request.subject[0]
        text = f"{event.title}. {' '.join(_told(measures, event.span))}"
        return EventDescription.model_validate({"description": text})
    if schema is GlobalDescription:
        return GlobalDescription.model_validate({"description": _narrative(request.subject)})
    if schema is QAReply:
        return qa_reply(measures, request)
    raise ValueError(f"measures answer no {schema.__name__}")


def clip_aspects(measures: Measures, span: Span) -> ClipAspects:
    """Say of a stretch what was measured, aspect by aspect."""
    colours, light, motion, cuts = _told(measures, span)[:4]
    change, sides = _light_change(measures, span), _sides(measures, span)
    return ClipAspects.model_validate(
        {
            "Temporality": " ".join(filter(None, (cuts, change))),
            "Spatiality": sides,
            "Object": "Which things are to be seen is not measured.",
            "Action": motion,
            "Scene": f"{colours} {light}",
            "Summary": f"{colours} {light} {motion} {cuts}",
        }
    )


def _told(measures: Measures, span: Span) -> list[str]:
    ticks = measures.ticks(span)
    light = float(measures.light_T[ticks].mean())
    brightness = "dark" if light < 0.25 else "bright" if light > 0.6 else "neither dark nor bright"
    motion = float(measures.motion_T[ticks].mean())
    moves = _STILL if motion < STILL_MOTION else "moves much" if motion > MUCH_MOTION else "moves"
    return [
        say_colours(measures, span),
        f"On the whole it is {brightness}.",
        f"The picture {moves}.",
        _cuts(measures, span),
    ]


def say_colours(measures: Measures, span: Span) -> str:
    """Name the colour that fills half of the picture, or the two most common ones."""
    shares = measures.shares_TK[measures.ticks(span)].mean(axis=0)
    first, second = (-shares).argsort()[:2].tolist()
    if shares[first] >= MOSTLY:
        return f"The picture is mostly {COLOURS[first]}."
    return f"The most common colours are {COLOURS[first]} and {COLOURS[second]}."


def _cuts(measures: Measures, span: Span) -> str:
    times = [say_clock(t) for t in measures.cuts() if span.start_ms < t < span.end_ms]
    if not times:
        return "No cut is found."
    if len(times) == 1:
        return f"There is a cut at {times[0]}."
    return f"There are {len(times)} cuts: at {', '.join(times)}."


def _light_change(measures: Measures, span: Span) -> str:
    light = measures.light_T[measures.ticks(span)]
    third = max(1, len(light) // 3)
    change = float(light[-third:].mean() - light[:third].mean())
    if abs(change) < 0.08:
        return "It ends about as bright as it begins."
    return f"It ends {'brighter' if change > 0 else 'darker'} than it begins."


def _sides(measures: Measures, span: Span) -> str:
    left, right, upper, lower = measures.sides_T4[measures.ticks(span)].mean(axis=0).tolist()
    said = [
        f"The {one} half is {'brighter' if a > b else 'darker'} than the {other} half."
        for one, other, a, b in (("left", "right", left, right), ("upper", "lower", upper, lower))
        if abs(a - b) >= 0.08
    ]
    return " ".join(said) or "All sides of the picture are about equally bright."


def event_split(measures: Measures) -> EventSplit:
    """Divide a video by its most common colour; by cuts and stillness where that is too little."""
    shortest = SHORTEST_RUN_SECONDS
    runs = colour_runs(measures, shortest)
    while len(runs) > MAX_EVENTS:
        shortest *= 2
        runs = colour_runs(measures, shortest)
    if len(runs) < 3:
        runs = _split_further(runs, np.flatnonzero(measures.is_cut_T).tolist())
    if len(runs) < 3:
        edges = [run.first for run in motion_runs(measures, 2 * SHORTEST_RUN_SECONDS)[1:]]
        runs = _split_further(runs, edges)
    spans = [measures.span_of(run.first, run.end) for run in runs]
    looks = [_look(measures, span) for span in spans]
    return EventSplit(dict(zip(map(say_key, spans), _titles(looks), strict=True)))


def _split_further(runs: Sequence[Run], edges: Sequence[int]) -> list[Run]:
    """Cut runs at ticks, so that every piece lasts ten seconds at least."""
    shortest = 2 * SHORTEST_RUN_SECONDS * TICKS_A_SECOND
    pieces: list[Run] = []
    for run in runs:
        first = run.first
        for edge in sorted(edges):
            if edge - first >= shortest and run.end - edge >= shortest and len(pieces) < MAX_EVENTS:
                pieces.append(Run(label=run.label, first=first, end=edge))
                first = edge
        pieces.append(Run(label=run.label, first=first, end=run.end))
    return pieces


def _look(measures: Measures, span: Span) -> str:
    shares = measures.shares_TK[measures.ticks(span)].mean(axis=0)
    colour = COLOURS[int(shares.argmax())]
    return f"mostly {colour}" if shares.max() >= MOSTLY else f"more {colour} than else"


def _titles(looks: Sequence[str]) -> Iterator[str]:
    """Title parts by their look; those that look alike are numbered."""
    seen: Counter[str] = Counter()
    for look in looks:
        seen[look] += 1
        number = ""
        if looks.count(look) > 1:
            number = f"{_ordinal(seen[look])} "
        if look.startswith("mostly"):
            yield f"The {number}{look} part"
        else:
            colour = look.split()[1]
            yield f"The {number}part with more {colour} than any other colour"


def _ordinal(number: int) -> str:
    if number <= len(_ORDINALS):
        return _ORDINALS[number - 1]
    endings = {1: "st", 2: "nd", 3: "rd"}
    return f"{number}{'th' if number < 20 else endings.get(number % 10, 'th')}"


def look_of(title: str) -> str:
    """Return a title without its number."""
    return " ".join(w for w in title.split() if w not in _ORDINALS and not w[0].isdigit())


def _narrative(events: Sequence[Event]) -> str:
    parts = [f"The video begins with this: {events[0].title}."]
    parts += [f"Then comes this: {event.title}." for event in events[1:-1]]
    parts += [f"It ends with this: {event.title}." for event in events[1:][-1:]]
    return " ".join(parts)


def qa_reply(measures: Measures, request: Request) -> QAReply:
    """Ask what follows from the measured parts; other tasks are left empty."""
    captions = tuple(one for one in request.subject if isinstance(one, ClipCaption))
    events = tuple(one for one in request.subject if isinstance(one, Event))
    tables = FactTables(video=request.video, captions=captions, events=events, step_ms=1000)
    format_, count = str(request.values["format"]), int(request.values["num_pairs"])
    items: dict[str, tuple[QAItem, ...]] = {}
    for slug in request.values["tasks"]:
        rng = Random(f"{request.video.id} {slug} {format_}")
        facts: list[Fact] = []
        if slug in FROM_EVENTS:
            facts = _named_apart(facts_for(slug, tables, 4 * count, rng))[:count]
        elif slug == "object_existence":
            facts = _existences(measures, tables, rng)[:count]
        elif slug == "action_localization":
            facts = _stillness(measures, tables, rng)
        found = [item_of(fact, format_, captions, events, rng) for fact in facts]
        items[task_named(slug).name] = tuple(item for item in found if item is not None)
    return QAReply(items)


def _named_apart(facts: Sequence[Fact]) -> list[Fact]:
    """Keep the facts whose parts differ in look: "the first" and "the second" tell their order."""
    return [
        fact for fact in facts if len({look_of(label) for label in fact.labels}) == len(fact.labels)
    ]


def _existences(measures: Measures, tables: FactTables, rng: Random) -> list[Fact]:
    """Ask whether the picture is ever mostly of a colour; in between the two nothing is asked."""
    index = TermIndex(tables.captions)
    yes: list[Fact] = []
    no: list[Fact] = []
    for number, colour in enumerate(COLOURS):
        term = f"mostly {colour}"
        places = index.places(term)
        cited = [
            Evidence(span=caption.span, quote=quote, clip_id=caption.clip_id, aspect="scene")
            for caption in (tables.captions[place] for place in places)
            if (quote := sentence_with(caption.aspects.scene, term))
        ]
        titled = any(term in event.title for event in tables.events)
        if cited:
            yes.append(_existence(term, "Yes", tuple(cited[:1] + cited[1:][-1:])))
        elif not titled and float(measures.shares_TK[:, number].max()) < NEVER:
            no.append(_existence(term, "No", ()))
    yes, no = rng.sample(yes, len(yes)), rng.sample(no, len(no))
    turns = itertools.chain.from_iterable(zip(yes, no, strict=False))
    return list(turns)


def _existence(term: str, answer: str, cited: tuple[Evidence, ...]) -> Fact:
    return Fact(
        task="object_existence",
        question=f"Is the picture {term} at any time of the video?",
        answer=answer,
        wrong=("No" if answer == "Yes" else "Yes",),
        claim=Claim(claim="existence", value=answer.lower(), term=term),
        evidence=cited,
    )


def _stillness(measures: Measures, tables: FactTables, rng: Random) -> list[Fact]:
    """Ask when the picture hardly moves, where it does so once."""
    still = [run for run in motion_runs(measures, SHORTEST_RUN_SECONDS) if run.label == "still"]
    if len(still) != 1:
        return []
    span = measures.span_of(still[0].first, still[0].end)
    captions = [
        tables.captions[place]
        for place in TermIndex(tables.captions).places(_STILL)
        if tables.captions[place].span.overlap_ms(span)
    ]
    if not captions or 3 * span.duration_ms > tables.video.duration_ms:
        return []
    label = f"picture {_STILL}"
    cited = captions[0]
    return [
        Fact(
            task="action_localization",
            question=f"When in the video does this hold: the {label}?",
            answer=say_span(span),
            wrong=tuple(
                say_span(other) for other in other_spans(span, tables.video.duration_ms, rng)
            ),
            claim=Claim(
                claim="localization",
                value=f"{span.start_ms}-{span.end_ms}",
                items=(ClaimItem(label=label, span=span, clip_id=cited.clip_id),),
                term=_STILL,
            ),
            evidence=(
                Evidence(
                    span=span,
                    quote=first_sentence(cited.aspects.action),
                    clip_id=cited.clip_id,
                    aspect="action",
                ),
            ),
        )
    ]
