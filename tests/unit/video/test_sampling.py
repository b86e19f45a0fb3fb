"""Ticks stand at exact times and show the last frame that is not later."""

from __future__ import annotations

import re
from fractions import Fraction

import pytest

from hour_llava.errors import VideoError
from hour_llava.schema import Sampling
from hour_llava.video.sampling import Ticks, exact, frames_at_ticks, make_ticks


def ticks_of(last: Fraction | int, duration: Fraction | int, **sampling: float) -> Ticks:
    return make_ticks(
        Sampling(**sampling), last_seconds=Fraction(last), duration_seconds=Fraction(duration)
    )


def test_the_last_tick_is_not_later_than_the_last_frame():
    assert ticks_of(10, Fraction(101, 10)).count == 11
    assert ticks_of(Fraction(999, 100), 10).count == 10


def test_a_single_frame_has_a_single_tick():
    assert ticks_of(0, Fraction(1, 30)).count == 1


def test_the_end_of_a_crop_is_not_included():
    assert ticks_of(100, 101, start_seconds=10, end_seconds=20).count == 10
    assert ticks_of(100, 101, start_seconds=10, end_seconds=20.5).count == 11
    assert ticks_of(100, 101, end_seconds=0.5).count == 1


def test_a_crop_may_end_after_the_video():
    assert ticks_of(3, 4, end_seconds=1e6).count == 4


def test_a_start_within_the_last_frame_gets_that_frame():
    ticks = ticks_of(Fraction(29, 10), 3, start_seconds=2.95)
    assert (ticks.count, ticks.seconds(0)) == (1, Fraction(59, 20))


def test_rates_below_one_and_above_the_source_are_series_too():
    slow = ticks_of(600, 601, fps=1 / 60)
    assert (slow.count, slow.step_seconds) == (11, 60)
    assert ticks_of(1, 2, fps=240).count == 241


def test_decimal_rates_do_not_drift():
    assert ticks_of(3600, 3601, fps=0.1).seconds(360) == 3600
    assert exact(29.97) == Fraction(2997, 100)


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), float("inf"), 1e-9, 1e9])
def test_impossible_rates_are_refused_with_the_range(fps: float):
    with pytest.raises(VideoError, match=re.escape(f"fps is {fps:g}; choose 1e-06 to 1000")):
        ticks_of(10, 11, fps=fps)


def test_impossible_crops_are_refused_with_both_numbers():
    with pytest.raises(VideoError, match="start is 12 s, but the video lasts 11 s"):
        ticks_of(10, 11, start_seconds=12)
    with pytest.raises(VideoError, match=r"end is 3 s and start 5 s"):
        ticks_of(10, 11, start_seconds=5, end_seconds=3)
    with pytest.raises(VideoError, match="start is -1"):
        ticks_of(10, 11, start_seconds=-1)


def test_a_frame_exactly_at_a_tick_is_shown_at_it():
    pts = [0, 1001, 2002, 3003]
    ticks = Ticks(start_seconds=Fraction(0), step_seconds=Fraction(1001, 30000), count=4)
    found = frames_at_ticks(ticks, pts, first_pts=0, time_base=Fraction(1, 30000))
    assert found == [0, 1, 2, 3]


def test_holes_repeat_the_frame_before_them():
    ticks = Ticks(start_seconds=Fraction(0), step_seconds=Fraction(1), count=5)
    found = frames_at_ticks(ticks, [7, 8, 11], first_pts=7, time_base=Fraction(1))
    assert found == [0, 1, 1, 1, 2]


def test_of_frames_at_one_time_the_last_is_shown():
    ticks = Ticks(start_seconds=Fraction(0), step_seconds=Fraction(1), count=2)
    assert frames_at_ticks(ticks, [0, 0, 1, 1], first_pts=0, time_base=Fraction(1)) == [1, 3]
