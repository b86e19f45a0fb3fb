"""An API key reaches the server's Authorization header, and nothing else."""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hour_llava.cli import main
from hour_llava.errors import EndpointError
from hour_llava.videomarathon.calls.request import CallResult

KEY, WRONG = "sk-hour-llava-4f81c2d9e6", "sk-hour-llava-wrong-77aa"


def texts_under(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def locked_mock(start_mock: Callable[..., Any]) -> Any:
    environment = {**os.environ, "SERVER_KEY": KEY}
    return start_mock("--key-env", "SERVER_KEY", env=environment)


def test_a_key_is_sent_but_never_kept_logged_or_pickled(
    locked_mock: Any,
    desk: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("TEST_KEY", KEY)
    here = desk(locked_mock, api_key_env="TEST_KEY")
    results = here.ask(1, 2)
    assert all(isinstance(result, CallResult) for result in results)
    out, err = capfd.readouterr()
    seen = out + err + caplog.text + repr(results) + repr(here.endpoint)
    assert KEY not in seen
    assert KEY.encode() not in texts_under(here.folder.parent)
    assert KEY.encode() not in pickle.dumps((here.endpoint, results))


def test_a_wrong_key_that_the_server_echoes_stays_out_of_the_error(
    locked_mock: Any, desk: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_KEY", WRONG)
    here = desk(locked_mock, api_key_env="TEST_KEY")
    (fault,) = here.ask(1)
    assert isinstance(fault, EndpointError)
    assert "the key in TEST_KEY" in str(fault)
    assert "[key]" in str(fault)
    chain, links = fault, []
    while chain is not None:
        links.append(repr(chain))
        chain = chain.__cause__
    assert WRONG not in "".join(links)
    assert WRONG.encode() not in texts_under(here.folder.parent)


def test_a_missing_key_is_named_by_its_variable(
    locked_mock: Any, desk: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TEST_KEY", raising=False)
    (fault,) = desk(locked_mock, api_key_env="TEST_KEY").ask(1)
    assert isinstance(fault, EndpointError)
    assert "export TEST_KEY=" in str(fault)


def build_toml(folder: Path, url: str, key_env: str, **captioner: Any) -> Path:
    lines = [f'source = "{folder}"']
    for role, model in (("captioner", "mock-captioner"), ("llm", "mock-llm")):
        lines += [f"[endpoints.{role}]", f'base_url = "{url}"', f'model = "{model}"']
        lines += [f'api_key_env = "{key_env}"', "timeout_seconds = 10"]
        lines += [f"images = {str(role == 'captioner').lower()}"]
    (folder / "build.toml").write_text("\n".join(lines) + "\n")
    return folder


def test_doctor_tries_every_endpoint_and_says_no_key(
    locked_mock: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = build_toml(tmp_path, locked_mock.url, "TEST_KEY")
    monkeypatch.setenv("TEST_KEY", KEY)
    assert main(["synth", "doctor", str(folder)]) == 0
    out = capsys.readouterr().out
    assert KEY not in out
    assert "captioner: pictures" in out
    assert "mock-llm is one of 2" in out
    assert "by way of json_schema" in out
    assert "--max-usd is refused" in out
    monkeypatch.setenv("TEST_KEY", WRONG)
    assert main(["synth", "doctor", str(folder)]) == 1
    out = capsys.readouterr().out
    assert "FAIL" in out and "the key is wrong or missing" in out
    assert WRONG not in out


def test_a_key_of_one_letter_does_not_change_the_answers(
    start_mock: Callable[..., Any], desk: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    mock = start_mock("--key-env", "SERVER_KEY", env={**os.environ, "SERVER_KEY": "a"})
    monkeypatch.setenv("TEST_KEY", "a")
    (result,) = desk(mock, api_key_env="TEST_KEY").ask(1)
    assert isinstance(result, CallResult)
    assert "[key]" not in repr(result)
