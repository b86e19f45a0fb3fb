"""The budget: reservations hold, earlier runs count, and only what is under way is waited for."""

from __future__ import annotations

import asyncio
import pickle

import pytest

from hour_llava.errors import BudgetError
from hour_llava.videomarathon.calls.budget import TICKET_SECONDS, Budget, BudgetCaps
from hour_llava.videomarathon.calls.ledger import Spent


def test_a_call_that_fits_only_after_another_has_cost_less_waits_for_it() -> None:
    async def work() -> tuple[bool, tuple[float, int, int]]:
        budget = Budget(BudgetCaps(max_usd=1.0))
        first = await budget.reserve(0.8, 100)
        second = asyncio.create_task(budget.reserve(0.8, 100))
        await asyncio.sleep(0.01)
        is_waiting = not second.done()
        await budget.settle(first, 0.1, 20)
        await budget.refund(await second)
        return is_waiting, await budget.spent()

    assert asyncio.run(work()) == (True, (0.1, 1, 20))


def test_where_nothing_is_under_way_the_refusal_comes_at_once() -> None:
    budget = Budget(BudgetCaps(max_tokens=1000), Spent(calls=3, prompt_tokens=950))
    with pytest.raises(BudgetError, match=r"950 of --max-tokens 1,000.*raise it"):
        asyncio.run(budget.reserve(None, 51))
    assert asyncio.run(budget.reserve(None, 50)) == 1


def test_calls_under_way_that_spend_all_refuse_who_waits() -> None:
    async def work() -> list[object]:
        budget = Budget(BudgetCaps(max_calls=1))
        first = await budget.reserve(None, 1)
        waiting = [asyncio.create_task(budget.reserve(None, 1)) for _ in range(3)]
        await asyncio.sleep(0.01)
        await budget.settle(first, None, 1)
        return list(await asyncio.gather(*waiting, return_exceptions=True))

    assert [type(fault) for fault in asyncio.run(work())] == [BudgetError] * 3


def test_without_caps_nothing_is_refused_and_prices_need_not_be_known() -> None:
    async def work() -> tuple[float, int, int]:
        budget = Budget(BudgetCaps())
        for _ in range(3):
            await budget.settle(await budget.reserve(None, 10**9), None, 7)
        return await budget.spent()

    assert asyncio.run(work()) == (0.0, 3, 21)


def test_caps_and_sums_travel_to_an_actor() -> None:
    parts = BudgetCaps(max_usd=2.0), Spent(calls=1, usd=0.5)
    assert pickle.loads(pickle.dumps(parts)) == parts


def test_a_killed_workers_reservation_counts_and_is_not_waited_for_for_ever() -> None:
    now = 0.0

    async def work() -> None:
        nonlocal now
        budget = Budget(BudgetCaps(max_calls=2), clock=lambda: now)
        await budget.reserve(None, 1)  # its worker is killed
        now = TICKET_SECONDS + 1
        alive = await budget.reserve(None, 1)
        waiting = asyncio.create_task(budget.reserve(None, 1))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        await budget.settle(alive, None, 1)
        await waiting

    with pytest.raises(BudgetError, match="1 of --max-calls 2"):
        asyncio.run(asyncio.wait_for(work(), 10))
