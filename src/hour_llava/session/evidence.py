"""From the mass that MemAug laid on each frame to the few spans that people want to see.

Shape letters: F frames.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from hour_llava.schema import Evidence

# A frame belongs to a span when its mass is this many times an even share of the video ...
_MIN_TIMES_EVEN = 3.0
# ... and this share of the strongest frame's.
_MIN_SHARE_OF_PEAK = 0.2
# Spans with less of the whole mass say nothing.
_MIN_SCORE = 0.02


def find_spans(
    mass_F: Sequence[float] | np.ndarray,
    times_F: Sequence[float] | np.ndarray,
    *,
    frame_seconds: float,
    end_seconds: float = math.inf,
    max_spans: int = 5,
) -> list[Evidence]:
    """Return the peaks of the mass as spans, the strongest first.

    A video that was read evenly has no peak, and gives no span.

    Args:
        mass_F: mass of each frame, any positive scale.
        times_F: presentation time of each frame in seconds, rising.
        frame_seconds: how long a frame stands, 1 / fps.
        end_seconds: where the video ends; no span goes beyond it.
        max_spans: how many spans at most.

    Returns:
        Spans with `score`, their share of the whole mass.
    """
    mass_F, times_F = np.asarray(mass_F, np.float64), np.asarray(times_F, np.float64)
    if mass_F.shape != times_F.shape:
        raise ValueError(f"{mass_F.shape} masses for {times_F.shape} frame times")
    total = float(mass_F.sum())
    if not np.isfinite(total) or total <= 0:
        return []
    mass_F = mass_F / total
    floor = max(min(_MIN_TIMES_EVEN / len(mass_F), 0.5), _MIN_SHARE_OF_PEAK * float(mass_F.max()))
    spans = [
        Evidence(
            start_seconds=round(float(times_F[first]), 3),
            end_seconds=round(min(_stands_until(times_F, last, frame_seconds), end_seconds), 3),
            score=round(float(mass_F[first : last + 1].sum()), 4),
        )
        for first, last in _runs(np.flatnonzero(mass_F >= floor))
    ]
    spans = [span for span in spans if span.score >= _MIN_SCORE]
    return sorted(spans, key=lambda span: (-span.score, span.start_seconds))[:max_spans]


def _stands_until(times_F: np.ndarray, frame: int, frame_seconds: float) -> float:
    """Say when a frame leaves the screen: a still one is read again and again at its own time."""
    time = float(times_F[frame])
    return time + frame_seconds * int(np.count_nonzero(times_F == time))


def top_frames(mass_F: np.ndarray, count: int, *, min_gap: int = 2) -> list[int]:
    """Return the frames of greatest mass, `min_gap` apart, in order of time."""
    chosen: list[int] = []
    for frame in np.argsort(-np.asarray(mass_F), kind="stable"):
        if all(abs(int(frame) - other) >= min_gap for other in chosen):
            chosen.append(int(frame))
        if len(chosen) == count:
            break
    return sorted(chosen)


def _runs(frames: np.ndarray) -> list[tuple[int, int]]:
    """Group frame numbers into (first, last); a hole of one frame does not part a run."""
    runs: list[tuple[int, int]] = []
    for frame in map(int, frames):
        if runs and frame - runs[-1][1] <= 2:
            runs[-1] = (runs[-1][0], frame)
        else:
            runs.append((frame, frame))
    return runs
