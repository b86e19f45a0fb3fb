"""The executor of one machine: asyncio for calls; videos are decoded in child processes."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Sequence

from hour_llava.videomarathon.build import Build
from hour_llava.videomarathon.calls.budget import Budget, BudgetCaps
from hour_llava.videomarathon.calls.ledger import Spent
from hour_llava.videomarathon.calls.limits import make_limits
from hour_llava.videomarathon.executors.job import Cost, Job, OnOutcome
from hour_llava.videomarathon.stage import Tools
from hour_llava.videomarathon.state import Work
from hour_llava.videomarathon.toolbox import Shared, Toolbox
from hour_llava.videomarathon.unit import HaltError, UnitRunner


class LocalExecutor:
    """Runs units in this process, so many at once as their stage bears."""

    def __init__(self, build: Build, *, caps: BudgetCaps, spent: Spent, retries: int = 0) -> None:
        self._build = build
        self._budget = Budget(caps, spent)
        limits = make_limits(dict(build.settings.endpoints.by_role().items()))
        shared = Shared(limits=limits, budget=self._budget)
        self._toolbox = Toolbox(build, shared=shared, retries=retries)

    async def run(self, job: Job, on_outcome: OnOutcome) -> None:
        """Run a stage's units until they are done or `job.stop` is asked for; then drain."""
        self._toolbox.expect_clips(Counter(w.video_id or "" for w in job.work))
        await run_lanes(self._build, job, self._toolbox.tools, on_outcome)

    def spent(self) -> Cost:
        """Return what is spent so far."""
        budget = self._budget
        return Cost(usd=budget.usd, calls=budget.calls, tokens=budget.tokens)

    async def close(self) -> None:
        """Let go of files and connections."""
        await self._toolbox.close()


async def run_lanes(build: Build, job: Job, tools: Tools, on_outcome: OnOutcome) -> None:
    """Run units side by side in this event loop, until they are done or the job is stopped."""
    runner = UnitRunner(build, build.stage(job.stage), tools)
    waiting = iter(job.work)

    async def lane() -> None:
        for work in waiting:
            if job.stop.reason is not None:
                return
            try:
                on_outcome(await runner.run(work, rounds=job.retries))
            except HaltError as halt:
                job.stop.ask(halt.reason, str(halt))

    num = min(len(job.work), num_lanes(build, job.stage))
    lanes = [asyncio.create_task(lane()) for _ in range(num)]
    try:
        await asyncio.gather(*lanes)
    finally:
        for one in lanes:
            one.cancel()
        await asyncio.gather(*lanes, return_exceptions=True)


def num_lanes(build: Build, stage: str) -> int:
    """Return how many units of a stage are under way at once."""
    definition = build.stage(stage)
    served = [build.settings.endpoints.of(role) for role in definition.roles]
    lanes = sum(endpoint.max_concurrency for endpoint in served if endpoint is not None)
    return max(lanes, 2 * (os.cpu_count() or 1))


def batches(work: Sequence[Work], size: int) -> list[list[Work]]:
    """Cut units into batches that hold one video each."""
    found: list[list[Work]] = []
    for one in work:
        last = found[-1] if found else []
        if last and len(last) < size and last[-1].video_id == one.video_id:
            last.append(one)
        else:
            found.append([one])
    return found
