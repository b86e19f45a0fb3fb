"""A release's pictures: the paper's four panels, the yield funnel, the gaps between evidence.

Drawn without a display from `BuildStats` alone; equal figures give equal bytes.
Source: arXiv 2506.05332, VideoMarathon's panels (data source, question type, duration, events).
"""

# pyright: basic
# Matplotlib's types are partial.
from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hour_llava.videomarathon.stats import BuildStats, FunnelStep, TopicShare

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, _PALE, _ACCENT, _SECOND, _PAPER = "#1f2933", "#9aa5b1", "#d9480f", "#3b6ea5", "#ffffff"
_MAX_SOURCES, _MIN_BARS = 8, 4
_LONG_FORM_SECONDS = 60


def draw_plots(folder: Path, stats: BuildStats, *, title: str) -> tuple[str, ...]:
    """Write all pictures into a folder.

    Args:
        folder: Made if it is missing.
        stats: The figures.
        title: Name of the release; says so if it is a demonstration. Stands on each picture.

    Returns:
        The names of the files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {
        "statistics.png": _draw_statistics(stats, title),
        "yield.png": _draw_yield(stats.funnel, title),
        "evidence_gaps.png": _draw_gaps(stats.evidence_gaps_seconds, title),
    }
    for name, figure in drawn.items():
        # no version of matplotlib in the file: a release is compared by its bytes
        about = {"Software": None, "Description": title}
        figure.savefig(folder / name, format="png", facecolor=_PAPER, metadata=about)
    return tuple(drawn)


def _new_figure(width: float, height: float, title: str) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=110, facecolor=_PAPER, layout="constrained")
    FigureCanvasAgg(figure)
    lines = textwrap.fill(_printable(title), int(width * 11))
    figure.suptitle(lines, color=_INK, fontsize=11, x=0.01, ha="left", parse_math=False)
    return figure


def _draw_statistics(stats: BuildStats, title: str) -> Figure:
    figure = _new_figure(9.6, 6.4, title)
    sources, topics, durations, events = figure.subplots(2, 2).ravel()
    _draw_sources(sources, stats.sources)
    _draw_topics(topics, stats.topics)
    _draw_histogram(
        durations,
        stats.durations_minutes,
        heading=f"Duration: {stats.hours:.2f} h, mean {_mean(stats.durations_minutes):.1f} min",
        label="minutes",
        bins=[float(edge) for edge in range(0, 61, 5)],
    )
    most = max(stats.events_per_video, default=1)
    step = max(1, -(-most // 16))
    _draw_histogram(
        events,
        stats.events_per_video,
        heading=f"Events a video: mean {_mean(stats.events_per_video):.1f}",
        label="events",
        bins=[edge + 0.5 for edge in range(0, most + step, step)],
    )
    return figure


def _draw_sources(axes: Axes, sources: Mapping[str, int]) -> None:
    ranked = sorted(sources.items(), key=lambda item: (-item[1], item[0]))
    shown, rest = ranked[:_MAX_SOURCES], ranked[_MAX_SOURCES:]
    if rest:
        shown.append((f"{len(rest)} others", sum(count for _, count in rest)))
    total = max(1, sum(sources.values()))
    labels = [_shorten(name) for name, _ in shown]
    texts = [f"{count:,} ({count / total:.0%})" for _, count in shown]
    _draw_bars(axes, labels, [count for _, count in shown], texts, colour=_SECOND)
    _head(axes, f"Data source: {total:,} videos")


def _draw_topics(axes: Axes, topics: Sequence[TopicShare]) -> None:
    texts = [f"{topic.num_rows:,} ({topic.share:.1%})" for topic in topics]
    shares = [topic.share for topic in topics]
    _draw_bars(axes, [topic.topic for topic in topics], shares, texts, colour=_ACCENT)
    for row, topic in enumerate(topics):
        axes.plot([topic.target] * 2, [row - 0.38, row + 0.38], color=_INK, linewidth=1.6)
    num_rows = sum(topic.num_rows for topic in topics)
    _head(axes, f"Topic: {num_rows:,} rows (line: target mix)")


def _draw_yield(funnel: Sequence[FunnelStep], title: str) -> Figure:
    figure = _new_figure(8.0, 1.3 + 0.55 * max(1, len(funnel)), title)
    axes = figure.subplots()
    places = list(range(len(funnel)))
    open_ended = np.array([step.num_open_ended for step in funnel], float)
    multiple = np.array([step.num_multiple_choice for step in funnel], float)
    axes.barh(places, open_ended, 0.62, color=_SECOND, label="open-ended")
    axes.barh(places, multiple, 0.62, left=open_ended, color=_ACCENT, label="multiple-choice")
    first = max(1, funnel[0].num_rows if funnel else 1)
    for place, step in zip(places, funnel, strict=True):
        share = f" {step.num_rows:,} ({step.num_rows / first:.0%})"
        axes.text(step.num_rows, place, share, va="center", color=_INK, fontsize=9)
    axes.set_yticks(places, [step.name.replace("_", " ") for step in funnel], color=_INK)
    axes.set_xlim(0, first * 1.22)
    axes.invert_yaxis()
    _head(axes, "Yield: rows left after each step")
    axes.legend(frameon=False, fontsize=8, ncols=2, loc="upper right", bbox_to_anchor=(1, 1.16))
    _tidy(axes)
    return figure


def _draw_gaps(gaps_seconds: Sequence[float], title: str) -> Figure:
    figure = _new_figure(8.0, 3.4, title)
    axes = figure.subplots()
    minutes = [gap / 60 for gap in gaps_seconds]
    median = float(np.median(minutes)) if minutes else 0.0
    _draw_histogram(
        axes,
        minutes,
        heading=f"Between the first and the last piece of evidence: {len(minutes):,} rows "
        f"with two or more, median {median:.1f} min (dashed: 1 min)",
        label="minutes",
        bins=np.linspace(0, max(5.0, *minutes, 5.0), 31).tolist(),
    )
    axes.axvline(_LONG_FORM_SECONDS / 60, color=_ACCENT, linewidth=1.2, linestyle="--")
    return figure


def _draw_bars(
    axes: Axes, labels: Sequence[str], values: Sequence[float], texts: Sequence[str], colour: str
) -> None:
    places = list(range(len(labels)))
    axes.barh(places, np.asarray(values, float), 0.62, color=colour)
    top = max([*values, 1e-9])
    for place, text in zip(places, texts, strict=True):
        axes.text(top * 1.4, place, text, va="center", ha="right", color=_INK, fontsize=8.5)
    axes.set_yticks(places, list(labels), color=_INK, parse_math=False)
    axes.set_xlim(0, top * 1.42)
    axes.set_ylim(-0.6, max(len(labels), _MIN_BARS) - 0.4)
    axes.set_xticks([])
    axes.invert_yaxis()
    _tidy(axes)


def _draw_histogram(
    axes: Axes, values: Sequence[float], *, heading: str, label: str, bins: Sequence[float]
) -> None:
    from matplotlib.ticker import MaxNLocator

    if values:
        top = max(values)
        axes.hist([min(v, bins[-1]) for v in values], bins, color=_SECOND, edgecolor=_PAPER)
        axes.set_xlabel(label if top <= bins[-1] else f"{label} (last bar: or more)", color=_INK)
    else:
        axes.text(0.5, 0.5, "none", ha="center", transform=axes.transAxes, color=_PALE)
        axes.set_yticks([])
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    _head(axes, heading)
    _tidy(axes)


def _tidy(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(_PALE)
    axes.tick_params(length=3, color=_PALE, labelsize=9)


def _head(axes: Axes, text: str) -> None:
    axes.set_title(_printable(text), loc="left", fontsize=9.5, color=_INK, parse_math=False)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 0.0


def _shorten(name: str) -> str:
    name = _printable(name)
    return name if len(name) <= 24 else name[:21] + "..."


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)
