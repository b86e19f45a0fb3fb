"""How `remember` looks while it works: a bar on a terminal, a few lines in a log; all on stderr."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from hour_llava.commands.terminal import say
from hour_llava.schema import DamagedSpan

if TYPE_CHECKING:
    from hour_llava.session.answer import Progress as Report
    from hour_llava.session.answer import ProgressCallback

_LONG_SECONDS = 20.0


def say_damage(damage: Sequence[DamagedSpan]) -> None:
    """Name the seconds of a video that could not be read rightly, on stderr."""
    for span in damage:
        say(f"damaged from {span.start_seconds:.1f} s to {span.end_seconds:.1f} s: {span.reason}")


def readable_seconds(seconds: float) -> str:
    """Return "40 s", "12 min" or "3 h 20 min"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"


def readable_bytes(num_bytes: float) -> str:
    """Return "640 B", "3.7 MB" or "12 GB", in powers of 1,000."""
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.3g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.3g} TB"


@contextmanager
def watch(name: str) -> Iterator[ProgressCallback]:
    """Show what `remember` reports about the video `name` for as long as the block runs."""
    console = Console(stderr=True)
    columns = (
        TextColumn("remembering"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("frames"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        yield _Watcher(name, bar)


class _Watcher:
    """Say the cost once it is known, then only move the bar."""

    def __init__(self, name: str, bar: Progress) -> None:
        self._name, self._bar = name, bar
        self._task: TaskID | None = None
        self._has_said_cost = False

    def __call__(self, report: Report) -> None:
        if report.note:
            say(report.note)
        if not report.num_frames:
            return
        if self._task is None:
            self._task = self._bar.add_task("", total=report.num_frames)
        self._bar.update(self._task, completed=report.num_done)
        left = report.seconds_left
        if left is not None and not self._has_said_cost:
            self._has_said_cost = True
            if left > _LONG_SECONDS:
                frames = report.num_frames - report.num_done
                resuming = "; interrupt at will, it resumes where it stopped"
                say(
                    f"remembering {self._name}: {frames:,} frames to go, about "
                    f"{readable_seconds(left)}{resuming if report.is_kept else ''}"
                )
