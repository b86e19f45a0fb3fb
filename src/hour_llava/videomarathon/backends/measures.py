"""What can be measured on a video's pictures without any model: colours, light, motion, cuts.

    T     ticks, two a second; tick i stands at i / 2 seconds
    K     colours of `COLOURS`: which share of the picture has each

Every number is of real frames, made small. What is said of them (`embedded.py`) is no more than
they tell: a colour is a range of hues, motion is the change between ticks half a second apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray
from PIL import Image

from hour_llava.video import read_frames
from hour_llava.videomarathon.records import Span

TICKS_A_SECOND = 2
SIZE = (64, 36)
COLOURS: tuple[str, ...] = (
    "black", "grey", "white", "red", "orange", "brown",
    "yellow", "green", "cyan", "blue", "purple", "pink",
)  # fmt: skip
_HUES = ((15, "red"), (45, "orange"), (70, "yellow"), (165, "green"), (195, "cyan"), (255, "blue"),
         (290, "purple"), (345, "pink"), (361, "red"))  # fmt: skip

CUT_HISTOGRAM, CUT_PIXELS, CUT_CONTRAST = 0.30, 0.08, 3.0
STILL_MOTION, MUCH_MOTION = 0.006, 0.05
SHORTEST_RUN_SECONDS = 5

Floats = NDArray[np.floating[Any]]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Measures:
    """What was measured at every tick.

    Args:
        shares_TK: Part of the picture in each colour.
        light_T: Mean brightness, 0 to 1.
        sides_T4: Mean brightness of the left, right, upper and lower half.
        motion_T: Mean change of the pixels, 0 to 1, since the tick before; 0 at a cut.
        is_cut_T: The picture is another one than at the tick before, at once and to stay.
        duration_ms: Of the video.
    """

    shares_TK: Floats
    light_T: Floats
    sides_T4: Floats
    motion_T: Floats
    is_cut_T: Flags
    duration_ms: int

    def ticks(self, span: Span) -> slice:
        """Return the ticks within a stretch, one at least."""
        first = -(-span.start_ms * TICKS_A_SECOND // 1000)
        end = -(-span.end_ms * TICKS_A_SECOND // 1000)
        first = min(first, len(self.light_T) - 1)
        return slice(first, max(first + 1, min(end, len(self.light_T))))

    def cuts(self) -> list[int]:
        """List the cuts in milliseconds: each lies within half a second before."""
        return [_ms(int(tick)) for tick in np.flatnonzero(self.is_cut_T)]

    def span_of(self, first: int, end: int) -> Span:
        """Return the stretch of ticks; the last one reaches to the end of the video."""
        is_last = end >= len(self.light_T)
        return Span(start_ms=_ms(first), end_ms=self.duration_ms if is_last else _ms(end))


def _ms(tick: int) -> int:
    return tick * 1000 // TICKS_A_SECOND


def measure(file: str, duration_ms: int) -> Measures:
    """Measure a whole video in one pass.

    Raises:
        VideoError: it cannot be read.
    Cost: its decoding, and about 1 ms a tick; 5 MB for an hour.
    """
    rows: list[tuple[Floats, float, tuple[float, ...], float, Floats]] = []
    before: NDArray[np.uint8] | None = None
    with read_frames(file, fps=float(TICKS_A_SECOND), threads=1) as reader:
        for frame in reader:
            image = _small(frame.rgb)
            light = _light(image)
            old = image if before is None else before
            change = float(np.abs(image.astype(np.int16) - old).mean() / 255)
            row = (colour_shares(image), float(light.mean()), _sides(light))
            rows.append((*row, change, _histograms(image)))
            before = image
    shares, light_T, sides, pixels_T, histograms = zip(*rows, strict=True)
    is_cut_T = find_cuts(_floats(pixels_T), np.stack(histograms))
    moves_T = np.where(is_cut_T, 0, _floats(pixels_T))
    return Measures(
        shares_TK=np.stack(shares),
        light_T=_floats(light_T),
        sides_T4=_floats(sides),
        motion_T=_floats(moves_T),
        is_cut_T=is_cut_T,
        duration_ms=duration_ms,
    )


def _floats(values: npt.ArrayLike) -> Floats:
    return np.asarray(values, np.float32)


def _sides(light_HW: Floats) -> tuple[float, ...]:
    height, width = SIZE[1] // 2, SIZE[0] // 2
    halves = light_HW[:, :width], light_HW[:, width:], light_HW[:height], light_HW[height:]
    return tuple(float(half.mean()) for half in halves)


def _small(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    step = max(1, min(rgb.shape[0] // (4 * SIZE[1]), rgb.shape[1] // (4 * SIZE[0])))
    image = Image.fromarray(np.ascontiguousarray(rgb[::step, ::step]))
    return np.asarray(image.resize(SIZE, Image.Resampling.BOX))


def _light(rgb: NDArray[np.uint8]) -> Floats:
    weights = np.array([0.299, 0.587, 0.114], np.float32) / 255
    return rgb.astype(np.float32) @ weights


def colour_shares(rgb: NDArray[np.uint8]) -> Floats:
    """Return which part of a picture (H, W, 3) has each of `COLOURS`: (K,), sums to 1."""
    values = rgb.reshape(-1, 3).astype(np.float32) / 255
    high, low = values.max(axis=1), values.min(axis=1)
    spread = high - low
    saturation = np.divide(spread, high, out=np.zeros_like(high), where=high > 0)
    names = np.full(len(values), COLOURS.index("grey"))
    names[high > 0.82] = COLOURS.index("white")
    hue = _hue(values, high, spread)
    bounds = np.array([bound for bound, _ in _HUES])
    by_hue = np.array([COLOURS.index(name) for _, name in _HUES])
    coloured = by_hue[np.searchsorted(bounds, hue, side="right")]
    coloured[(coloured == COLOURS.index("orange")) & (high < 0.6)] = COLOURS.index("brown")
    names = np.where(saturation >= 0.2, coloured, names)
    names[high < 0.18] = COLOURS.index("black")
    counts = np.bincount(names, minlength=len(COLOURS))
    return (counts / len(values)).astype(np.float32)


def _hue(values: Floats, high: Floats, spread: Floats) -> Floats:
    red, green, blue = values.T
    safe = np.where(spread > 0, spread, 1)
    hue = np.select(
        [high == red, high == green],
        [(green - blue) / safe % 6, (blue - red) / safe + 2],
        (red - green) / safe + 4,
    )
    return (hue * 60).astype(np.float32)


def _histograms(rgb: NDArray[np.uint8]) -> Floats:
    """Count colours in bins of 64 and again in bins half a bin further: (2, 125).

    A plain area whose colour lies on a border of one kind lies in the middle of the other.
    """
    values = rgb.reshape(-1, 3).astype(np.int64)
    counts = [
        np.bincount(((values + offset) >> 6) @ np.array([25, 5, 1]), minlength=125)
        for offset in (0, 32)
    ]
    return (np.stack(counts) / len(values)).astype(np.float32)


def _distance(one: Floats, other: Floats) -> float:
    """Return the part of the picture whose colour differs, by the kind of bins that says less."""
    return float(np.abs(one - other).sum(axis=-1).min() / 2)


def find_cuts(pixels_T: Floats, histograms_T2B: Floats) -> Flags:
    """Find changes at once of pixels and colours that stay; fades and flashes are none.

    Args:
        pixels_T: Mean change of the pixels since the tick before, 0 to 1.
        histograms_T2B: Two kinds of histograms of colours, each adding up to 1.
    """
    is_cut_T = np.zeros(len(pixels_T), np.bool_)
    changes_T = np.zeros(len(pixels_T), np.float32)
    changes_T[1:] = np.abs(np.diff(histograms_T2B, axis=0)).sum(axis=2).min(axis=1) / 2
    for tick in np.flatnonzero((changes_T >= CUT_HISTOGRAM) & (pixels_T >= CUT_PIXELS)).tolist():
        around = np.concatenate(
            [changes_T[max(1, tick - 4) : tick], changes_T[tick + 1 : tick + 5]]
        )
        usual = float(np.median(around)) if len(around) else 0.0
        later = histograms_T2B[min(tick + 2, len(histograms_T2B) - 1)]
        stays = _distance(later, histograms_T2B[tick]) < _distance(later, histograms_T2B[tick - 1])
        is_cut_T[tick] = stays and changes_T[tick] >= CUT_CONTRAST * usual
    return is_cut_T


@dataclass(frozen=True, kw_only=True)
class Run:
    """Ticks, from `first` up to, not including, `end`, that share a label."""

    label: str
    first: int
    end: int

    @property
    def num_ticks(self) -> int:
        """Return its length."""
        return self.end - self.first


def runs_of(labels: list[str], shortest_ticks: int) -> list[Run]:
    """Divide ticks into runs of one label; shorter ones go to their longer neighbour."""
    runs = list(_raw_runs(labels))
    while len(runs) > 1:
        place = min(range(len(runs)), key=lambda i: (runs[i].num_ticks, i))
        if runs[place].num_ticks >= shortest_ticks:
            break
        before = runs[place - 1].num_ticks if place else -1
        after = runs[place + 1].num_ticks if place + 1 < len(runs) else -1
        into = runs[place - 1] if before >= after else runs[place + 1]
        for tick in range(runs[place].first, runs[place].end):
            labels[tick] = into.label
        runs = list(_raw_runs(labels))
    return runs


def _raw_runs(labels: list[str]) -> Iterator[Run]:
    first = 0
    for label, ticks in groupby(labels):
        end = first + len(list(ticks))
        yield Run(label=label, first=first, end=end)
        first = end


def colour_runs(measures: Measures, shortest_seconds: int) -> list[Run]:
    """Divide a video by the most common colour of the picture."""
    best: list[int] = measures.shares_TK.argmax(axis=1).tolist()
    labels = [COLOURS[i] for i in best]
    return runs_of(labels, shortest_seconds * TICKS_A_SECOND)


def motion_runs(measures: Measures, shortest_seconds: int) -> list[Run]:
    """Divide a video into still and moving stretches, of motion averaged over two seconds."""
    window = np.ones(2 * TICKS_A_SECOND) / (2 * TICKS_A_SECOND)
    smooth = np.convolve(measures.motion_T, window, mode="same")
    motions: list[float] = smooth.tolist()
    labels = ["still" if motion < STILL_MOTION else "moving" for motion in motions]
    return runs_of(labels, shortest_seconds * TICKS_A_SECOND)
