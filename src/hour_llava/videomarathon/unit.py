"""One unit, wherever it is run: read its inputs, run the stage, commit what comes.

Failures of a unit become a file beside its place; what stops the run is raised as `HaltError`.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from hour_llava.errors import (
    BudgetError,
    BuildError,
    EndpointError,
    HourLlavaError,
    ResourceError,
)
from hour_llava.videomarathon.build import Build
from hour_llava.videomarathon.parts import Failure, Part, PartStore
from hour_llava.videomarathon.records import Clip, Record
from hour_llava.videomarathon.stage import FailureClass, Stage, Tools, Unit, UnitError
from hour_llava.videomarathon.state import Work

Outcome = Part | Failure
Reason = Literal["budget", "fatal", "interrupted"]
_KEPT_PARTS = 64


class HaltError(Exception):
    """The run cannot go on: nothing more may be spent, or nothing more can be done."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason


class UnitRunner:
    """Runs units of one stage of a build with the tools of this process."""

    def __init__(self, build: Build, stage: Stage, tools: Tools) -> None:
        self._build, self._stage, self._tools = build, stage, tools
        self._store = build.store(stage.name)
        self._stores: dict[str, PartStore] = {}
        self._read: OrderedDict[tuple[str, Part], list[Record]] = OrderedDict()
        self._parameters = dict(stage.parameters(build.settings))

    async def run(self, work: Work, *, rounds: int = 0) -> Outcome:
        """Run and commit one unit.

        Raises:
            HaltError: budget, endpoint or disk end the run.
        """
        try:
            unit = Unit(id=work.unit, inputs=self._inputs(work))
            records = await self._stage.run(unit, self._parameters_of(work), self._tools)
            return await asyncio.to_thread(self._store.commit, work.unit, work.inputs, records)
        except BudgetError as error:
            raise HaltError("budget", str(error)) from error
        except (EndpointError, ResourceError) as error:
            raise HaltError("fatal", str(error)) from error
        except OSError as error:
            raise HaltError("fatal", self._disk_line(work, error)) from error
        except Exception as error:
            return await self._fail(work, error, rounds)

    async def _fail(self, work: Work, error: Exception, rounds: int) -> Failure:
        failure = Failure(
            unit=work.unit,
            inputs=work.inputs,
            failure=_class_of(error),
            message=_line_of(error),
            rounds=rounds,
        )
        if failure.failure in ("budget", "fatal"):
            raise HaltError("budget" if failure.failure == "budget" else "fatal", failure.message)
        try:
            await asyncio.to_thread(self._store.commit_failure, failure)
        except OSError as disk:
            raise HaltError("fatal", self._disk_line(work, disk)) from disk
        return failure

    def _disk_line(self, work: Work, error: OSError) -> str:
        return (
            f"{self._stage.name} {work.unit}: cannot be written or read ({error}); what was done "
            "is kept: free some space or repair the folder, then run again"
        )

    def _parameters_of(self, work: Work) -> Mapping[str, Any]:
        if not work.file:
            return self._parameters
        facts = dict(work.file)
        return {**self._parameters, **facts, "file": str(self._build.source / str(facts["path"]))}

    def _inputs(self, work: Work) -> Mapping[str, Sequence[Record]]:
        inputs: dict[str, list[Record]] = {need: [] for need in self._stage.needs}
        for stage, part in work.reads:
            inputs[stage] += self._records(stage, part)
        if self._stage.unit == "clip":
            inputs["clips"] = [
                one for one in inputs["clips"] if isinstance(one, Clip) and one.id == work.unit
            ]
        return inputs

    def _records(self, stage: str, part: Part) -> list[Record]:
        key = (stage, part)
        if key not in self._read:
            if stage not in self._stores:
                self._stores[stage] = self._build.store(stage)
            self._read[key] = self._stores[stage].read(part)
            if len(self._read) > _KEPT_PARTS:
                self._read.popitem(last=False)
        return self._read[key]


def _class_of(error: Exception) -> FailureClass:
    if isinstance(error, UnitError):
        return error.failure
    return "transient" if isinstance(error, BuildError) else "input"


def _line_of(error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, HourLlavaError):
        return text
    return f"{type(error).__name__}: {text} (unexpected: please report it)"
