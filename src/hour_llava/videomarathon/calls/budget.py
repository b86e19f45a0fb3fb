"""What may be spent: dollars, calls and tokens of a build, over all its runs.

A call first reserves the most that it can cost; what it did cost takes the reservation's place. So
the caps are never passed by an answered call, whatever comes back, and however many workers share
the budget. Under Ray one actor holds it; all arguments are plain.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from hour_llava.errors import BudgetError
from hour_llava.videomarathon.calls.ledger import Spent

TICKET_SECONDS = 1800.0
"""A reservation this old still counts, and is no longer waited for."""


@dataclass(frozen=True, kw_only=True)
class BudgetCaps:
    """The most that all runs of a build may spend; None is no cap."""

    max_usd: float | None = None
    max_calls: int | None = None
    max_tokens: int | None = None


class BudgetLike(Protocol):
    """What a caller needs of a budget, wherever it lives."""

    async def reserve(self, usd: float | None, tokens: int) -> int: ...

    async def settle(self, ticket: int, usd: float | None, tokens: int) -> None: ...

    async def refund(self, ticket: int) -> None: ...


class Budget:
    """Counts what is spent and what is reserved.

    Args:
        caps: The limits.
        spent: What earlier runs have spent (`Ledger.totals`).
        clock: Seconds.
    """

    def __init__(
        self,
        caps: BudgetCaps,
        spent: Spent | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        spent = spent or Spent()
        self.caps = caps
        self.usd, self.calls, self.tokens = spent.usd, spent.calls, spent.tokens
        self._reserved: dict[int, tuple[float, int, float]] = {}
        self._clock = clock
        self._num_tickets = 0
        self._changed = asyncio.Condition()

    async def reserve(self, usd: float | None, tokens: int) -> int:
        """Set aside what one call may cost at most; returns a ticket.

        Where only calls that are under way stand in between, it waits for them.

        Raises:
            BudgetError: it would not fit, or its price is unknown under `--max-usd`.
        """
        async with self._changed:
            while (fault := self._fault(usd, tokens)) is not None:
                left = self._seconds_to_wait()
                if left <= 0:
                    raise BudgetError(fault)
                with suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await self._changed.wait()
            self._num_tickets += 1
            until = self._clock() + TICKET_SECONDS
            self._reserved[self._num_tickets] = (usd or 0.0, tokens, until)
            return self._num_tickets

    def _seconds_to_wait(self) -> float:
        """Say how long a call under way may still come back; a killed worker's never does."""
        latest = max((until for _, _, until in self._reserved.values()), default=0.0)
        return latest - self._clock()

    async def settle(self, ticket: int, usd: float | None, tokens: int) -> None:
        """Count what a call did cost."""
        await self.refund(ticket)
        self.usd, self.calls, self.tokens = (
            self.usd + (usd or 0.0),
            self.calls + 1,
            (self.tokens + tokens),
        )

    async def refund(self, ticket: int) -> None:
        """Give back a reservation."""
        async with self._changed:
            self._reserved.pop(ticket, None)
            self._changed.notify_all()

    async def spent(self) -> tuple[float, int, int]:
        """Return dollars, calls and tokens so far, for progress displays."""
        return self.usd, self.calls, self.tokens

    def _fault(self, usd: float | None, tokens: int) -> str | None:
        caps, reserved = self.caps, self._reserved.values()
        if caps.max_usd is not None:
            if usd is None:
                return "--max-usd cannot be kept: the price is unknown; set it in build.toml"
            after = self.usd + sum(r[0] for r in reserved) + usd
            if after > caps.max_usd:
                return _spent_line("--max-usd", f"${self.usd:.2f}", f"${caps.max_usd:g}")
        if caps.max_calls is not None and self.calls + len(reserved) + 1 > caps.max_calls:
            return _spent_line("--max-calls", f"{self.calls:,}", f"{caps.max_calls:,}")
        if caps.max_tokens is not None:
            after = self.tokens + sum(r[1] for r in reserved) + tokens
            if after > caps.max_tokens:
                return _spent_line("--max-tokens", f"{self.tokens:,}", f"{caps.max_tokens:,}")
        return None


def _spent_line(flag: str, spent: str, cap: str) -> str:
    return (
        f"the budget is spent: {spent} of {flag} {cap}, and the next call might pass it; "
        "what was paid for is kept: raise it to go on"
    )
