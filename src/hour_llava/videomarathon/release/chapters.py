"""YouTube's chapters of a video, as lines to paste into its description.

YouTube reads them only if the first starts at 00:00, there are three at least, in order, and each
lasts ten seconds at least; events that are shorter join the chapter before them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hour_llava.videomarathon.records import Event

MIN_CHAPTERS, MIN_SECONDS, MAX_TITLE = 3, 10, 100


@dataclass(frozen=True, kw_only=True)
class Chapters:
    """Lines to paste, or none and the reason why."""

    lines: tuple[str, ...] = ()
    refusal: str | None = None


def make_chapters(events: Sequence[Event], duration_ms: int) -> Chapters:
    """Turn events into chapters; too few of them is a refusal that names the number."""
    marks = _merge_short(_starts(events), duration_ms // 1000)
    if len(marks) < MIN_CHAPTERS:
        return Chapters(
            refusal=f"{len(marks)} of at least {MIN_CHAPTERS} chapters of {MIN_SECONDS} s or more: "
            f"{len(events)} events in {duration_ms / 1000:.0f} s"
        )
    return Chapters(lines=tuple(f"{timestamp(second)} {title}" for second, title in marks))


def timestamp(second: int) -> str:
    """Return mm:ss, or h:mm:ss from an hour on."""
    minutes, rest = divmod(second, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"


def _starts(events: Sequence[Event]) -> list[tuple[int, str]]:
    """List starts in whole seconds with titles; the first is moved, or made, to be at zero."""
    marks = sorted((event.span.start_ms // 1000, _title(event)) for event in events)
    if marks and marks[0][0] >= MIN_SECONDS:
        marks.insert(0, (0, "Opening"))
    elif marks:
        marks[0] = (0, marks[0][1])
    return marks


def _merge_short(marks: Sequence[tuple[int, str]], end: int) -> list[tuple[int, str]]:
    kept: list[tuple[int, str]] = []
    for second, title in marks:
        if (not kept or second - kept[-1][0] >= MIN_SECONDS) and end - second >= MIN_SECONDS:
            kept.append((second, title))
    return kept


def _title(event: Event) -> str:
    """Return a title in one line that a reader of chapters cannot take for two."""
    words = " ".join("".join(c if c.isprintable() else " " for c in event.title).split())
    return words[:MAX_TITLE].rstrip() or f"Part {event.index + 1}"
