"""Limits: the window adapts, the pace holds, the breaker opens and closes, permits come back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

import pytest

from hour_llava.errors import EndpointError
from hour_llava.videomarathon.calls.limits import (
    LimitPolicy,
    Limits,
    Outcome,
    endpoint_id,
    make_limits,
)
from hour_llava.videomarathon.settings import EndpointSettings

E = "http://host/v1 model"


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 20))


async def turn(limits: Limits, outcome: Outcome = "answered", **details: Any) -> None:
    await limits.release(E, await limits.acquire(E), outcome, **details)


async def could_acquire(limits: Limits, seconds: float = 0.02) -> bool:
    try:
        await asyncio.wait_for(limits.acquire(E), seconds)
    except TimeoutError:
        return False
    return True


def test_the_window_opens_with_answers_up_to_its_maximum() -> None:
    async def work() -> tuple[int, int]:
        limits = Limits({E: LimitPolicy(max_concurrency=6)})
        first = await limits.window(E)
        for _ in range(10):
            await turn(limits)
        return first, await limits.window(E)

    assert run(work()) == (4, 6)


def test_pressure_halves_the_window_once_for_all_that_was_under_way() -> None:
    async def work() -> list[int]:
        limits = Limits({E: LimitPolicy(max_concurrency=16)})
        for _ in range(20):
            await turn(limits)
        permits = [await limits.acquire(E) for _ in range(16)]
        windows = [await limits.window(E)]
        for permit in permits:
            await limits.release(E, permit, "pressed")
        windows.append(await limits.window(E))
        await turn(limits, "pressed")
        windows.append(await limits.window(E))
        for _ in range(8):
            await turn(limits)
        return [*windows, await limits.window(E)]

    assert run(work()) == [16, 8, 4, 5], "halved, halved, then grown by ones"


def test_no_more_permits_are_lent_than_the_window_holds() -> None:
    async def work() -> tuple[bool, bool]:
        limits = Limits({E: LimitPolicy(max_concurrency=2)})
        permit = await limits.acquire(E)
        await limits.acquire(E)
        full = await could_acquire(limits)
        await limits.release(E, permit, "answered")
        return full, await could_acquire(limits)

    assert run(work()) == (False, True)


def test_a_killed_workers_permits_come_back() -> None:
    async def work() -> bool:
        limits = Limits({E: LimitPolicy(max_concurrency=1, lease_seconds=0.05)})
        await limits.acquire(E)
        return await could_acquire(limits, 5)

    assert run(work())


def test_a_cancelled_wait_takes_no_permit() -> None:
    async def work() -> bool:
        limits = Limits({E: LimitPolicy(max_concurrency=1)})
        permit = await limits.acquire(E)
        waiting = [asyncio.create_task(limits.acquire(E)) for _ in range(5)]
        await asyncio.sleep(0)
        await limits.release(E, permit, "answered")  # the first may have it already
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        return await could_acquire(limits, 5)

    assert run(work())


def test_requests_are_paced() -> None:
    async def work() -> float:
        limits = Limits({E: LimitPolicy(requests_per_minute=3000)})
        started = time.monotonic()
        for _ in range(6):
            await turn(limits)
        return time.monotonic() - started

    assert run(work()) >= 5 * 60 / 3000


def test_retry_after_pauses_everybody_but_no_longer_than_believed() -> None:
    async def work() -> tuple[bool, bool]:
        limits = Limits({E: LimitPolicy(max_pause_seconds=0.1)})
        await turn(limits, "pressed", retry_after=10_000.0)
        return await could_acquire(limits), await could_acquire(limits, 5)

    assert run(work()) == (False, True)


def test_the_breaker_opens_after_failures_in_a_row_and_closes_with_an_answer() -> None:
    async def work() -> list[bool]:
        policy = LimitPolicy(failures_to_open=3, open_seconds=0.1, max_concurrency=4)
        limits = Limits({E: policy})
        for _ in range(3):
            await turn(limits, "failed", message="status 500")
        seen = [await could_acquire(limits)]
        probe = await limits.acquire(E)
        seen.append(await could_acquire(limits))
        await limits.release(E, probe, "answered")
        return [*seen, await could_acquire(limits)]

    assert run(work()) == [False, False, True], "open; one probe alone; closed"


def test_an_answer_in_between_keeps_the_breaker_closed() -> None:
    async def work() -> bool:
        limits = Limits({E: LimitPolicy(failures_to_open=3, open_seconds=60)})
        for outcome in ("failed", "failed", "answered") * 4:
            await turn(limits, outcome)
        return await could_acquire(limits)

    assert run(work())


def test_an_endpoint_that_stays_down_is_dead_for_all_who_wait() -> None:
    async def work() -> list[Any]:
        policy = LimitPolicy(failures_to_open=2, open_seconds=0.001, max_openings=2)
        limits = Limits({E: policy})
        with pytest.raises(EndpointError):
            for _ in range(10):
                await turn(limits, "failed", message="connection refused")
        waiting = (limits.acquire(E) for _ in range(3))
        return await asyncio.gather(*waiting, return_exceptions=True)

    faults = run(work())
    assert {type(fault) for fault in faults} == {EndpointError}
    assert "does not answer" in str(faults[0])
    assert "connection refused" in str(faults[0])


def test_a_refused_key_ends_all_waiting() -> None:
    async def work() -> Any:
        limits = Limits({E: LimitPolicy(max_concurrency=1)})
        permit = await limits.acquire(E)
        waiting = asyncio.create_task(limits.acquire(E))
        await asyncio.sleep(0)
        await limits.release(E, permit, "fatal", message="the key is wrong")
        return (await asyncio.gather(waiting, return_exceptions=True))[0]

    assert isinstance(run(work()), EndpointError)


def test_roles_at_one_endpoint_share_its_limits() -> None:
    one = EndpointSettings(base_url="http://host/v1/", model="model", max_concurrency=1)
    other = one.model_copy(update={"temperature": 0.9, "base_url": "http://host/v1"})
    assert endpoint_id(one) == endpoint_id(other) == E

    async def work() -> bool:
        limits = make_limits({"llm": one, "judge": other})
        await limits.acquire(endpoint_id(one))
        return await could_acquire(limits)

    assert not run(work())
