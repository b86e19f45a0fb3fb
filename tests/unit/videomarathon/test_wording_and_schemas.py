"""Times in words and back; replies as models give them."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from hour_llava.videomarathon.checks.quantities import single_length, span_in
from hour_llava.videomarathon.records import Span
from hour_llava.videomarathon.schemas import (
    ClipAspects,
    EventDescription,
    EventSplit,
    QAReply,
    json_schema,
)
from hour_llava.videomarathon.wording import read_key, say_duration, say_key, say_span


@pytest.mark.parametrize("seconds", [1, 45, 60, 61, 119, 3600, 3601, 3725, 7200])
def test_a_length_is_read_back_by_the_checks(seconds: int) -> None:
    found = single_length(say_duration(seconds * 1000))
    assert found is not None
    assert found.ms == seconds * 1000


@pytest.mark.parametrize(("start", "end"), [(0, 5), (20, 70), (59, 61), (3590, 3700)])
def test_a_span_is_read_back_by_the_checks(start: int, end: int) -> None:
    span = Span(start_ms=start * 1000, end_ms=end * 1000)
    assert span_in(say_span(span)) == span


def test_a_key_is_read_back_to_the_millisecond() -> None:
    for start, end in ((0, 30_000), (12_500, 40_001), (3_599_960, 3_600_000)):
        assert read_key(say_key(Span(start_ms=start, end_ms=end))) == (start, end)


@pytest.mark.parametrize("text", ["20-50s", " [20s - 50s] ", "0:20-0:50", "20 to 50 seconds"])
def test_models_ways_of_writing_a_key_are_read(text: str) -> None:
    assert read_key(text) == (20_000, 50_000)


@pytest.mark.parametrize("text", ["", "early", "20s", "20-", "a-b", "1-2-3"])
def test_what_is_no_key_is_none(text: str) -> None:
    assert read_key(text) is None


def test_replies_have_the_papers_keys() -> None:
    assert json_schema(EventDescription)["required"] == ["Event-Level Description"]
    assert json_schema(ClipAspects)["required"] == [
        *("Temporality", "Spatiality", "Object", "Action", "Scene", "Summary")
    ]
    assert EventSplit.model_validate({"0-70s": " A title "}).root == {"0-70s": "A title"}


def test_no_endpoint_is_told_of_claims() -> None:
    assert "claim" not in json.dumps(json_schema(QAReply)).replace("`claim`", "")


def test_an_empty_aspect_is_refused() -> None:
    texts = dict.fromkeys(json_schema(ClipAspects)["required"], "x")
    with pytest.raises(ValidationError):
        ClipAspects.model_validate({**texts, "Scene": "  "})
    assert ClipAspects.model_validate({**texts, "Extra": "y"}).aspects().scene == "x"
