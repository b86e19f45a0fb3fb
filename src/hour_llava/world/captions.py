"""What a captioner who knows the truth would say of a span of video, sentence by sentence.

Every sentence is plain, in the words of the questions, and the same each time, so that it can be
quoted. For every piece of a question's evidence there is a sentence that proves it: `proofs_of`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from hour_llava.schema import FrameSpan
from hour_llava.tasks import ASPECTS
from hour_llava.world.facts import eighth_of
from hour_llava.world.questions import Question
from hour_llava.world.story_facts import interactions_of
from hour_llava.world.timeline import ACTIONS, PATIENTS, VERBS, Appearance, Scene, Timeline
from hour_llava.world.wordings import words_of

_NOTHING = MappingProxyType(
    {
        "Temporality": "Nothing comes or goes.",
        "Spatiality": "All four corners are empty.",
        "Object": "No object is seen.",
        "Action": "Nothing acts.",
    }
)

_KINDS: MappingProxyType[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("object", "colour", "digit", "existence", "both"), "object"),
        **dict.fromkeys(("same_colour", "colour_match"), "object"),
        **dict.fromkeys(("order", "when", "duration", "gap", "flash_sequence"), "time"),
        **dict.fromkeys(("out_of_sight", "action_when", "action_beside"), "time"),
        **dict.fromkeys(("position", "relation", "return_place", "return_stays"), "place"),
        **dict.fromkeys(("scene", "highlight"), "setting"),
        **dict.fromkeys(("action", "action_order", "act_sequence", "same_action"), "act"),
        **dict.fromkeys(("patient", "agent", "verb", "effect"), "act"),
        "side": "side",
    }
)
"""Which kind of sentence proves a family's evidence; scenes' families need a "change"."""


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One sentence about some seconds of a video, for one of the six aspects."""

    text: str
    start_seconds: float
    end_seconds: float
    aspect: str


@dataclass(frozen=True, kw_only=True)
class Proof:
    """A piece of a question's evidence and the sentences that prove it, the best one first."""

    span: FrameSpan
    statements: tuple[Statement, ...]


@dataclass(frozen=True, kw_only=True)
class WorldEvent:
    """A stretch of a video with a title of its own."""

    title: str
    start_seconds: int
    end_seconds: int
    narrative: str


@dataclass(frozen=True, kw_only=True)
class _Told:
    """A statement, what kind it is, whom it is about, and when a change of scene takes place."""

    statement: Statement
    kind: str
    about: Appearance | None = None
    at_seconds: float = -1.0


def describe(
    timeline: Timeline, start_seconds: float, end_seconds: float
) -> dict[str, tuple[Statement, ...]]:
    """Tell what is seen between two times, by aspect: each has one statement at least.

    Statements keep their own times, also where the span shows only a part. Things that look alike
    are told once; what questions ask about comes before the background.
    """
    told = [
        t.statement
        for t in _all_told(timeline, start_seconds, end_seconds)
        if t.statement.start_seconds < end_seconds and t.statement.end_seconds > start_seconds
    ]
    spoken: dict[str, tuple[Statement, ...]] = {}
    for aspect in ASPECTS[:-1]:
        own = {s.text: s for s in reversed(told) if s.aspect == aspect}
        found = [own[text] for text in dict.fromkeys(s.text for s in told if s.text in own)]
        if not found:
            found = [_statement(aspect, _NOTHING[aspect], start_seconds, end_seconds)]
        spoken[aspect] = tuple(found)
    spoken["Summary"] = (_sum_up(timeline, start_seconds, end_seconds),)
    return spoken


def proofs_of(timeline: Timeline, question: Question) -> tuple[Proof, ...]:
    """Find, for every piece of evidence, the sentences that prove it; in order of time.

    Each of them is among `describe` of any span that covers the evidence.
    """
    kind = _KINDS.get(question.family, "change")
    named = set(words_of(f"{question.question} {question.answer}"))
    return tuple(
        Proof(span=span, statements=tuple(_proving(timeline, span, kind, named)))
        for span in question.evidence
    )


def _proving(
    timeline: Timeline, span: FrameSpan, kind: str, named: set[str]
) -> Iterator[Statement]:
    start, end = span.start_seconds, span.end_seconds
    told = [t for t in _all_told(timeline, start, end) if t.kind == kind]
    if kind == "change":
        yield from (t.statement for t in told if start <= t.at_seconds <= end)
        return
    fitting = [
        (t.statement, t.about)
        for t in told
        if t.about is not None
        and t.about.role != "background"
        and (t.about.start_seconds, t.about.end_seconds) == (start, end)
    ]
    best = [(s, about) for s, about in fitting if {about.shape, about.digit} & named]
    yield from (statement for statement, _ in best or fitting)


def _all_told(timeline: Timeline, start: float, end: float) -> list[_Told]:
    """Tell everything that overlaps a span: the background last."""
    here = [a for a in timeline.appearances if a.start_seconds < end and a.end_seconds > start]
    here.sort(key=lambda a: (a.role == "background", a.start_seconds, a.role == "patient", a.cell))
    told = list(_scenes_told(timeline, start, end))
    for appearance in here:
        told += _told_of(timeline, appearance)
    return told


def _statement(aspect: str, text: str, start: float, end: float) -> Statement:
    return Statement(aspect=aspect, text=text, start_seconds=float(start), end_seconds=float(end))


def _scenes_told(timeline: Timeline, start: float, end: float) -> Iterator[_Told]:
    scenes, length = timeline.scenes, timeline.duration_seconds
    for number, scene in enumerate(scenes):
        first, last = scene.start_seconds, scene.end_seconds
        if first >= end + 2 or last <= start - 2:
            continue
        setting = _statement("Scene", f"The scene is the {scene.name}.", first, last)
        yield _Told(kind="scene", statement=setting)
        if number == 0:
            text = f"The video begins in the {scene.name}."
            yield from _change(text, 0, 0, min(2, last))
        if number + 1 < len(scenes):
            text = f"The {scene.name} turns into the {scenes[number + 1].name}."
            yield from _change(text, last, last - 2, last + 2)
        else:
            text = f"The video ends in the {scene.name}."
            yield from _change(text, length, max(first, length - 2), length)


def _change(text: str, at: float, start: float, end: float) -> Iterator[_Told]:
    for aspect in ("Scene", "Temporality"):
        statement = _statement(aspect, text, start, end)
        yield _Told(kind="change", statement=statement, at_seconds=at)


def thing(appearance: Appearance) -> str:
    """Name what is seen, without an article: "striped red star", "digit 7"."""
    if appearance.digit is not None:
        return f"digit {appearance.digit}"
    words = (appearance.pattern, appearance.colour, appearance.shape)
    return " ".join(word for word in words if word)


def _a(name: str) -> str:
    return f"{'An' if name[0] in 'aeiou' else 'A'} {name}"


def _partner(timeline: Timeline, appearance: Appearance) -> Appearance | None:
    for one in interactions_of(timeline):
        if appearance is one.agent:
            return one.patient
        if appearance is one.patient:
            return one.agent
    return None


def _deed(timeline: Timeline, appearance: Appearance) -> str | None:
    """Say what an appearance does, or what is done to it; None where it only stands there."""
    name, action = thing(appearance), appearance.action
    if action is None:
        return None
    if action in ACTIONS:
        return f"The {name} {action}"
    partner = _partner(timeline, appearance)
    if partner is None or partner.shape is None:
        return None
    if action in VERBS:
        return f"The {name} {action} the {thing(partner)}"
    assert action in PATIENTS
    return f"The {name} {action} by the {thing(partner)}"


def _told_of(timeline: Timeline, appearance: Appearance) -> Iterator[_Told]:
    start, end = appearance.start_seconds, appearance.end_seconds
    name, deed = thing(appearance), _deed(timeline, appearance)
    place = timeline.scene_at(start).name
    seconds = "1 second" if end - start == 1 else f"{end - start} seconds"
    eighth = eighth_of(start, timeline.duration_seconds)
    is_digit = appearance.digit is not None
    seen = f"The {name}" if is_digit else _a(name)
    seen += " inside a white ring" if appearance.ringed else ""

    def tell(kind: str, aspect: str, text: str) -> _Told:
        return _Told(kind=kind, about=appearance, statement=_statement(aspect, text, start, end))

    yield tell("object", "Object", f"{seen} is seen.")
    yield tell("place", "Spatiality", f"The {name} is in the {appearance.cell} corner.")
    yield tell("setting", "Scene", f"{seen} is seen in the {place}.")
    doing = deed or f"The {name} is seen"
    yield tell("time", "Temporality", f"{doing} for {seconds}, in the {eighth} of the video.")
    if deed is not None:
        yield tell("act", "Action", f"{deed}.")
    partner = _partner(timeline, appearance)
    if partner is not None and appearance.role == "agent":
        side = "left" if appearance.cell.endswith("left") else "right"
        yield tell(
            "side", "Spatiality", f"The {name} stands on the {side} of the {thing(partner)}."
        )


def _happenings(timeline: Timeline, start: float, end: float) -> list[Appearance]:
    """List what matters and starts within a span: all but background and patients."""
    return [
        a
        for a in timeline.appearances
        if a.role not in ("background", "patient") and start <= a.start_seconds < end
    ]


def _clause(timeline: Timeline, appearance: Appearance) -> str:
    """Tell of one happening, without a full stop."""
    deed = _deed(timeline, appearance)
    if deed is not None:
        return deed
    name = thing(appearance)
    if appearance.ringed:
        return f"A white ring marks {_a(name).lower()}"
    shown = [a for a in timeline.with_role("visitor") if a.shape == appearance.shape]
    is_back = appearance in shown[1:]
    return f"The {name} {'comes back' if is_back else 'appears'}"


def _lower(text: str) -> str:
    return text[0].lower() + text[1:]


def _sum_up(timeline: Timeline, start: float, end: float) -> Statement:
    """Tell a span in one sentence: its scenes, and all that starts there."""
    scenes = [s.name for s in timeline.scenes if s.start_seconds < end and s.end_seconds > start]
    places = " and then in the ".join(scenes)
    clauses = [_lower(_clause(timeline, a)) for a in _happenings(timeline, start, end)]
    if not clauses:
        here = (a for a in timeline.appearances if a.start_seconds < end and a.end_seconds > start)
        names = list(dict.fromkeys(thing(a) for a in here))
        clauses = [f"the {name} is seen" for name in names] or ["nothing happens"]
    return _statement("Summary", f"In the {places}, {', then '.join(clauses)}.", start, end)


def events_of(timeline: Timeline) -> tuple[WorldEvent, ...]:
    """List a video's events: its scenes, named after what happens in them.

    Titles are unique. Where there are fewer than three scenes, the longest stretch is parted at
    something that happens in it; from three minutes on there are three events at least.
    """
    spans = [(s.start_seconds, s.end_seconds) for s in timeline.scenes]
    while len(spans) < 3:
        cut = _best_cut(timeline, spans)
        if cut is None:
            break
        spans = sorted(
            part
            for start, end in spans
            for part in (((start, cut), (cut, end)) if start < cut < end else ((start, end),))
        )
    events: list[WorldEvent] = []
    for start, end in spans:
        title = _title(timeline, start, end, {event.title for event in events})
        events.append(
            WorldEvent(
                title=title,
                start_seconds=start,
                end_seconds=end,
                narrative=_narrative(timeline, start, end),
            )
        )
    return tuple(events)


def _best_cut(timeline: Timeline, spans: Sequence[tuple[int, int]]) -> int | None:
    """Find the start of something that parts the longest stretch as evenly as possible."""
    start, end = max(spans, key=lambda span: span[1] - span[0])
    starts = [a.start_seconds for a in _happenings(timeline, start + 1, end)]
    return min(starts, key=lambda s: abs(2 * s - start - end), default=None)


def _weight(appearance: Appearance) -> int:
    order = ("agent", "actor", "performer", "ringed", "visitor", "flash", "digit")
    return order.index(appearance.role)


def _title(timeline: Timeline, start: int, end: int, taken: Iterable[str]) -> str:
    scene = timeline.scene_at(start).name
    happenings = sorted(_happenings(timeline, start, end), key=_weight)
    titles = [f"{_clause(timeline, a)} in the {scene}" for a in happenings]
    titles += [f"A stretch in the {scene}", f"Another stretch in the {scene}"]
    return next(title for title in titles if title not in taken)


def _narrative(timeline: Timeline, start: int, end: int) -> str:
    scene: Scene = timeline.scene_at(start)
    clauses = [_clause(timeline, a) for a in _happenings(timeline, start, end)]
    told = [f"The scene is the {scene.name}."]
    told += [
        f"{clause}." if not n else f"Then {_lower(clause)}." for n, clause in enumerate(clauses)
    ]
    if not clauses:
        told.append("Shapes come and go.")  # the background always shows some
    return " ".join(told)


def global_narrative(timeline: Timeline) -> str:
    """Tell the whole video as one narrative, without times; every event's title stands in it."""
    titles = [event.title for event in events_of(timeline)]
    parts = [f"The video opens with this: {titles[0]}."]
    parts += [f"Next comes this: {title}." for title in titles[1:-1]]
    if len(titles) > 1:
        parts.append(f"It closes with this: {titles[-1]}.")
    return " ".join(parts)
