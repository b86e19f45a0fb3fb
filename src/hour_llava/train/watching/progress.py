"""What a person sees of a run, on stderr: a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from datetime import timedelta

from rich.console import Console, RenderableType
from rich.filesize import decimal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.text import Text

from hour_llava.train.watching.lines import Line, numbers_of
from hour_llava.train.watching.terminal import say

_WINDOW = 50


class Pace:
    """How fast a run goes: means over its last steps, what happens between them included."""

    def __init__(self) -> None:
        self._ends: deque[float] = deque(maxlen=_WINDOW + 1)
        self._tokens: deque[int] = deque(maxlen=_WINDOW)
        self._num_steps = 0

    def begin(self, run: Line, now: float | None = None) -> None:
        """Start the clock."""
        self._num_steps = int(run["num_steps"])
        self._ends.append(time.monotonic() if now is None else now)

    def add(self, line: Line, now: float | None = None) -> None:
        """Count a step."""
        self._ends.append(time.monotonic() if now is None else now)
        self._tokens.append(int(line.get("tokens", 0)))

    @property
    def _span(self) -> float:
        return max(self._ends[-1] - self._ends[0], 1e-9)

    @property
    def seconds_per_step(self) -> float:
        """Seconds a step takes at present."""
        return self._span / max(1, len(self._ends) - 1)

    def samples_per_second(self, line: Line) -> float:
        """Samples a second, of all processes."""
        per_step = int(line["samples"]) / max(1, int(line["step"]))
        return per_step / self.seconds_per_step

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens a second, of all processes; None where nobody counts them."""
        return sum(self._tokens) / self._span if any(self._tokens) else None

    def left(self, step: int) -> str:
        """Write the time that the steps left will take, as 1:23:45."""
        seconds = (self._num_steps - step) * self.seconds_per_step
        return str(timedelta(seconds=round(seconds)))


def figures(line: Line, pace: Pace) -> str:
    """Write what matters of a step's line."""
    parts = [f"loss {line['loss']:.4g}", f"{_short(pace.samples_per_second(line))} samples/s"]
    tokens = pace.tokens_per_second
    if tokens is not None:
        parts.append(f"{_short(tokens)} tokens/s")
    parts.append(decimal(int(line["memory_bytes"])))
    if line.get("broken"):
        parts.append(f"{line['broken']} broken")
    return "  ".join(parts)


def measured(line: Line) -> str:
    """Write a measurement's line: its name, its step and the numbers without a slash."""
    numbers = numbers_of(line)
    shown: list[str] = []
    for name, value in numbers.items():
        if "/" not in name and name != "seconds":
            chance = numbers.get(f"chance/{name}")
            by_chance = "" if chance is None else f" (chance {chance:.2f})"
            shown.append(f"{name} {value:.4g}{by_chance}")
    return f"{line['kind']} at step {line['step']:,}: {', '.join(shown)}; {line['seconds']:.3g} s"


class _TwoLines(Progress):
    """A bar, and under it the figures: side by side they would not fit 80 columns."""

    figures = ""

    def get_renderables(self) -> Iterator[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        yield Text(self.figures, no_wrap=True, overflow="ellipsis", style="dim")


class ProgressBar:
    """A bar that stays at the foot of the terminal; measurements are printed above it."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._bar = _TwoLines(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}"),
            console=self._console,
            refresh_per_second=4,
            expand=True,
        )
        self._pace = Pace()
        self._task: TaskID | None = None

    def begin(self, run: Line) -> None:
        """Show the bar."""
        self._pace.begin(run)
        self._task = self._bar.add_task(
            str(run["name"]), total=run["num_steps"], completed=run["step"], left=""
        )
        self._bar.start()

    def take(self, line: Line) -> None:
        """Move the bar, or print a measurement above it."""
        if line["kind"] == "end" or self._task is None:
            return
        if line["kind"] != "step":
            self._console.print(measured(line), markup=False, highlight=False)
            return
        self._pace.add(line)
        for note in line.get("broken_samples", ()):
            self._console.print(f"replaced: {note}", markup=False, highlight=False)
        self._bar.figures = figures(line, self._pace)
        left = f"{self._pace.left(int(line['step']))} left"
        self._bar.update(self._task, completed=line["step"], left=left)

    def close(self) -> None:
        """Leave the bar as it stands and give the cursor back."""
        self._bar.stop()


class PlainLines:
    """A line at the first step and at every n-th, for logs and pipes.

    Args:
        every_steps: How often.
    """

    def __init__(self, *, every_steps: int) -> None:
        self._every_steps = every_steps
        self._pace = Pace()
        self._num_steps = 0

    def begin(self, run: Line) -> None:
        """Say what runs."""
        self._pace.begin(run)
        self._num_steps = int(run["num_steps"])
        begins = f"goes on behind step {run['step']:,}" if run["step"] else "begins"
        say(f"{run['name']} {begins}: {self._num_steps:,} steps")

    def take(self, line: Line) -> None:
        """Say it, where it is time."""
        if line["kind"] == "end":
            say(f"{line['reason']} at step {line['step']:,}")
            return
        if line["kind"] != "step":
            say(measured(line))
            return
        self._pace.add(line)
        for note in line.get("broken_samples", ()):
            say(f"step {line['step']:,}: replaced: {note}")
        step = int(line["step"])
        if step == 1 or step % self._every_steps == 0 or step == self._num_steps:
            say(
                f"step {step:,}/{self._num_steps:,}  {figures(line, self._pace)}  "
                f"{self._pace.left(step)} left"
            )

    def close(self) -> None:
        """Nothing is held."""


def _short(value: float) -> str:
    """Write 3.21, 45.2, 12.3k or 4.56M."""
    for unit in ("", "k", "M"):
        if value < 1000:
            return f"{value:.3g}{unit}"
        value /= 1000
    return f"{value:.3g}G"
