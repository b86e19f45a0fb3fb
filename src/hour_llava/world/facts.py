"""What can be asked of needles and scenes: each fact with its answer and its evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hour_llava.schema import FrameSpan
from hour_llava.world.families import DURATIONS, EIGHTHS
from hour_llava.world.timeline import Appearance, Timeline


@dataclass(frozen=True, kw_only=True)
class Fact:
    """Something that can be asked: what fills the wording's slots, the answer, the evidence.

    `near` are wrong options to prefer: what the video really shows; `barred` are no options.
    """

    slots: dict[str, str]
    answer: str
    evidence: tuple[FrameSpan, ...]
    near: tuple[str, ...] = ()
    barred: tuple[str, ...] = ()


def needle_facts(timeline: Timeline, family: str) -> list[Fact]:
    """List all that one of `FAMILIES` can ask of a video; empty where no answer is unique."""
    flashes = timeline.with_role("flash")
    match family:
        case "object":
            ringed = timeline.with_role("ringed")
            return [Fact(slots={}, answer=str(a.shape), evidence=spans_of(a)) for a in ringed]
        case "colour":
            return [_fact(a, str(a.colour)) for a in flashes]
        case "digit":
            digits = timeline.with_role("digit")
            unique = digits if len(digits) == 1 else ()
            return [Fact(slots={}, answer=str(a.digit), evidence=spans_of(a)) for a in unique]
        case "scene":
            near = tuple(s.name for s in timeline.scenes)
            return [_fact(a, timeline.scene_at(a.start_seconds).name, near) for a in flashes]
        case "action":
            return [_fact(a, str(a.action)) for a in timeline.with_role("actor")]
        case "position":
            return [_fact(a, a.cell) for a in flashes]
        case "existence":
            return _existence(timeline)
        case "order":
            return [_order(a, b, flashes) for a in flashes for b in flashes if a is not b]
        case "when":
            return [
                _fact(a, eighth_of(a.start_seconds, timeline.duration_seconds)) for a in flashes
            ]
        case "next_scene":
            return _next_scenes(timeline)
        case "duration":
            return [_fact(a, DURATIONS[a.end_seconds - a.start_seconds - 1]) for a in flashes]
        case _:
            raise ValueError(family)


def eighth_of(start_seconds: float, duration_seconds: float) -> str:
    """Name the eighth of the video in which something starts."""
    return EIGHTHS[min(max(int(8 * start_seconds / duration_seconds), 0), 7)]


def span(start_seconds: float, end_seconds: float) -> FrameSpan:
    """Make a span of two whole seconds."""
    return FrameSpan(start_seconds=float(start_seconds), end_seconds=float(end_seconds))


def spans_of(*appearances: Appearance) -> tuple[FrameSpan, ...]:
    """List the spans of appearances in order of time."""
    ordered = sorted(appearances, key=lambda a: (a.start_seconds, a.end_seconds))
    return tuple(span(a.start_seconds, a.end_seconds) for a in ordered)


def shape_slots(shape: str) -> dict[str, str]:
    """Fill the slots of a wording about one shape."""
    article = "an" if shape[0] in "aeiou" else "a"
    return {"shape": shape, "a_shape": f"{article} {shape}"}


def _fact(appearance: Appearance, answer: str, near: tuple[str, ...] = ()) -> Fact:
    assert appearance.shape is not None
    slots = shape_slots(appearance.shape)
    return Fact(slots=slots, answer=answer, evidence=spans_of(appearance), near=near)


def _existence(timeline: Timeline) -> list[Fact]:
    """As many "no" as "yes": the one absent shape is asked as often as the needles together."""
    present = [_fact(a, "yes") for a in timeline.with_role("flash")]
    absent = Fact(slots=shape_slots(timeline.absent_shape), answer="no", evidence=())
    return [fact for yes in present for fact in (yes, absent)] or [absent]


def _order(a: Appearance, b: Appearance, flashes: Sequence[Appearance]) -> Fact:
    assert a.shape is not None and b.shape is not None
    first = a if a.start_seconds < b.start_seconds else b
    others = tuple(str(f.shape) for f in flashes if f is not first)
    named = (a.shape, b.shape) if first is b else (b.shape, a.shape)
    return Fact(
        slots={"a": a.shape, "b": b.shape},
        answer=str(first.shape),
        evidence=spans_of(a, b),
        near=(named[0], *others),
    )


def _next_scenes(timeline: Timeline) -> list[Fact]:
    names = tuple(s.name for s in timeline.scenes)
    return [
        Fact(
            slots={"scene": before.name},
            answer=after.name,
            evidence=(span(after.start_seconds - 2, after.start_seconds + 2),),
            near=tuple(n for n in names if n != before.name),
            barred=(before.name,),
        )
        for before, after in zip(timeline.scenes, timeline.scenes[1:], strict=False)
    ]
