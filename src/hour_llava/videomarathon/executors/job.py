"""What an executor is given: units of one stage, and a flag that says when to stop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from hour_llava.videomarathon.state import Work
from hour_llava.videomarathon.unit import Outcome, Reason

OnOutcome = Callable[[Outcome], None]


@dataclass(kw_only=True)
class Stop:
    """Asks a run to end: units under way end, none is begun any more. The first reason counts."""

    reason: Reason | None = None
    message: str = ""

    def ask(self, reason: Reason, message: str) -> None:
        """Ask for the end."""
        if self.reason is None:
            self.reason, self.message = reason, message


@dataclass(frozen=True, kw_only=True)
class Job:
    """Units of one stage; `retries` is how often `synth retry` gave them a new chance."""

    stage: str
    work: Sequence[Work]
    retries: int = 0
    stop: Stop = field(default_factory=Stop)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What calls came to: those of a stage in this run, or of all runs of a build."""

    usd: float = 0.0
    calls: int = 0
    tokens: int = 0

    def __sub__(self, other: Cost) -> Cost:
        return Cost(
            usd=self.usd - other.usd,
            calls=self.calls - other.calls,
            tokens=self.tokens - other.tokens,
        )


class Executor(Protocol):
    """Runs jobs, one after the other."""

    async def run(self, job: Job, on_outcome: OnOutcome) -> None:
        """Run units, commit them, and report each; returns when the last has ended."""
        ...

    def spent(self) -> Cost:
        """Return what is spent so far."""
        ...

    async def close(self) -> None:
        """Let go of everything."""
        ...
