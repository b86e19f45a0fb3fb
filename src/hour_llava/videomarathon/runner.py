"""A run: stage after stage, what is not done yet is done, and the release is sealed.

The run keeps no state of its own: what is done is what stands in the build folder. So a killed run
is resumed by running again, and a second run of a complete build does nothing.
"""

from __future__ import annotations

import asyncio
import shlex
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from hour_llava.errors import BudgetError, BuildError
from hour_llava.videomarathon.build import Build
from hour_llava.videomarathon.calls.budget import BudgetCaps
from hour_llava.videomarathon.calls.ledger import Spent, read_spent
from hour_llava.videomarathon.calls.prices import require_prices
from hour_llava.videomarathon.executors.job import Cost, Executor, Job, Stop
from hour_llava.videomarathon.parts import Failure
from hour_llava.videomarathon.release.seal import SealReport, seal
from hour_llava.videomarathon.state import StageState, State
from hour_llava.videomarathon.toolbox import CALLS
from hour_llava.videomarathon.unit import Outcome

EXIT_COMPLETE, EXIT_QUARANTINED, EXIT_BUDGET, EXIT_FATAL, EXIT_INTERRUPTED = 0, 3, 4, 5, 130

ExecutorName = Literal["local", "ray"]


class Watcher(Protocol):
    """Shows how a run goes."""

    def begin(self, stage: str, *, num_units: int, num_done: int) -> None: ...
    def unit(self, stage: str, outcome: Outcome, spent: Cost) -> None:
        """Take a unit that is done; `spent` is what its stage has spent in this run."""
        ...

    def end(self, stage: str, state: StageState) -> None: ...
    def say(self, text: str) -> None: ...


@dataclass(kw_only=True)
class RunReport:
    """What a run came to.

    `num_failed` units wait for `synth retry`; `num_unanswered` ones met a passing fault and are
    tried again by the next run. `spent` is that of all runs together.
    """

    exit_code: int = EXIT_COMPLETE
    message: str = ""
    num_run: dict[str, int] = field(default_factory=dict[str, int])
    num_failed: int = 0
    num_unanswered: int = 0
    num_held_up: int = 0
    spent: Cost = field(default_factory=Cost)
    sealed: SealReport | None = None

    @property
    def is_idle(self) -> bool:
        """Say whether everything had been done before."""
        is_new = self.sealed is not None and self.sealed.is_new
        return not self.num_run and not is_new and not self.message


def run_build(
    build: Build,
    watcher: Watcher,
    *,
    executor: ExecutorName = "local",
    caps: BudgetCaps | None = None,
    until: str | None = None,
    with_release: bool = True,
) -> RunReport:
    """Run a build to its end, or as far as it can go.

    Args:
        build: The build; locked for the run.
        watcher: Is told of every unit.
        executor: Who does the units.
        caps: What all runs together may spend.
        until: The last stage to run; the release is sealed only without it.
        with_release: Seal at the end.

    Raises:
        BuildError: the folder is in use or cannot be written, the source holds no video, a price
            that `--max-usd` needs is unknown.
    """
    if until is not None:
        build.stage(until)
    with build.lock():
        _check_before(build, caps)
        run = _Run(build, watcher, executor, caps or BudgetCaps(), until)
        return asyncio.run(run.go(with_release=with_release))


def _check_before(build: Build, caps: BudgetCaps | None) -> None:
    if caps is not None and caps.max_usd is not None:
        require_prices(build.settings.endpoints.by_role().values())
        _require_known_spending(build)
    try:
        build.keep_prompts()
        (build.folder / "stages").mkdir(exist_ok=True)
    except OSError as error:
        raise BuildError(
            f"{build.folder}: cannot be written ({error.strerror or error}); a run needs a folder "
            "that it may write and a disk with room"
        ) from error


def _require_known_spending(build: Build) -> None:
    """Refuse `--max-usd` where what was spent before is not known in dollars."""
    spent = _spent_by(build)
    if spent.num_unpriced:
        raise BudgetError(
            f"--max-usd cannot be kept: the price of {spent.num_unpriced:,} of the build's "
            f"{spent.calls:,} calls was unknown when they were made; take --max-calls or "
            "--max-tokens"
        )


def _spent_by(build: Build) -> Spent:
    """Add up what all runs of a build have paid."""
    folder = build.folder / CALLS
    return sum(read_spent(folder).values(), Spent()) if folder.is_dir() else Spent()


class _Run:
    def __init__(
        self,
        build: Build,
        watcher: Watcher,
        executor: ExecutorName,
        caps: BudgetCaps,
        until: str | None,
    ) -> None:
        self._build, self._watcher, self._name, self._caps = build, watcher, executor, caps
        self._until = until
        self._state = State(build)
        self._report = RunReport()
        self._stop = Stop()
        self._executor: Executor | None = None
        self._spent_before = Cost()
        self._retries = read_rounds(build)

    async def go(self, *, with_release: bool) -> RunReport:
        try:
            with _interrupts(self._stop, self._watcher.say):
                await self._stages()
                if self._state.source_fault:
                    self._watcher.say(f"{self._state.source_fault}; all was built before")
        finally:
            if self._executor is not None:
                await self._executor.close()
        if self._stop.reason is None and self._until is None and with_release:
            await self._seal()
        if self._executor is not None:
            self._report.spent = self._spent()
        self._conclude()
        return self._report

    async def _stages(self) -> None:
        for stage in self._build.stages:
            if self._stop.reason is not None:
                return
            state = self._state.of(stage.name)
            for leftover in state.scan.leftovers:
                leftover.unlink(missing_ok=True)
            todo = state.todo()
            if todo and self._state.source_fault:
                raise BuildError(f"{self._state.source_fault}; {len(todo):,} of {stage.name} to do")
            num_done = len(state.work) - len(todo)
            self._watcher.begin(stage.name, num_units=len(state.work), num_done=num_done)
            if todo:
                job = Job(stage=stage.name, work=todo, retries=self._retries, stop=self._stop)
                executor = self._start()
                self._spent_before = executor.spent()
                await executor.run(job, lambda outcome, to=state: self._take(to, outcome))
            self._watcher.end(stage.name, state)
            if stage.name == self._until:
                return

    def _take(self, state: StageState, outcome: Outcome) -> None:
        name = state.stage.name
        state.note(outcome)
        self._report.num_run[name] = self._report.num_run.get(name, 0) + 1
        self._watcher.unit(name, outcome, self._spent() - self._spent_before)
        if isinstance(outcome, Failure):
            self._watcher.say(f"{name}: {outcome.message}")

    def _spent(self) -> Cost:
        return Cost() if self._executor is None else self._executor.spent()

    def _start(self) -> Executor:
        """Make the executor when the first unit needs it."""
        if self._executor is None:
            spent = _spent_by(self._build)
            if self._name == "ray":
                from hour_llava.videomarathon.executors.ray import RayExecutor as Chosen
            else:
                from hour_llava.videomarathon.executors.local import LocalExecutor as Chosen
            self._executor = Chosen(
                self._build, caps=self._caps, spent=spent, retries=self._retries
            )
        return self._executor

    async def _seal(self) -> None:
        try:
            self._report.sealed = await asyncio.to_thread(seal, self._build)
        except BuildError as error:
            self._stop.ask("fatal", str(error))

    def _conclude(self) -> None:
        report = self._report
        known = [stage.name for stage in self._build.stages if self._state.knows(stage.name)]
        states = [self._state.of(name) for name in known]
        report.num_failed = sum(len(state.quarantined()) for state in states)
        report.num_unanswered = sum(len(state.failures) for state in states) - report.num_failed
        report.num_held_up = max((state.num_blocked for state in states), default=0)
        if self._stop.reason is not None:
            codes = {"budget": EXIT_BUDGET, "fatal": EXIT_FATAL, "interrupted": EXIT_INTERRUPTED}
            report.exit_code = codes[self._stop.reason]
            report.message = self._stop.message
        elif report.num_failed or report.num_unanswered:
            report.exit_code = EXIT_QUARANTINED


@contextmanager
def _interrupts(stop: Stop, say: Callable[[str], None]) -> Generator[None]:
    """First Ctrl-C (or TERM) drains, the second one ends at once."""
    loop, main = asyncio.get_running_loop(), asyncio.current_task()

    def interrupt() -> None:
        if stop.reason is None:
            stop.ask("interrupted", "interrupted")
            say("interrupted: ending what is under way; once more ends at once")
        elif main is not None:
            main.cancel()

    signals = (signal.SIGINT, signal.SIGTERM)
    try:
        for number in signals:
            loop.add_signal_handler(number, interrupt)
    except (NotImplementedError, RuntimeError, ValueError):  # not in the main thread, or Windows
        yield
        return
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


def resume_command(folder: Path) -> str:
    """Return what to type to go on."""
    return f"hour-llava synth run {shlex.quote(str(folder))}"


ROUNDS = "retries"


def read_rounds(build: Build) -> int:
    """Return how often `synth retry` was asked for in this build."""
    try:
        return int((build.folder / ROUNDS).read_text())
    except FileNotFoundError:
        return 0
    except (OSError, ValueError) as error:
        raise BuildError(f"{build.folder / ROUNDS}: holds no number ({error}); delete it") from None
