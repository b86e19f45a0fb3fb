"""The executor of a Ray cluster: ids travel, workers open files and commit.

    driver --(unit ids, part names)--> ray.data batches --> workers: read, run, commit
                                                            |
       limits, budget, stop: zero-CPU actors, shared -------+   outcomes (ids again) --> driver

Ray protects no paid call, so nothing rests on it: ledger and part files do, as in the local
executor, and the same stages give the same bytes.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUntypedFunctionDecorator=false
from __future__ import annotations

import asyncio
import logging
import os
import pickle
import socket
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from hour_llava.errors import BuildError, EndpointError
from hour_llava.videomarathon.build import Build
from hour_llava.videomarathon.calls.budget import Budget, BudgetCaps
from hour_llava.videomarathon.calls.ledger import Spent
from hour_llava.videomarathon.calls.limits import Limits, Outcome, make_limits
from hour_llava.videomarathon.executors.job import Cost, Job, OnOutcome, Stop
from hour_llava.videomarathon.executors.local import batches, num_lanes, run_lanes
from hour_llava.videomarathon.state import Work
from hour_llava.videomarathon.toolbox import Shared, Toolbox

_POLL_SECONDS = 0.5


class RayExecutor:
    """Runs units on a Ray cluster: the one of RAY_ADDRESS, else one started on this machine."""

    def __init__(self, build: Build, *, caps: BudgetCaps, spent: Spent, retries: int = 0) -> None:
        ray = _import_ray()
        self._is_mine = not ray.is_initialized()
        if self._is_mine:
            _start(ray)
        self._build, self._ray = build, ray
        refuse_unseen(build.folder, build.source)
        endpoints = dict(build.settings.endpoints.by_role().items())
        # Named, so that a worker that comes later finds them; none of them takes a core.
        name = f"hour-llava-{uuid.uuid4().hex}"
        options: dict[str, Any] = {"num_cpus": 0, "max_concurrency": 10_000, "name": name}
        self._shared = ray.remote(_SharedActor).options(**options).remote(endpoints, caps, spent)
        self._name = name
        self._retries = retries
        self._cost = Cost(usd=spent.usd, calls=spent.calls, tokens=spent.tokens)

    async def run(self, job: Job, on_outcome: OnOutcome) -> None:
        """Run a stage's units on the cluster until they are done or `job.stop` is asked for."""
        loop = asyncio.get_running_loop()
        finished = asyncio.Event()

        def drive() -> None:
            try:
                for row in self._rows(job):
                    loop.call_soon_threadsafe(_take, row, job.stop, on_outcome)
            finally:
                loop.call_soon_threadsafe(finished.set)

        driving = asyncio.create_task(asyncio.to_thread(drive))
        is_told = False
        while not finished.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(finished.wait(), _POLL_SECONDS)
            if job.stop.reason is not None and not is_told:
                is_told = True
                await self._shared.stop.remote(job.stop.reason, job.stop.message)
            self._cost = await self._shared.cost.remote()
        await driving

    def spent(self) -> Cost:
        """Return what was spent when last asked."""
        return self._cost

    async def close(self) -> None:
        """End the actors, and the cluster where it is ours."""
        if self._is_mine:
            await asyncio.to_thread(self._ray.shutdown)
        else:
            self._ray.kill(self._shared)

    def _rows(self, job: Job) -> Iterator[dict[str, Any]]:
        data = __import__("ray.data").data
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        context = data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        num_workers = max(1, int(self._ray.cluster_resources().get("CPU", 1)))
        lanes = num_lanes(self._build, job.stage)
        size = max(1, min(lanes, -(-len(job.work) // num_workers)))
        items = [{"units": pickle.dumps(batch)} for batch in batches(job.work, size)]
        # Tasks, not actors: Ray keeps their processes from stage to stage, and so what they import.
        rows = data.from_items(items, override_num_blocks=len(items)).flat_map(
            _run_batch,
            fn_kwargs={
                "folder": str(self._build.folder),
                "stage": job.stage,
                "actor": self._name,
                "retries": self._retries,
            },
            compute=data.TaskPoolStrategy(size=min(num_workers, len(items))),
            num_cpus=1,
        )
        yield from rows.iter_rows()


def _take(row: dict[str, Any], stop: Stop, on_outcome: OnOutcome) -> None:
    outcome = pickle.loads(row["outcome"])
    if isinstance(outcome, tuple):
        stop.ask(outcome[0], outcome[1])
    else:
        on_outcome(outcome)


class _SharedActor:
    """Limits, budget and the flag to stop, for all workers of a run."""

    def __init__(self, endpoints: dict[str, Any], caps: BudgetCaps, spent: Spent) -> None:
        self._limits: Limits = make_limits(endpoints)
        self._budget = Budget(caps, spent)
        self._stop = Stop()

    async def acquire(self, endpoint: str) -> int:
        return await self._limits.acquire(endpoint)

    async def release(
        self, endpoint: str, permit: int, outcome: Outcome, retry_after: float | None, message: str
    ) -> None:
        await self._limits.release(endpoint, permit, outcome, retry_after, message)

    async def reserve(self, usd: float | None, tokens: int) -> int:
        return await self._budget.reserve(usd, tokens)

    async def settle(self, ticket: int, usd: float | None, tokens: int) -> None:
        await self._budget.settle(ticket, usd, tokens)

    async def refund(self, ticket: int) -> None:
        await self._budget.refund(ticket)

    async def cost(self) -> Cost:
        return Cost(usd=self._budget.usd, calls=self._budget.calls, tokens=self._budget.tokens)

    async def stop(self, reason: Any, message: str) -> None:
        self._stop.ask(reason, message)

    async def stopped(self) -> Stop:
        return self._stop


class _Proxy:
    """Limits and budget of the actor, as a caller wants them; errors come as they were raised."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    async def acquire(self, endpoint: str) -> int:
        return await self._call(self._actor.acquire, endpoint)

    async def release(
        self,
        endpoint: str,
        permit: int,
        outcome: Outcome,
        retry_after: float | None = None,
        message: str = "",
    ) -> None:
        await self._call(self._actor.release, endpoint, permit, outcome, retry_after, message)

    async def reserve(self, usd: float | None, tokens: int) -> int:
        return await self._call(self._actor.reserve, usd, tokens)

    async def settle(self, ticket: int, usd: float | None, tokens: int) -> None:
        await self._call(self._actor.settle, ticket, usd, tokens)

    async def refund(self, ticket: int) -> None:
        await self._call(self._actor.refund, ticket)

    @staticmethod
    async def _call(method: Any, *arguments: Any) -> Any:
        from ray.exceptions import RayActorError, RayTaskError

        try:
            return await method.remote(*arguments)
        except RayTaskError as error:
            raise error.cause or error from None
        except RayActorError as error:  # no fault of the unit: the run ends
            raise EndpointError(
                f"what shares limits and budget between the workers is gone ({error}); run again "
                "to go on"
            ) from error


def _run_batch(
    row: dict[str, Any], *, folder: str, stage: str, actor: str, retries: int
) -> list[dict[str, Any]]:
    return _Worker(folder, stage, actor, retries)(row)


class _Worker:
    """Runs batches of one stage's units: its own ledger, the run's limits and budget."""

    def __init__(self, folder: str, stage: str, actor: str, retries: int) -> None:
        self._build, self._stage, self._retries = Build.open(folder), stage, retries
        self._actor = _import_ray().get_actor(actor)
        self._writer = f"ray-{socket.gethostname()}-{os.getpid()}"

    def __call__(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        found = asyncio.run(self._run(pickle.loads(row["units"])))
        return [{"outcome": pickle.dumps(one)} for one in found]

    async def _run(self, work: list[Work]) -> list[Any]:
        found: list[Any] = []
        stop: Stop = await self._actor.stopped.remote()
        if stop.reason is not None:
            return found
        proxy = _Proxy(self._actor)
        toolbox = Toolbox(
            self._build,
            shared=Shared(limits=proxy, budget=proxy),
            writer=self._writer,
            num_decoders=1,
            retries=self._retries,
        )
        watching = asyncio.create_task(self._watch(stop))
        try:
            toolbox.expect_clips(Counter(w.video_id or "" for w in work))
            job = Job(stage=self._stage, work=work, retries=self._retries, stop=stop)
            await run_lanes(self._build, job, toolbox.tools, found.append)
        finally:
            watching.cancel()
            await toolbox.close()
        if stop.reason is not None:
            await self._actor.stop.remote(stop.reason, stop.message)
            found.append((stop.reason, stop.message))
        return found

    async def _watch(self, stop: Stop) -> None:
        while stop.reason is None:
            await asyncio.sleep(_POLL_SECONDS)
            other: Stop = await self._actor.stopped.remote()
            if other.reason is not None:
                stop.ask(other.reason, other.message)


def refuse_unseen(build: Path, source: Path) -> None:
    """Ask every node of the cluster whether it sees the build folder and the videos.

    Raises:
        BuildError: names the node and the folder that it does not see.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    token = uuid.uuid4().hex
    mark = build / "cache" / f"seen-by-ray-{token}"
    try:
        mark.parent.mkdir(exist_ok=True)
        mark.write_text(token)
        for node in ray.nodes():
            if node["Alive"]:
                where = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                look = ray.remote(_unseen).options(num_cpus=0, scheduling_strategy=where)
                unseen = ray.get(look.remote(str(mark), token, str(source)))
                if unseen:
                    raise BuildError(
                        f"{unseen}: Ray's node {node['NodeManagerHostname']} does not see this; "
                        "put build and videos on a disk that all nodes share, at the same path, "
                        "or take --executor local"
                    )
    finally:
        mark.unlink(missing_ok=True)


def _unseen(mark: str, token: str, source: str) -> str | None:
    try:
        if Path(mark).read_text() != token:
            return str(Path(mark).parents[1])
    except OSError:
        return str(Path(mark).parents[1])
    return None if Path(source).is_dir() else source


def _start(ray: Any) -> None:
    """Join the cluster, or start one; a busy machine may miss Ray's 30 s, so it is tried again."""
    address = os.environ.get("RAY_ADDRESS")
    for is_last in (False, False, True):
        try:
            ray.init(
                address=address, include_dashboard=False, log_to_driver=False, logging_level="ERROR"
            )
            return
        except Exception as error:  # Ray raises plain ones
            ray.shutdown()
            if is_last:
                where = f"the cluster at {address}" if address else "on this machine"
                raise BuildError(
                    f"Ray did not start {where} ({error}); try again when the machine is less "
                    "busy, or take --executor local"
                ) from error


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise BuildError(
            "--executor ray needs Ray: pip install 'hour-llava[ray]', or take --executor local"
        ) from error
    return ray
