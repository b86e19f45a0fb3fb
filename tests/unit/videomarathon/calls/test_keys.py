"""Keys name the question and nothing else; prices, tokens and error classes are read rightly."""

from __future__ import annotations

import io
import time
from email.utils import formatdate
from typing import Any

import pytest
from PIL import Image

from hour_llava.errors import BudgetError
from hour_llava.videomarathon.calls.client import classify, read_retry_after
from hour_llava.videomarathon.calls.keys import call_key
from hour_llava.videomarathon.calls.ladder import dress, is_strict
from hour_llava.videomarathon.calls.limits import endpoint_id
from hour_llava.videomarathon.calls.prices import price_of, require_prices
from hour_llava.videomarathon.calls.request import CallRequest, Sampling, media_url
from hour_llava.videomarathon.calls.tokens import count_image, count_messages, count_text
from hour_llava.videomarathon.settings import EndpointSettings

SAMPLING = Sampling(max_tokens=100, temperature=0.2, seed=0)


def request(**changes: Any) -> CallRequest:
    values: dict[str, Any] = {
        "role": "llm",
        "messages": [{"role": "user", "content": "What?"}],
        "schema": {"type": "object"},
        "schema_name": "Answer",
    }
    return CallRequest(**{**values, **changes})


def key(sampling: Sampling = SAMPLING, reask: int = 0, model: str = "m", **changes: Any) -> str:
    return call_key(request(**changes), model=model, sampling=sampling, reask=reask)


def test_a_key_is_the_same_for_the_same_question_whoever_asks() -> None:
    assert key() == key(stage="qa", unit="video:1", role="judge", schema_name="Other")
    assert len(key()) == 32


def test_everything_that_is_asked_is_in_the_key() -> None:
    keys = {
        key(),
        key(model="other"),
        key(reask=1),
        key(attempt=1),
        key(schema={"type": "array"}),
        key(messages=[{"role": "user", "content": "Why?"}]),
        key(messages=[{"role": "system", "content": "What?"}]),
        key(Sampling(max_tokens=101, temperature=0.2, seed=0)),
        key(Sampling(max_tokens=100, temperature=0.3, seed=0)),
        key(Sampling(max_tokens=100, temperature=0.2, seed=1)),
        key(Sampling(max_tokens=100, temperature=0.2, seed=0, extra_body={"top_k": 1})),
        *(key(messages=[picture(data)]) for data in (b"one", b"two")),
    }
    assert len(keys) == 13


def picture(data: bytes) -> dict[str, Any]:
    part = {"type": "image_url", "image_url": {"url": media_url(data)}}
    return {"role": "user", "content": [part]}


def test_keys_stay_what_they_were() -> None:
    assert key() == "ce3e2504f01b25bc2dd0e2e0bca8c450", (
        "another key means that every build pays again"
    )


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (401, "", "fatal"),
        (402, "Insufficient Balance", "fatal"),
        (403, "", "fatal"),
        (404, "", "fatal"),
        (429, "insufficient_quota: you exceeded", "fatal"),
        (429, "slow down", "pressed"),
        (408, "", "failed"),
        (409, "", "failed"),
        (500, "", "failed"),
        (503, "", "failed"),
        (413, "", "too_long"),
        (400, "This response_format type is unavailable now", "format"),
        (400, "Invalid schema for response_format 'ClipAspects'", "format"),
        (400, "maximum context length is 32768 tokens", "too_long"),
        (400, "Content Exists Risk", "refusal"),
        (400, "At most 0 image(s) may be provided", "images"),
        (422, "unknown variant `image_url`, expected `text`", "images"),
        (400, "seed is not a known parameter", "bad"),
    ],
)
def test_each_http_error_has_its_class(status: int, message: str, kind: str) -> None:
    assert classify(status, message) == kind


def test_retry_after_is_read_as_seconds_or_as_a_date() -> None:
    assert read_retry_after("1.5") == 1.5
    assert read_retry_after(None) is None
    assert read_retry_after("soon") is None
    assert read_retry_after("-3") == 0
    after = read_retry_after(formatdate(time.time() + 30, usegmt=True))
    assert after is not None
    assert 25 < after <= 30


def test_the_schema_stands_in_the_prompt_where_the_server_does_not_take_it() -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "What?"}]}]
    schema = {"type": "object", "properties": {"colour": {"type": "string"}}}
    strict = dress(messages, schema, "Colour", "json_schema")
    assert strict["response_format"]["json_schema"]["schema"] == schema
    assert strict["messages"] == messages
    loose = dress(messages, schema, "Colour", "json_object")
    assert loose["response_format"] == {"type": "json_object"}
    assert "JSON" in loose["messages"][0]["content"][-1]["text"]
    assert '"colour"' in loose["messages"][0]["content"][-1]["text"]
    plain = dress(messages, schema, "Colour", "text")
    assert "response_format" not in plain
    assert "```" in plain["messages"][0]["content"][-1]["text"]


def test_strict_is_claimed_only_for_closed_and_full_schemas() -> None:
    closed = {
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    assert is_strict(closed)
    assert not is_strict({**closed, "required": []})
    assert not is_strict({"type": "object", "additionalProperties": {"type": "string"}})


def test_tokens_are_counted_by_characters_and_by_pixels() -> None:
    assert count_text("") == 0
    assert count_text("a" * 8) == 2
    assert count_text("一个人") == 3
    stream = io.BytesIO()
    Image.new("RGB", (448, 252)).save(stream, format="JPEG")
    assert count_image(stream.getvalue()) == 16 * 9
    assert count_image(b"no picture") == 1000
    picture = {"type": "image_url", "image_url": {"url": "media:x"}}
    words = {"type": "text", "text": "a" * 40}
    media = {"x": stream.getvalue()}
    assert count_messages([{"role": "user", "content": "a" * 40}], {}) == 4 + 10
    sent_twice = [{"role": "user", "content": [words, picture, picture]}]
    assert count_messages(sent_twice, media) == 4 + 10 + 2 * 144


def test_prices_come_from_the_settings_then_from_the_table() -> None:
    deepseek = EndpointSettings(base_url="https://api.deepseek.com", model="deepseek-flash")
    price = price_of(deepseek)
    assert price is not None
    assert price.usd(prompt_tokens=1_000_000, completion_tokens=1_000_000) == pytest.approx(1.5)
    own = EndpointSettings(
        base_url="http://localhost:8000/v1",
        model="m",
        usd_per_million_input=0,
        usd_per_million_output=0,
    )
    assert price_of(own) is not None
    unknown = own.model_copy(update={"usd_per_million_output": None})
    require_prices([deepseek, own])
    with pytest.raises(BudgetError, match=r"m at localhost costs.*usd_per_million_input"):
        require_prices([deepseek, unknown])


def test_an_endpoints_name_holds_no_password_and_no_query() -> None:
    class Settings:
        base_url = "https://me:secret@host:8000/v1/?key=secret"
        model = "m"

    assert endpoint_id(Settings()) == "https://host:8000/v1 m"  # pyright: ignore
