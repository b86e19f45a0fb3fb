"""From mass to spans: peaks are found where they are, and an even reading gives none."""

from __future__ import annotations

import numpy as np
import pytest

from hour_llava.session.evidence import find_spans, top_frames


def even(num_frames: int) -> np.ndarray:
    return np.full(num_frames, 1.0)


def test_a_peak_becomes_a_span_with_its_share() -> None:
    mass = even(3600) * 1e-5
    mass[2471:2474] = [0.2, 0.4, 0.2]
    (span,) = find_spans(mass, np.arange(3600.0), frame_seconds=1.0)
    assert (span.start_seconds, span.end_seconds) == (2471.0, 2474.0)
    assert span.score == pytest.approx(0.8 / mass.sum(), abs=1e-3)


def test_the_strongest_span_comes_first_and_at_most_five_come() -> None:
    mass = even(600) * 1e-6
    mass[50:600:60] = np.linspace(1, 2, 10)
    spans = find_spans(mass, np.arange(600.0), frame_seconds=1.0)
    assert len(spans) == 5
    assert [s.score for s in spans] == sorted((s.score for s in spans), reverse=True)
    assert spans[0].start_seconds == 590.0


def test_a_hole_of_one_frame_does_not_part_a_span() -> None:
    mass = even(100) * 1e-6
    mass[[40, 42]] = 1
    (span,) = find_spans(mass, np.arange(100.0), frame_seconds=1.0)
    assert (span.start_seconds, span.end_seconds) == (40.0, 43.0)


@pytest.mark.parametrize("num_frames", [4, 10, 3600])
def test_a_video_that_was_read_evenly_has_no_span(num_frames: int) -> None:
    assert find_spans(even(num_frames), np.arange(num_frames), frame_seconds=1.0) == []


@pytest.mark.parametrize("num_frames", [1, 2, 3])
def test_a_very_short_video_can_have_a_span(num_frames: int) -> None:
    mass = np.zeros(num_frames)
    mass[-1] = 1
    (span,) = find_spans(mass, np.arange(num_frames), frame_seconds=1.0)
    assert span.start_seconds == num_frames - 1


def test_times_come_from_the_clock_not_from_frame_numbers() -> None:
    mass = even(50) * 1e-6
    mass[7] = 1
    times = 100 + np.arange(50) * 0.5
    (span,) = find_spans(mass, times, frame_seconds=0.5)
    assert (span.start_seconds, span.end_seconds) == (103.5, 104.0)


@pytest.mark.parametrize("bad", [np.zeros(5), np.full(5, np.nan)])
def test_no_mass_gives_no_span(bad: np.ndarray) -> None:
    assert find_spans(bad, np.arange(5), frame_seconds=1.0) == []


def test_masses_without_times_are_refused_with_both_shapes() -> None:
    with pytest.raises(ValueError, match=r"\(5,\) masses for \(4,\)"):
        find_spans(even(5), np.arange(4), frame_seconds=1.0)


def test_top_frames_come_in_order_of_time() -> None:
    mass = np.array([0.0, 3, 2, 0, 0, 5, 0, 1])
    assert top_frames(mass, 3, min_gap=2) == [1, 5, 7]
    assert top_frames(mass, 3, min_gap=1) == [1, 2, 5]


def test_no_span_goes_beyond_the_end_of_the_video() -> None:
    spans = find_spans([0.1, 0.9], [0.0, 50.0], frame_seconds=50.0, end_seconds=60.0)
    assert spans[0].end_seconds == 60.0


def test_a_picture_that_stands_still_is_shown_as_long_as_it_stands() -> None:
    times = np.array([0.0, 1, 2, *[3] * 5, *range(8, 60)])
    mass = np.where(times == 3, 1.0, 0.01)
    (span,) = find_spans(mass, times, frame_seconds=1.0)
    assert (span.start_seconds, span.end_seconds) == (3.0, 8.0)
