"""Which times are read: the ticks, and the frame that each tick shows. Pure, exact, in Fractions.

Tick i stands at `start + i / fps` seconds after the first presented frame, and shows the last
frame whose presentation time is not later. Nothing here rounds: 29.97 frames a second and time
bases of 1/90000 meet without drift.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from hour_llava.errors import VideoError
from hour_llava.schema import Sampling

MAX_DENOMINATOR = 1_000_000
# One tick in eleven days, and faster than any camera whose files are ordinary videos.
MIN_FPS, MAX_FPS = 1 / MAX_DENOMINATOR, 1000.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Ticks:
    """An arithmetic series of times in exact seconds, counted from the first presented frame."""

    start_seconds: Fraction
    step_seconds: Fraction
    count: int

    def seconds(self, index: int) -> Fraction:
        return self.start_seconds + index * self.step_seconds


def make_ticks(sampling: Sampling, *, last_seconds: Fraction, duration_seconds: Fraction) -> Ticks:
    """Lay the ticks of a sampling over a video.

    They stop at the last presented frame, since durations in headers lie; a start within that
    frame's own duration still gets one tick.

    Args:
        sampling: The rate, MIN_FPS to MAX_FPS, and the crop; the end is not included.
        last_seconds: Time of the last presented frame after the first one.
        duration_seconds: `last_seconds` plus the duration of that frame.

    Raises:
        VideoError: A rate out of range, or a crop that holds no time of the video.
    """
    fps, start, end = check_sampling(sampling)
    if start >= duration_seconds:
        raise VideoError(
            f"start is {float(start):g} s, but the video lasts {float(duration_seconds):g} s; "
            "choose an earlier start"
        )
    count = max(1, math.floor((last_seconds - start) * fps) + 1)
    if end is not None:
        count = min(count, math.ceil((end - start) * fps))
    return Ticks(start_seconds=start, step_seconds=1 / fps, count=count)


def check_sampling(sampling: Sampling) -> tuple[Fraction, Fraction, Fraction | None]:
    """Turn a sampling into exact (frames per second, start, end), or say what is wrong with it.

    Raises:
        VideoError: The rate or a time is out of range.
    """
    start, end = sampling.start_seconds or 0.0, sampling.end_seconds
    if not MIN_FPS <= sampling.fps <= MAX_FPS:
        raise VideoError(
            f"fps is {sampling.fps:g}; choose {MIN_FPS:g} to {MAX_FPS:g} frames a second"
        )
    if not (math.isfinite(start) and start >= 0):
        raise VideoError(f"start is {start} s; choose a time of at least 0 s")
    if end is not None and not (math.isfinite(end) and end > start):
        raise VideoError(f"end is {end} s and start {start:g} s; choose an end after the start")
    return exact(sampling.fps), exact(start), None if end is None else exact(end)


def exact(number: float) -> Fraction:
    """Read a float as the simple fraction that its writer meant: 0.1 is 1/10."""
    return Fraction(number).limit_denominator(MAX_DENOMINATOR)


def frames_at_ticks(
    ticks: Ticks, pts: Sequence[int], *, first_pts: int, time_base: Fraction
) -> list[int]:
    """Find for every tick the position in `pts` of the frame it shows.

    Args:
        ticks: The times to be shown.
        pts: Presentation times of the frames, sorted, in units of `time_base`.
        first_pts: The time from which ticks are counted.
        time_base: Seconds in a unit.

    Returns:
        For each tick the last position whose time is not later than the tick (0 if none is).
    """
    start, step = ticks.start_seconds / time_base, ticks.step_seconds / time_base
    scale = math.lcm(start.denominator, step.denominator)
    first, stride = int(start * scale), int(step * scale)
    positions: list[int] = []
    position = 0
    for index in range(ticks.count):
        # The floor of an exact rational: an integer pts is <= the tick iff it is <= its floor.
        latest = first_pts + (first + index * stride) // scale
        position = max(0, bisect_right(pts, latest, lo=position) - 1)
        positions.append(position)
    return positions
