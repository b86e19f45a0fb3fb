"""curves.png: a run's losses, rates and pace, drawn from its log.

N lines of a kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hour_llava.train.watching.lines import Line
from hour_llava.train.watching.log import LOG, read_log
from hour_llava.train.watching.terminal import say

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CURVES = "curves.png"
_SHARE_SMOOTHED, _MAX_MEMORY = 0.04, 0.98
_COLOURS = ("#1f5fa8", "#d9722b", "#3a8f4d", "#8a4fa3", "#b33b3b", "#6b6b6b", "#2a9d9d", "#a38b1e")
Numbers = npt.NDArray[np.float64]
Lines = Sequence[Mapping[str, Any]]


class CurvesAtTheEnd:
    """Draws the curves when a run ends, whether done or stopped."""

    def __init__(self, out: Path) -> None:
        self._out = out

    def begin(self, run: Line) -> None:
        """Nothing to draw yet."""

    def take(self, line: Line) -> None:
        """Draw behind the last line."""
        if line["kind"] == "end":
            try:
                draw_curves(self._out / LOG, self._out / CURVES)
            except OSError as error:
                text = f"cannot write {self._out / CURVES} ({error.strerror or error})"
                say(f"{text}; the log has the numbers")

    def close(self) -> None:
        """Nothing is held."""


def draw_curves(log: Path, out: Path) -> Path:
    """Draw the curves of a log.

    Args:
        log: A log.jsonl.
        out: The picture; it appears whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    lines = list(read_log(log))
    names = [str(line["name"]) for line in lines if line["kind"] == "run"]
    figure = _draw(lines, names[-1] if names else log.parent.name)
    partial = out.with_name(out.name + ".partial")
    try:
        figure.savefig(partial, format="png", dpi=110)
        partial.replace(out)
    except OSError:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    return out


def smooth(values_N: Numbers) -> Numbers:
    """Take running means over about 4 % of a run, at most 50 steps; they begin without bias."""
    span = max(1.0, _SHARE_SMOOTHED * len(values_N))
    memory = min(_MAX_MEMORY, 1 - 1 / span)
    total, weight = 0.0, 0.0
    smoothed_N = np.empty_like(values_N)
    for number, value in enumerate(values_N):
        total = memory * total + (1 - memory) * value
        weight = memory * weight + (1 - memory)
        smoothed_N[number] = total / weight
    return smoothed_N


def _draw(lines: Lines, title: str) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    steps = [line for line in lines if line["kind"] == "step"]
    measured = [line for line in lines if line["kind"] not in ("run", "step", "end")]
    figure = Figure(figsize=(13, 7.2), layout="constrained")
    FigureCanvasAgg(figure)
    last = f"{steps[-1]['step']:,} steps, {steps[-1]['samples']:,} samples" if steps else "no step"
    figure.suptitle(f"{title}: {last}", fontsize=13)
    (loss, rates, norm), (exams, pace, data) = figure.subplots(2, 3)
    _draw_losses(loss, steps, measured)
    _draw_rates(rates, steps)
    _draw_one(norm, steps, "grad_norm", "gradient norm, before clipping", _COLOURS[3])
    _draw_measured(exams, [line for line in measured if line["kind"] != "validation"])
    _draw_one(pace, steps, "seconds", "seconds a step", _COLOURS[2])
    _draw_waiting(data, steps)
    for axes in (loss, rates, norm, exams, pace, data):
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlabel("step")
    return figure


def _draw_losses(axes: Axes, steps: Lines, measured: Lines) -> None:
    axes.set_title("loss")
    _draw_smoothed(axes, *_column(steps, "loss"), "training", _COLOURS[0])
    names = sorted({name for line in steps for name in line if name.startswith("loss/")})
    for number, name in enumerate(names, start=2):
        x_N, y_N = _column(steps, name)
        axes.plot(x_N, smooth(y_N), color=_colour(number), lw=1, label=name.removeprefix("loss/"))
    x_N, y_N = _column([line for line in measured if line["kind"] == "validation"], "loss")
    if len(x_N):
        axes.plot(x_N, y_N, "o-", color=_COLOURS[1], ms=4, label="validation")
    _legend(axes)


def _draw_rates(axes: Axes, steps: Lines) -> None:
    axes.set_title("learning rate")
    names = sorted({name for line in steps for name in line if name.startswith("lr/")})
    for number, name in enumerate(names):
        x_N, y_N = _column(steps, name)
        style, label = ("-", "--", "-.", ":")[number % 4], name.removeprefix("lr/")
        axes.plot(x_N, y_N, color=_colour(number), ls=style, label=label)
    _legend(axes)


def _draw_one(axes: Axes, steps: Lines, name: str, title: str, colour: str) -> None:
    axes.set_title(title)
    _draw_smoothed(axes, *_column(steps, name), None, colour)
    axes.set_ylim(bottom=0)


def _draw_measured(axes: Axes, measured: Lines) -> None:
    axes.set_title("exam: share right (dashed: by chance)")
    names = [
        (str(line["kind"]), name)
        for line in measured
        for name in line
        if "/" not in name and name not in ("kind", "step", "seconds")
    ]
    kinds = {kind for kind, _ in names}
    for number, (kind, name) in enumerate(dict.fromkeys(names)):
        x_N, y_N = _column([line for line in measured if line["kind"] == kind], name)
        label = f"{kind} {name}" if len(kinds) > 1 else name
        axes.plot(x_N, y_N, "o-", ms=4, color=_colour(number), label=label.replace("_", " "))
        axes.plot(*_column(measured, f"chance/{name}"), "--", lw=1, color=_colour(number))
    if names:
        axes.set_ylim(-0.02, 1.02)
        _legend(axes)
    else:
        _say_nothing(axes, "no exam was taken")


def _draw_waiting(axes: Axes, steps: Lines) -> None:
    axes.set_title("share of a step spent waiting for data")
    x_N, waited_N = _column(steps, "data_seconds")
    _, seconds_N = _column(steps, "seconds")
    if len(x_N) == len(seconds_N) and len(x_N):
        _draw_smoothed(axes, x_N, waited_N / np.maximum(seconds_N, 1e-9), None, _COLOURS[5])
    axes.set_ylim(0, 1)


def _draw_smoothed(axes: Axes, x_N: Numbers, y_N: Numbers, label: str | None, colour: str) -> None:
    if len(x_N) == 0:
        _say_nothing(axes, "not logged")
        return
    axes.plot(x_N, y_N, color=colour, alpha=0.25, lw=0.8)
    axes.plot(x_N, smooth(y_N), color=colour, lw=1.6, label=label)


def _say_nothing(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, color="#888888")


def _legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8, frameon=False)


def _colour(number: int) -> str:
    return _COLOURS[number % len(_COLOURS)]


def _column(lines: Lines, name: str) -> tuple[Numbers, Numbers]:
    """Give the steps and the values (N,) of the lines that have a number of this name."""
    pairs = [
        (line["step"], line[name]) for line in lines if isinstance(line.get(name), int | float)
    ]
    array = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    return array[:, 0], array[:, 1]
