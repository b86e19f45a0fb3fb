"""The evidence picture: where in the video an answer was read, and what stood there.

Shape letters: F frames.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hour_llava.errors import ResourceError
from hour_llava.schema import Evidence
from hour_llava.session.target import check_target

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, _PALE, _ACCENT, _PAPER = "#1f2933", "#9aa5b1", "#d9480f", "#ffffff"
_LEFT, _RIGHT = 0.05, 0.955  # of the page's width
_MAX_BINS = 480
_FORMATS = (".png", ".jpg", ".svg", ".pdf")
MAX_THUMBNAILS = 5


def clock(seconds: float, digits: int = 0) -> str:
    """Return seconds as mm:ss, or h:mm:ss from an hour on, with so many digits of a second."""
    whole, part = divmod(math.floor(seconds * 10**digits + 1e-6), 10**digits)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    fraction = f".{part:0{digits}}" if digits else ""
    start = f"{hours}:{minutes:02}" if hours else f"{minutes:02}"
    return f"{start}:{rest:02}{fraction}"


def clock_digits(fps: float) -> int:
    """Return how many digits of a second tell neighbouring frames apart: 0 up to one a second."""
    return max(0, math.ceil(math.log10(fps)))


def check_picture(path: Path, *, source: str | Path | None = None) -> None:
    """Refuse a picture that cannot be written, before there is anything to draw.

    Raises:
        ResourceError: see `check_target`.
    """
    check_target(path, what="the evidence picture", suffixes=_FORMATS, source=source)


def draw_evidence(
    path: str | Path,
    *,
    question: str,
    answer: str,
    mass_F: Sequence[float] | np.ndarray,
    times_F: Sequence[float] | np.ndarray,
    spans: Sequence[Evidence],
    thumbnails: Sequence[tuple[float, np.ndarray]] = (),
    note: str = "",
    digits: int = 0,
) -> Path:
    """Write the picture: question and answer, the timeline of mass, thumbnails of its peaks.

    Args:
        path: file to write; the suffix chooses the format (png, svg, pdf, jpg).
        question: what was asked.
        answer: what was answered.
        mass_F: share of the reading for each frame.
        times_F: time of each frame in seconds.
        spans: the stretches to mark.
        thumbnails: (seconds, RGB uint8 image) of the strongest moments, at most five.
        note: a small line below, for example the model's name.
        digits: of a second, in the thumbnails' times.

    Returns:
        The path that was written.

    Raises:
        ResourceError: the folder or the format cannot be written; the message names it.
    """
    path = Path(path)
    check_picture(path)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 4.9), dpi=125, facecolor=_PAPER)
    FigureCanvasAgg(figure)
    times_F, mass_F = np.asarray(times_F, np.float64), np.asarray(mass_F, np.float64)
    shown = sorted(thumbnails, key=lambda item: item[0])[:MAX_THUMBNAILS]
    _write_title(figure, question, answer)
    bottom, height = (0.52, 0.23) if shown else (0.18, 0.52)
    timeline = figure.add_axes((_LEFT, bottom, _RIGHT - _LEFT, height))
    _draw_timeline(timeline, mass_F, times_F, spans)
    _draw_thumbnails(figure, timeline, shown, spans, digits)
    figure.text(_RIGHT, 0.015, note, ha="right", color=_PALE, fontsize=8)
    _save(figure, path)
    return path


def _save(figure: Figure, path: Path) -> None:
    """Write the picture whole or not at all; an older one stays until the new one is there."""
    partial = path.with_name(path.name + ".partial")
    try:
        figure.savefig(partial, format=path.suffix[1:].lower(), facecolor=_PAPER)
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise ResourceError(
            f"cannot write the evidence picture {path}: {error.strerror}; name a folder that can "
            "be written, on a disk with room"
        ) from error


def _write_title(figure: Figure, question: str, answer: str) -> None:
    question = textwrap.shorten(_printable(question), 92, placeholder=" ...")
    answer = textwrap.shorten(_printable(answer), 80, placeholder=" ...")
    figure.text(_LEFT, 0.925, question, color=_INK, fontsize=12.5, parse_math=False)
    figure.text(
        _LEFT, 0.835, answer, color=_ACCENT, fontsize=16, fontweight="bold", parse_math=False
    )


def _draw_timeline(
    axes: Axes, mass_F: np.ndarray, times_F: np.ndarray, spans: Sequence[Evidence]
) -> None:
    begin, end = float(times_F[0]), float(times_F[-1]) + _frame_seconds(times_F)
    length = end - begin
    centres, heights = _bin_by_maximum(mass_F, times_F, begin, end)
    top = float(heights.max()) or 1.0
    axes.axhline(0, color=_PALE, linewidth=0.8)
    axes.vlines(centres, 0, heights / top, color=_PALE, linewidth=1.6)
    for span in spans:
        middle = (span.start_seconds + span.end_seconds) / 2
        half = max((span.end_seconds - span.start_seconds) / 2, length / 400)
        axes.axvspan(middle - half, middle + half, color=_ACCENT, alpha=0.16, linewidth=0)
        inside = (centres >= middle - half) & (centres <= middle + half)
        axes.vlines(centres[inside], 0, heights[inside] / top, color=_ACCENT, linewidth=2.2)
    _label_spans(axes, spans, begin, end)
    axes.set(xlim=(begin, end), ylim=(0, 1.04), yticks=[])
    axes.set_ylabel("read here", color=_PALE, fontsize=9)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_PALE)
    ticks = _clock_ticks(begin, end)
    axes.set_xticks(ticks, [clock(tick) for tick in ticks], fontsize=9, color=_INK)
    axes.tick_params(length=3, color=_PALE)


def _label_spans(axes: Axes, spans: Sequence[Evidence], begin: float, end: float) -> None:
    """Write the share of each span above it, skipping labels that would touch."""
    length = end - begin
    taken: list[float] = []
    for span in spans:  # strongest first
        middle = (span.start_seconds + span.end_seconds) / 2
        if all(abs(middle - other) > length * 0.07 for other in taken):
            x = min(max(middle, begin + length * 0.02), begin + length * 0.98)
            axes.text(x, 1.07, f"{span.score:.0%}", ha="center", color=_ACCENT, fontsize=9)
            taken.append(middle)


def _draw_thumbnails(
    figure: Figure,
    timeline: Axes,
    thumbnails: Sequence[tuple[float, np.ndarray]],
    spans: Sequence[Evidence],
    digits: int,
) -> None:
    """Show the moments below, each tied to its place; those inside a span in the span's colour."""
    from matplotlib.patches import ConnectionPatch

    gap, count = 0.01, max(1, len(thumbnails))
    width = min(0.25, (_RIGHT - _LEFT + gap) / count - gap)
    left = _LEFT + (_RIGHT - _LEFT - count * (width + gap) + gap) / 2
    for number, (seconds, image) in enumerate(thumbnails):
        axes = figure.add_axes((left + number * (width + gap), 0.07, width, 0.315), anchor="N")
        axes.imshow(image)
        axes.set(xticks=[], yticks=[])
        axes.set_xlabel(clock(seconds, digits), color=_INK, fontsize=10.5)
        is_inside = any(span.start_seconds <= seconds < span.end_seconds for span in spans)
        colour = _ACCENT if is_inside else _PALE
        for spine in axes.spines.values():
            spine.set(color=colour, linewidth=1.4 if is_inside else 0.8)
        line = ConnectionPatch(
            (seconds, 0),
            (0.5, 1.0),
            coordsA=timeline.get_xaxis_transform(),
            coordsB=axes.transAxes,
            color=colour,
            linewidth=0.9,
            alpha=0.6,
        )
        line.set_zorder(-1)
        figure.add_artist(line)


def _bin_by_maximum(
    mass_F: np.ndarray, times_F: np.ndarray, begin: float, end: float
) -> tuple[np.ndarray, np.ndarray]:
    """Keep the maximum of each bin: one second of an hour must stay visible."""
    num_bins = min(_MAX_BINS, len(mass_F))
    width = (end - begin) / num_bins or 1.0  # a picture that stands still has no length
    bin_of_F = np.minimum(((times_F - begin) / width + 1e-9).astype(int), num_bins - 1)
    heights = np.zeros(num_bins)
    np.maximum.at(heights, bin_of_F, mass_F)
    return begin + (np.arange(num_bins) + 0.5) * width, heights


def _clock_ticks(begin: float, end: float) -> list[float]:
    steps = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600)
    step = next((step for step in steps if (end - begin) / step <= 9), 43200)
    first = math.ceil(begin / step) * step
    return [float(tick) for tick in range(first, int(end) + 1, step)]


def _frame_seconds(times_F: np.ndarray) -> float:
    return float(np.median(np.diff(times_F))) if len(times_F) > 1 else 1.0


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)
