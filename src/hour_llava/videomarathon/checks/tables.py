"""What a row is held against: the video, its captions, events and narrative, ready to look up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from hour_llava.tasks import Task, task_named
from hour_llava.videomarathon.records import (
    ClipCaption,
    Event,
    Evidence,
    GlobalCaption,
    QAPair,
    Span,
    Video,
)


@dataclass(frozen=True, kw_only=True)
class Tables:
    """All that a build knows of one video.

    Args:
        video: The video.
        captions: Its usable clip captions, in order of time.
        events: Its events, in order of time.
        global_caption: The narrative.
        stride_ms: From the start of one clip to the next: how exact a model's times can be.
    """

    video: Video
    captions: tuple[ClipCaption, ...]
    events: tuple[Event, ...]
    global_caption: GlobalCaption | None = None
    stride_ms: int = 20_000

    @property
    def is_exact(self) -> bool:
        """Say whether times are known or measured, not told by a model to a clip's border."""
        return self.video.backend in ("truth", "embedded")

    @property
    def tolerance_ms(self) -> int:
        """Return how far a time may be off: a stride, or nothing where times are exact."""
        return 0 if self.is_exact else self.stride_ms

    @cached_property
    def caption_of(self) -> dict[str, ClipCaption]:
        """Return clip id -> caption."""
        return {caption.clip_id: caption for caption in self.captions}

    @cached_property
    def event_of(self) -> dict[str, Event]:
        """Return event id -> event."""
        return {event.id: event for event in self.events}

    def cited_text(self, evidence: Evidence) -> str | None:
        """Return the caption that a piece of evidence cites; None where there is no such one.

        An `aspect` narrows a clip's caption to that part; without one, all six are looked at.
        """
        if evidence.clip_id is not None:
            caption = self.caption_of.get(evidence.clip_id)
            return None if caption is None else aspect_text(caption, evidence.aspect)
        if evidence.event_id is not None:
            event = self.event_of.get(evidence.event_id)
            return None if event is None else f"{event.title}\n{event.narrative}"
        return None if self.global_caption is None else self.global_caption.text

    def cited_span(self, evidence: Evidence) -> Span | None:
        """Return the span of the cited clip or event; None for the narrative or no such one."""
        if evidence.clip_id is not None and evidence.clip_id in self.caption_of:
            return self.caption_of[evidence.clip_id].span
        if evidence.event_id is not None and evidence.event_id in self.event_of:
            return self.event_of[evidence.event_id].span
        return None


def aspect_text(caption: ClipCaption, aspect: str | None = None) -> str:
    """Return one aspect of a caption, or all of them, a line each."""
    if aspect is not None:
        return str(getattr(caption.aspects, aspect))
    return "\n".join(getattr(caption.aspects, name) for name in type(caption.aspects).model_fields)


def task_of(row: QAPair) -> Task:
    """Return the row's task from the table of 22."""
    return task_named(row.task)


def in_time_order(evidence: Sequence[Evidence]) -> list[Evidence]:
    """Sort evidence by start, then end."""
    return sorted(evidence, key=lambda e: (e.span.start_ms, e.span.end_ms))
