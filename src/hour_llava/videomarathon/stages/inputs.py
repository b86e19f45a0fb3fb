"""What a unit brings: its video, and records of a kind, in order of time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from hour_llava.videomarathon.records import ClipCaption, Event, GlobalCaption, Record, Video
from hour_llava.videomarathon.stage import Unit
from hour_llava.videomarathon.wording import say_key

_R = TypeVar("_R", bound=Record)

ASPECTS: tuple[str, ...] = (
    "temporality",
    "spatiality",
    "object",
    "action",
    "scene",
    "summary",
)
MODEL_BACKENDS: frozenset[str] = frozenset({"endpoint", "mock"})
"""Where a model speaks: it needs pictures, and its times are no finer than clips."""


def all_of(unit: Unit, stage: str, kind: type[_R]) -> list[_R]:
    """List a stage's records of one kind, as they were committed."""
    return [record for record in unit.inputs.get(stage, ()) if isinstance(record, kind)]


def video_of(unit: Unit) -> Video:
    """Return the unit's video."""
    (video,) = all_of(unit, "ingest", Video)
    return video


def calls(unit: Unit, num_calls: int) -> int:
    """Count what is paid for: nothing where no model answers."""
    return num_calls if video_of(unit).backend in MODEL_BACKENDS else 0


def captions_of(unit: Unit, stage: str = "caption_check") -> list[ClipCaption]:
    """List the usable captions in order of time."""
    return in_time_order(c for c in all_of(unit, stage, ClipCaption) if c.is_usable)


def in_time_order(captions: Iterable[ClipCaption]) -> list[ClipCaption]:
    """Sort captions by start."""
    return sorted(captions, key=lambda caption: (caption.span.start_ms, caption.span.end_ms))


def events_of(unit: Unit, stage: str) -> list[Event]:
    """List the events in order of time."""
    return sorted(all_of(unit, stage, Event), key=lambda event: event.index)


def global_caption_of(unit: Unit) -> GlobalCaption:
    """Return the video's narrative."""
    (caption,) = all_of(unit, "global_caption", GlobalCaption)
    return caption


def aspect_lines(captions: Iterable[ClipCaption], aspect: str) -> str:
    """Write one aspect of captions, a line each: "[20-50s] text"."""
    return "\n".join(
        f"[{say_key(c.span)}] {_one_line(str(getattr(c.aspects, aspect)))}" for c in captions
    )


def all_aspects(captions: Iterable[ClipCaption]) -> str:
    """Write all six aspects of captions, a block each."""
    blocks = [
        "\n".join(
            [f"[{say_key(caption.span)}]"]
            + [
                f"  {name.capitalize()}: {_one_line(str(getattr(caption.aspects, name)))}"
                for name in ASPECTS
            ]
        )
        for caption in captions
    ]
    return "\n".join(blocks)


def event_lines(events: Iterable[Event]) -> str:
    """Write events, a line each: "[0-70s] title: narrative"."""
    return "\n".join(
        f"[{say_key(e.span)}] {_one_line(e.title)}: {_one_line(e.narrative)}" for e in events
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())
