"""How fast an endpoint may be asked: one set of limits for all workers.

    window    concurrency that adapts: it grows with answers and halves when the endpoint is pressed
              (429, 5xx, time-outs), never above the settings' `max_concurrency`
    pace      requests a minute, evenly spaced
    pause     what Retry-After asks for holds for everybody
    breaker   after failures in a row nobody asks for a while; then one asks; an endpoint that stays
              dumb through all pauses, or refuses the key, is dead: who waits gets an EndpointError

Permits are leases: those of a killed worker come back by themselves. Under Ray one actor holds the
limits; all arguments are plain.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol
from urllib.parse import urlsplit

from hour_llava.errors import EndpointError

if TYPE_CHECKING:
    from hour_llava.videomarathon.settings import EndpointSettings

Outcome = Literal["answered", "pressed", "failed", "refused", "fatal", "cancelled"]
"""answered · pressed: 429, 503 · failed: 5xx, time-out, cut · refused: 400 · fatal: 401, 404."""

_FIRST_WINDOW = 4.0


@dataclass(frozen=True, kw_only=True)
class LimitPolicy:
    """An endpoint's limits.

    Args:
        max_concurrency: Requests under way at once, at most.
        requests_per_minute: None is no pace.
        lease_seconds: When a permit that was not given back is free again.
        max_pause_seconds: Of a Retry-After, no more than this is believed.
        failures_to_open: Failures in a row that open the breaker.
        open_seconds: How long it stays open first; each time in a row doubles it.
        max_open_seconds: And no longer than this.
        max_openings: Openings in a row after which the endpoint is dead.
    """

    max_concurrency: int = 8
    requests_per_minute: float | None = None
    lease_seconds: float = 300.0
    max_pause_seconds: float = 600.0
    failures_to_open: int = 5
    open_seconds: float = 5.0
    max_open_seconds: float = 60.0
    max_openings: int = 6


class LimitsLike(Protocol):
    """What a caller needs of the limits, wherever they live."""

    async def acquire(self, endpoint: str) -> int: ...

    async def release(
        self,
        endpoint: str,
        permit: int,
        outcome: Outcome,
        retry_after: float | None = None,
        message: str = "",
    ) -> None: ...


class Limits:
    """The limits of all endpoints of a build, by endpoint id."""

    def __init__(self, policies: Mapping[str, LimitPolicy]) -> None:
        self._gates = {endpoint: _Gate(endpoint, policy) for endpoint, policy in policies.items()}

    async def acquire(self, endpoint: str) -> int:
        """Wait until a request may go out; returns a permit.

        Raises:
            EndpointError: the endpoint is dead.
        """
        return await self._gates[endpoint].acquire()

    async def release(
        self,
        endpoint: str,
        permit: int,
        outcome: Outcome,
        retry_after: float | None = None,
        message: str = "",
    ) -> None:
        """Give a permit back and say how the request went."""
        self._gates[endpoint].release(permit, outcome, retry_after, message)

    async def window(self, endpoint: str) -> int:
        """Return how many requests may be under way at present, for progress displays."""
        return int(self._gates[endpoint].window)


def endpoint_id(endpoint: EndpointSettings) -> str:
    """Name an endpoint: base URL without user and query, and model."""
    parts = urlsplit(endpoint.base_url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path.rstrip('/')} {endpoint.model}"


def policy_of(endpoint: EndpointSettings) -> LimitPolicy:
    """Return an endpoint's policy from its settings."""
    return LimitPolicy(
        max_concurrency=endpoint.max_concurrency,
        requests_per_minute=endpoint.requests_per_minute,
        lease_seconds=2 * endpoint.timeout_seconds + 60,
    )


def make_limits(endpoints: Mapping[str, EndpointSettings]) -> Limits:
    """Build the limits of a build's endpoints; roles that share an endpoint share its limits."""
    return Limits({endpoint_id(e): policy_of(e) for e in endpoints.values()})


@dataclass(kw_only=True)
class _Lease:
    expires_at: float
    window_age: int


@dataclass
class _Gate:
    """One endpoint's state; all of it in one event loop."""

    endpoint: str
    policy: LimitPolicy
    window: float = 0.0
    _is_starting: bool = True  # double until the first sign of pressure, then grow by ones
    _window_age: int = 0
    _next_at: float = 0.0
    _failures: int = 0
    _openings: int = 0
    _opened_after: int = 0  # the last permit before the breaker opened
    _dead: str | None = None
    _num_permits: int = 0
    _leases: dict[int, _Lease] = field(default_factory=dict[int, _Lease])
    _waiting: deque[asyncio.Future[int]] = field(default_factory=deque["asyncio.Future[int]"])
    _timer: asyncio.TimerHandle | None = None

    def __post_init__(self) -> None:
        self.window = min(_FIRST_WINDOW, self.policy.max_concurrency)

    async def acquire(self) -> int:
        turn: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._pump()
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.release(turn.result(), "cancelled", None, "")
            raise

    def release(
        self, permit: int, outcome: Outcome, retry_after: float | None, message: str
    ) -> None:
        lease = self._leases.pop(permit, None)
        window_age = lease.window_age if lease else self._window_age
        if outcome in ("answered", "refused"):
            self._alive()
        elif outcome == "fatal":
            self._dead = message
        elif outcome == "pressed":  # busy, so alive
            self._shrink(window_age)
            self._failures = self._openings = 0
        elif outcome == "failed":
            self._shrink(window_age)
            self._count_failure(permit, message)
        if retry_after is not None:
            pause = min(retry_after, self.policy.max_pause_seconds)
            self._next_at = max(self._next_at, time.monotonic() + pause)
        self._pump()

    def _alive(self) -> None:
        self._failures = self._openings = 0
        grown = self.window + (1.0 if self._is_starting else 1.0 / self.window)
        self.window = min(grown, self.policy.max_concurrency)

    def _shrink(self, window_age: int) -> None:
        """Halve, once for all requests that were under way together."""
        if window_age == self._window_age:
            self.window = max(1.0, self.window / 2)
            self._window_age += 1
            self._is_starting = False

    def _count_failure(self, permit: int, message: str) -> None:
        self._failures += 1
        if self._failures < self.policy.failures_to_open:
            return
        if self._openings and permit <= self._opened_after:
            return  # went out before the breaker opened
        self._openings += 1
        self._opened_after = self._num_permits
        if self._openings > self.policy.max_openings:
            self._dead = (
                f"{self.endpoint} does not answer, after {self._failures} failures in a row "
                f"(last: {message}); check that it runs (`hour-llava synth doctor`), then run again"
            )
            return
        pause = self.policy.open_seconds * 2 ** (self._openings - 1)
        until = time.monotonic() + min(pause, self.policy.max_open_seconds)
        self._next_at = max(self._next_at, until)

    def _pump(self) -> None:
        """Hand out permits while there are any; else come back when there may be one."""
        while self._waiting:
            if self._waiting[0].done():  # who waited was cancelled
                self._waiting.popleft()
            elif self._dead is not None:
                self._waiting.popleft().set_exception(EndpointError(self._dead))
            elif (delay := self._delay(time.monotonic())) > 0:
                self._wake_in(delay)
                return
            else:
                self._grant(self._waiting.popleft())

    def _delay(self, now: float) -> float:
        """Return the seconds until the next permit; a large number while all are lent."""
        if now < self._next_at:
            return self._next_at - now
        for permit in [p for p, lease in self._leases.items() if lease.expires_at <= now]:
            del self._leases[permit]
        window = 1 if self._openings else int(self.window)
        if len(self._leases) < window:
            return 0.0
        return min(lease.expires_at for lease in self._leases.values()) - now

    def _grant(self, turn: asyncio.Future[int]) -> None:
        now = time.monotonic()
        self._num_permits += 1
        self._leases[self._num_permits] = _Lease(
            expires_at=now + self.policy.lease_seconds, window_age=self._window_age
        )
        if self.policy.requests_per_minute:
            self._next_at = now + 60.0 / self.policy.requests_per_minute
        turn.set_result(self._num_permits)

    def _wake_in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds + 0.001, self._pump)
