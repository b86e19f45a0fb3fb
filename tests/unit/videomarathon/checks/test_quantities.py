"""Lengths and times are read as people write them."""

from __future__ import annotations

import pytest

from hour_llava.videomarathon.checks.quantities import (
    lengths_in,
    overlap_ratio,
    single_length,
    span_in,
)
from hour_llava.videomarathon.records import Span
from hour_llava.videomarathon.wording import say_duration, say_span


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("45 seconds", 45_000),
        ("1 minute 10 seconds", 70_000),
        ("about one minute and 10 seconds", 70_000),
        ("1 hour 2 minutes", 3_720_000),
        ("2 min 5 s", 125_000),
        ("12.5 seconds", 12_500),
        ("A minute.", 60_000),
        ("90s", 90_000),
    ],
)
def test_one_length_is_read(text: str, ms: int) -> None:
    length = single_length(text)
    assert length is not None
    assert length.ms == ms


@pytest.mark.parametrize("text", ["the last eighth", "7", "a man", "in the second scene", ""])
def test_words_that_look_like_lengths_are_none(text: str) -> None:
    assert lengths_in(text) == []


def test_two_different_lengths_are_no_single_one() -> None:
    assert single_length("between 20 seconds and 2 minutes") is None


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("from 0:20 to 1:10", 20, 70),
        ("01:20-02:05", 80, 125),
        ("Between 1:00:00 and 1:00:30.", 3600, 3630),
        ("20-50 s", 20, 50),
        ("from 20 seconds to 1 minute 10 seconds", 20, 70),
    ],
)
def test_a_span_is_read(text: str, start: int, end: int) -> None:
    span = span_in(text)
    assert span is not None
    assert span.start_ms == start * 1000
    assert span.end_ms == end * 1000


@pytest.mark.parametrize("text", ["at 1:10", "in the kitchen", "from 2:00 to 1:00"])
def test_no_span_is_none(text: str) -> None:
    assert span_in(text) is None


@pytest.mark.parametrize("ms", [1000, 59_000, 61_000, 3_599_000, 3_661_000])
def test_what_the_pipeline_writes_is_read_back(ms: int) -> None:
    length = single_length(say_duration(ms))
    assert length is not None
    assert length.ms == ms
    span = Span(start_ms=4000, end_ms=4000 + ms)
    assert span_in(say_span(span)) == span


def test_overlap_is_intersection_over_union() -> None:
    assert overlap_ratio(Span(start_ms=0, end_ms=10), Span(start_ms=5, end_ms=15)) == 5 / 15
