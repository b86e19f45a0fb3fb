"""How a run looks: a bar a stage on a terminal, a few lines in a log; all on stderr."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from hour_llava.commands.terminal import printable, say
from hour_llava.videomarathon.executors.job import Cost
from hour_llava.videomarathon.parts import Failure
from hour_llava.videomarathon.runner import Watcher
from hour_llava.videomarathon.state import StageState
from hour_llava.videomarathon.unit import Outcome

_LINE_SECONDS = 30.0


@contextmanager
def watch_run() -> Generator[Watcher]:
    """Show a run for as long as the block lasts."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield LineWatcher()
        return
    columns = (
        TextColumn("{task.description:<15}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[cost]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        yield BarWatcher(bar)


def cost_line(cost: Cost) -> str:
    """Return "1,204 calls, 3.1 M tokens, $0.42", or nothing where nothing was called."""
    if not cost.calls:
        return ""
    tokens = f"{cost.tokens / 1e6:.1f} M" if cost.tokens >= 1e6 else f"{cost.tokens:,}"
    dollars = f", ${cost.usd:.2f}" if cost.usd else ""
    return f"{cost.calls:,} calls, {tokens} tokens{dollars}"


class BarWatcher:
    """Moves bars."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._tasks: dict[str, TaskID] = {}

    def begin(self, stage: str, *, num_units: int, num_done: int) -> None:
        self._tasks[stage] = self._bar.add_task(
            stage, total=num_units, completed=num_done, cost="", start=num_done < num_units
        )

    def unit(self, stage: str, outcome: Outcome, spent: Cost) -> None:
        self._bar.update(self._tasks[stage], advance=1, cost=cost_line(spent))

    def end(self, stage: str, state: StageState) -> None:
        self._bar.stop_task(self._tasks[stage])

    def say(self, text: str) -> None:
        self._bar.console.print(f"hour-llava: {escape(printable(text))}", highlight=False)


class LineWatcher:
    """Says a line when a stage begins and ends, and now and then in between."""

    def __init__(self) -> None:
        self._num_done = self._num_units = self._num_new = 0
        self._num_failed = 0
        self._begun = self._said = 0.0
        self._cost = Cost()

    def begin(self, stage: str, *, num_units: int, num_done: int) -> None:
        self._num_units, self._num_done = num_units, num_done
        self._num_new = self._num_failed = 0
        self._begun = self._said = time.monotonic()
        self._cost = Cost()

    def unit(self, stage: str, outcome: Outcome, spent: Cost) -> None:
        self._num_new += 1
        self._num_failed += isinstance(outcome, Failure)
        self._cost = spent
        now = time.monotonic()
        if now - self._said >= _LINE_SECONDS:
            self._said = now
            num_left = self._num_units - self._num_done - self._num_new
            left = (now - self._begun) / self._num_new * num_left
            say(f"{self._line(stage)}, about {left / 60:.0f} min left")

    def end(self, stage: str, state: StageState) -> None:
        if self._num_new:
            say(self._line(stage))

    def say(self, text: str) -> None:
        say(text)

    def _line(self, stage: str) -> str:
        cost = cost_line(self._cost)
        failed = f", {self._num_failed} failed" if self._num_failed else ""
        done = self._num_done + self._num_new
        return f"{stage}: {done:,} of {self._num_units:,} units{failed}{', ' if cost else ''}{cost}"
