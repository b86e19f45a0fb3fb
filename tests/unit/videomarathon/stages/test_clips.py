"""Windows: presets, ends, rests."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from hour_llava.videomarathon.settings import BuildSettings
from hour_llava.videomarathon.stages import clips
from hour_llava.videomarathon.stages.clips import windows


def _seconds(duration: float, window: int, stride: int) -> list[tuple[float, float]]:
    spans = windows(round(duration * 1000), window * 1000, stride * 1000)
    return [(s.start_ms / 1000, s.end_ms / 1000) for s in spans]


def test_the_papers_windows_overlap_as_its_printed_keys_do() -> None:
    found = _seconds(180, 30, 20)
    assert found[:3] == [(0, 30), (20, 50), (40, 70)]
    assert found[-1] == (160, 180)


def test_fixed_windows_tile_the_video() -> None:
    assert _seconds(90, 30, 30) == [(0, 30), (30, 60), (60, 90)]


def test_a_short_rest_joins_the_last_window() -> None:
    assert _seconds(94, 30, 30) == [(0, 30), (30, 60), (60, 94)]
    assert _seconds(98, 30, 30)[-1] == (90, 98)


@pytest.mark.parametrize("stride", [20, 30])
def test_every_millisecond_is_in_a_window_and_every_window_adds_one(stride: int) -> None:
    for duration_ms in [*range(1, 200_000, 977), 3_599_960]:
        spans = list(windows(duration_ms, 30_000, stride * 1000))
        assert spans[0].start_ms == 0
        assert spans[-1].end_ms == duration_ms
        for one, other in itertools.pairwise(spans):
            assert one.start_ms < other.start_ms <= one.end_ms < other.end_ms


def test_the_preset_of_the_settings_counts(bench: Any, small: Any) -> None:
    bench.settings = BuildSettings(source=".", clip_preset="fixed")
    found = bench.run(clips.STAGE, small.video.id, {"ingest": [small.video]})
    assert [c.span.start_ms for c in found] == [0, 30_000, 60_000, 90_000, 120_000, 150_000]
    assert [c.index for c in found] == list(range(6))
    assert found[1].id == f"{small.video.id}:30000-60000"
