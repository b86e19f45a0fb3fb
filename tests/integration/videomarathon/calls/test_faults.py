"""The fault matrix: every fault of an endpoint, over real HTTP, with the answer that users get."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from hour_llava.errors import BudgetError, EndpointError
from hour_llava.videomarathon.calls.budget import BudgetCaps
from hour_llava.videomarathon.calls.limits import LimitPolicy
from hour_llava.videomarathon.calls.request import CallResult, media_url
from hour_llava.videomarathon.stage import UnitError

Start = Callable[..., Any]
PICTURE = b"\xff\xd8\xff\xc0\x00\x11\x08\x00\x40\x00\x60\x03" + bytes(20)  # a JPEG's first bytes


def seen_picture() -> dict[str, Any]:
    url = media_url(PICTURE)
    parts = [
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "text", "text": "[0-30s] A man: he walks."},
    ]
    return {
        "role": "captioner",
        "messages": [{"role": "user", "content": parts}],
        "media": {url.removeprefix("media:"): PICTURE},
    }


def rows(folder: Path, columns: str = "*") -> list[tuple[Any, ...]]:
    with sqlite3.connect(folder / "local.sqlite") as connection:
        return connection.execute(f"SELECT {columns} FROM calls ORDER BY id").fetchall()


def test_an_answer_is_kept_with_its_usage_and_read_for_nothing_next_time(
    start_mock: Start, desk: Start
) -> None:
    mock = start_mock()
    here = desk(mock)
    (first,) = here.ask(1)
    assert isinstance(first, CallResult)
    assert first.is_paid_now and first.is_mock
    assert first.parsed["Global-Level Description"].startswith("First")
    (again,) = here.ask(1)
    assert not again.is_paid_now
    assert (again.key, again.parsed) == (first.key, first.parsed)
    assert mock.stats()["answered"] == 1
    ((prompt, completion, tries, step),) = rows(
        here.folder, "prompt_tokens, completion_tokens, tries, step"
    )
    assert (prompt, completion) == (first.prompt_tokens, first.completion_tokens)
    assert prompt > 10 and completion > 5
    assert (tries, step) == (1, "json_schema")


@pytest.mark.parametrize("fault", ["429", "500", "503", "cut"])
def test_a_transient_fault_is_tried_again(fault: str, start_mock: Start, desk: Start) -> None:
    mock = start_mock("--first", "ok", fault, fault, "--retry-after", "0.01")
    here = desk(mock)
    here.ask(1)
    (result,) = here.ask(2)
    assert isinstance(result, CallResult)
    assert rows(here.folder, "tries") == [(1,), (3,)]
    assert mock.stats()["answered"] == 2


def test_a_server_that_hangs_is_left_and_asked_again(start_mock: Start, desk: Start) -> None:
    mock = start_mock("--first", "hang")
    (result,) = desk(mock, timeout_seconds=0.5).ask(1)
    assert isinstance(result, CallResult)
    assert mock.stats()["requests"] == 2


def test_six_tries_are_made_then_the_unit_fails_as_transient(
    start_mock: Start, desk: Start
) -> None:
    mock = start_mock("--fault", "500")
    patient = LimitPolicy(failures_to_open=100)
    (fault,) = desk(mock, policy=patient).ask(1)
    assert isinstance(fault, UnitError)
    assert fault.failure == "transient"
    assert "6 tries" in str(fault) and "500" in str(fault)
    assert mock.stats()["requests"] == 6


def test_retry_after_holds_for_all_workers_of_an_endpoint(start_mock: Start, desk: Start) -> None:
    mock = start_mock("--first", "ok", "429", "--retry-after", "0.3")
    here = desk(mock)

    here.ask(1)
    started = time.monotonic()
    results = here.ask(2, 3, 4)
    assert all(isinstance(result, CallResult) for result in results)
    assert time.monotonic() - started >= 0.3


@pytest.mark.parametrize(
    "fault", ["empty", "whitespace", "loop", "refusal", "not_json", "truncated", "wrong_schema"]
)
def test_an_unusable_answer_is_asked_again_and_both_are_kept(
    fault: str, start_mock: Start, desk: Start
) -> None:
    mock = start_mock("--first", fault)
    here = desk(mock)
    (result,) = here.ask(1)
    assert isinstance(result, CallResult)
    assert rows(here.folder, "reask") == [(0,), (1,)]
    here.ask(1)
    assert mock.stats()["answered"] == 2, "the bad answer and the good one are paid for once"


def test_after_two_reasks_the_unit_fails_for_its_content_and_costs_nothing_again(
    start_mock: Start, desk: Start
) -> None:
    mock = start_mock("--fault", "refusal")
    here = desk(mock)
    for _ in range(2):
        (fault,) = here.ask(1)
        assert isinstance(fault, UnitError)
        assert fault.failure == "content"
        assert "refusal" in str(fault) and "3 times" in str(fault)
    assert mock.stats()["answered"] == 3
    (fault,) = desk(mock, max_reasks=3).ask(1)  # `synth retry`
    assert isinstance(fault, UnitError)
    assert mock.stats()["answered"] == 4


def test_half_a_response_body_is_kept_and_asked_again(start_mock: Start, desk: Start) -> None:
    mock = start_mock("--first", "broken")
    here = desk(mock)
    (result,) = here.ask(1)
    assert isinstance(result, CallResult)
    assert len(rows(here.folder)) == 2


@pytest.mark.parametrize(
    ("faults", "step"),
    [(("no_json_schema",), "json_object"), (("no_json_schema", "no_json_object"), "text")],
)
def test_the_ladder_is_descended_once_and_remembered(
    faults: tuple[str, ...], step: str, start_mock: Start, desk: Start
) -> None:
    mock = start_mock(*(word for fault in faults for word in ("--fault", fault)))
    here = desk(mock)
    results = here.ask(*range(8))
    assert all(isinstance(result, CallResult) for result in results)
    assert set(rows(here.folder, "step, tries")) == {(step, 1)}
    assert mock.stats()["requests"] == 8 + len(faults)
    here.ask(9)
    assert mock.stats()["requests"] == 9 + len(faults), "the next run remembers the step"


def test_blanks_without_end_are_asked_again_a_step_lower(start_mock: Start, desk: Start) -> None:
    here = desk(start_mock("--first", "ok", "whitespace"))
    here.ask(1)
    here.ask(2)
    assert rows(here.folder, "step") == [("json_schema",), ("json_schema",), ("json_object",)]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("401", "the key is wrong or missing"),
        ("404", "no such model or path"),
        ("wrong_model", "'another-model' answered instead"),
        ("400", "refuses every request"),
    ],
)
def test_a_fatal_fault_stops_all_calls_with_one_clear_line(
    fault: str, words: str, start_mock: Start, desk: Start
) -> None:
    mock = start_mock("--fault", fault)
    faults = desk(mock).ask(*range(6))
    assert {type(fault) for fault in faults} == {EndpointError}
    assert all(words in str(fault) and "run again" in str(fault) for fault in faults)
    assert "\n" not in str(faults[0])
    assert mock.stats()["requests"] <= 8, (
        "three steps of the ladder by the first, one by each other"
    )


def test_a_strict_mock_knows_no_other_models(start_mock: Start, desk: Start) -> None:
    mock = start_mock("--strict-models")
    (fault,) = desk(mock, model="mock-llm-9").ask(1)
    assert isinstance(fault, EndpointError)
    assert "mock-llm-9" in str(fault) and "doctor" in str(fault)
    (result,) = desk(mock).ask(1)
    assert isinstance(result, CallResult)


def test_an_endpoint_that_cannot_see_is_named(start_mock: Start, desk: Start) -> None:
    mock = start_mock("--fault", "no_images")
    (fault,) = desk(mock, images=True).ask(1, **seen_picture())
    assert isinstance(fault, EndpointError)
    assert "takes no images" in str(fault) and "captioner" in str(fault)
    (fault,) = desk(mock, images=False).ask(1, **seen_picture())
    assert isinstance(fault, EndpointError)
    assert "images = false" in str(fault)


def test_pictures_travel_as_bytes_and_are_kept_by_content_alone(
    start_mock: Start, desk: Start
) -> None:
    here = desk(start_mock(), images=True)
    (result,) = here.ask(1, **seen_picture())
    assert isinstance(result, CallResult)
    assert result.prompt_tokens >= 12, "96 x 64 pixels are 4 x 3 tokens"
    assert b"data:" not in (here.folder / "local.sqlite").read_bytes()


def test_a_server_that_is_down_is_given_up_after_the_breakers_pauses(desk: Start) -> None:
    policy = LimitPolicy(open_seconds=0.01, max_open_seconds=0.02, max_openings=3)
    faults = desk("http://127.0.0.1:9/v1", policy=policy).ask(*range(10))
    assert any(isinstance(fault, EndpointError) for fault in faults)
    ended = next(fault for fault in faults if isinstance(fault, EndpointError))
    assert "does not answer" in str(ended) and "synth doctor" in str(ended)


def test_under_a_storm_every_call_is_answered_and_none_paid_twice(
    start_mock: Start, desk: Start
) -> None:
    words = ("429:0.1", "500:0.1", "cut:0.05", "empty:0.05", "truncated:0.05", "loop:0.05")
    faults = [word for fault in words for word in ("--fault", fault)]
    mock = start_mock(*faults, "--retry-after", "0.01", "--seed", "3")
    here = desk(mock, max_concurrency=16)
    results = here.ask(*range(120))
    assert [type(result) for result in results].count(CallResult) >= 118
    stats = mock.stats()
    assert stats["answered_twice"] == 0
    assert stats["answered"] == len(rows(here.folder))
    assert stats["most_at_once"] <= 16
    here.ask(*range(120))
    unanswered = sum(not isinstance(result, CallResult) for result in results)
    assert mock.stats()["requests"] <= stats["requests"] + 20 * unanswered


def test_equal_questions_at_once_are_paid_once(start_mock: Start, desk: Start) -> None:
    mock = start_mock("--latency-ms", "50")
    results = desk(mock).ask(1, 1, 1, 1)
    assert len({result.key for result in results}) == 1
    assert sum(result.is_paid_now for result in results) == 1
    assert mock.stats()["requests"] == 1


def test_the_budget_stops_calls_before_it_is_passed_and_counts_all_runs(
    start_mock: Start, desk: Start
) -> None:
    mock = start_mock()
    here = desk(mock, caps=BudgetCaps(max_calls=3))
    results = here.ask(*range(6))
    assert [type(result) for result in results].count(CallResult) == 3
    stopped = [fault for fault in results if isinstance(fault, BudgetError)]
    assert len(stopped) == 3
    assert "3 of --max-calls 3" in str(stopped[0])
    answered = next(n for n, result in enumerate(results) if isinstance(result, CallResult))
    (free,) = here.ask(answered)
    assert isinstance(free, CallResult), "what is paid for can be read at any time"
    assert mock.stats()["requests"] == 3


def test_dollars_are_never_passed_even_with_many_calls_under_way(
    start_mock: Start, desk: Start
) -> None:
    mock = start_mock("--latency-ms", "20")
    price = {"usd_per_million_input": 100.0, "usd_per_million_output": 100.0}
    here = desk(mock, caps=BudgetCaps(max_usd=0.05), max_tokens=100, max_concurrency=8, **price)
    results = here.ask(*range(30))
    assert {type(result) for result in results} == {CallResult, BudgetError}
    spent = sum(usd for (usd,) in rows(here.folder, "usd"))
    assert 0.02 < spent <= 0.05


def test_an_unknown_price_is_refused_under_max_usd(start_mock: Start, desk: Start) -> None:
    mock = start_mock()
    (fault,) = desk(mock, caps=BudgetCaps(max_usd=5.0)).ask(1)
    assert isinstance(fault, BudgetError)
    assert "price is unknown" in str(fault)
    assert mock.stats()["requests"] == 0


def test_a_web_page_is_no_endpoint(desk: Start) -> None:
    page = b"<!doctype html><title>Welcome</title>"

    class Website(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Website) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        (fault,) = desk(f"http://127.0.0.1:{server.server_port}/v1").ask(1)
        server.shutdown()
    assert isinstance(fault, EndpointError)
    assert "no OpenAI-compatible endpoint" in str(fault)
