"""The mock server as a process of its own, and a caller that asks it over loopback."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hour_llava.videomarathon.calls.budget import Budget, BudgetCaps
from hour_llava.videomarathon.calls.caller import Caller, RetryPolicy
from hour_llava.videomarathon.calls.ledger import Ledger
from hour_llava.videomarathon.calls.limits import LimitPolicy, Limits, endpoint_id
from hour_llava.videomarathon.calls.request import CallRequest
from hour_llava.videomarathon.settings import EndpointSettings

KEY = "Global-Level Description"
SCHEMA = {
    "title": "Sentence",
    "type": "object",
    "properties": {KEY: {"type": "string"}},
    "required": [KEY],
}
# Waits of real runs, scaled down a hundredfold.
FAST_RETRY = RetryPolicy(base_seconds=0.01, max_seconds=0.05)
FAST_LIMITS = LimitPolicy(open_seconds=0.02, max_open_seconds=0.1)


@dataclass(frozen=True, kw_only=True)
class Mock:
    """A running mock server."""

    url: str

    def stats(self) -> dict[str, Any]:
        with urllib.request.urlopen(self.url.replace("/v1", "/mock/stats")) as response:
            return json.loads(response.read())


@pytest.fixture
def start_mock() -> Iterator[Callable[..., Mock]]:
    """Start `hour-llava synth mock-server` with these words; ended with the test."""
    processes: list[subprocess.Popen[str]] = []

    def start(*words: str, env: dict[str, str] | None = None) -> Mock:
        command = [sys.executable, "-m", "hour_llava.cli", "synth", "mock-server", *words]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
        )
        processes.append(process)
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url, process.communicate()[1]
        return Mock(url=url)

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@dataclass(kw_only=True)
class Desk:
    """A caller with its ledger, limits and budget, made inside the event loop that uses it."""

    endpoint: EndpointSettings
    folder: Path
    caps: BudgetCaps = field(default_factory=BudgetCaps)
    policy: LimitPolicy = FAST_LIMITS
    retry: RetryPolicy = FAST_RETRY
    max_reasks: int = 2

    def run(self, work: Callable[[Caller], Coroutine[Any, Any, Any]]) -> Any:
        """Run `work` with a fresh caller, as a new run of a build would."""
        return asyncio.run(self._run(work))

    async def _run(self, work: Callable[[Caller], Coroutine[Any, Any, Any]]) -> Any:
        ledger = Ledger.open(self.folder)
        caller = Caller(
            {"llm": self.endpoint, "captioner": self.endpoint},
            ledger,
            Limits({endpoint_id(self.endpoint): self.policy}),
            Budget(self.caps, ledger.totals()),
            max_reasks=self.max_reasks,
            retry=self.retry,
        )
        try:
            return await work(caller)
        finally:
            await caller.close()
            ledger.close()

    def ask(self, *numbers: int, **changes: Any) -> list[Any]:
        """Ask a question a number, all at once; failures are returned."""

        async def work(caller: Caller) -> list[Any]:
            calls = (caller.call(question(n, **changes), check) for n in numbers)
            return await asyncio.gather(*calls, return_exceptions=True)

        return self.run(work)


def check(value: dict[str, Any]) -> None:
    if not isinstance(value.get(KEY), str):
        raise ValueError(f"{KEY} is missing")


def question(number: int, **changes: Any) -> CallRequest:
    messages = [
        {"role": "system", "content": "You tell of videos."},
        {"role": "user", "content": f"[0-30s] A man lifts box {number}: he does."},
    ]
    values: dict[str, Any] = {"role": "llm", "messages": messages, "schema": SCHEMA}
    return CallRequest(**{**values, "schema_name": "Sentence", "stage": "test"} | changes)


@pytest.fixture
def desk(tmp_path: Path) -> Callable[..., Desk]:
    """Make a desk for a server; keyword arguments change the endpoint's settings or the desk."""

    def make(mock: Mock | str, **changes: Any) -> Desk:
        url = mock if isinstance(mock, str) else mock.url
        parts = {k: changes.pop(k) for k in list(changes) if k in Desk.__dataclass_fields__}
        endpoint = EndpointSettings(
            **{"base_url": url, "model": "mock-llm", "timeout_seconds": 10.0, **changes}
        )
        return Desk(endpoint=endpoint, folder=tmp_path / "calls", **parts)

    return make
