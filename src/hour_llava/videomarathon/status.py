"""What is done, what failed, what is to do: read from the names of files; no lock is needed."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass
from typing import Any

from hour_llava.videomarathon.build import Build
from hour_llava.videomarathon.calls.ledger import Spent, read_spent
from hour_llava.videomarathon.parts import Failure
from hour_llava.videomarathon.records import SetAside
from hour_llava.videomarathon.state import State
from hour_llava.videomarathon.toolbox import CALLS


@dataclass(frozen=True, kw_only=True)
class StageStatus:
    """A stage in figures. `num_todo` counts what can be known before earlier stages are done.

    `usd` is None where the price of a call is unknown.
    """

    name: str
    num_done: int
    num_todo: int
    num_failed: int
    num_held_up: int
    num_calls: int = 0
    num_tokens: int = 0
    usd: float | None = 0.0


@dataclass(frozen=True, kw_only=True)
class BuildStatus:
    """A build in figures, with its failures and the files that were set aside."""

    stages: tuple[StageStatus, ...]
    num_videos: int
    set_aside: tuple[SetAside, ...]
    failures: tuple[Failure, ...]
    releases: tuple[str, ...]
    next_step: str
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        aside = [one.model_dump(mode="json") for one in self.set_aside]
        return {**asdict(self), "set_aside": aside}


def read_status(build: Build) -> BuildStatus:
    """Work out the state of a build.

    Raises:
        BuildError: the source or a part cannot be read.
    """
    state = State(build)
    folder = build.folder / CALLS
    spent = read_spent(folder) if folder.is_dir() else {}
    stages: list[StageStatus] = []
    failures: list[Failure] = []
    for stage in build.stages:
        known = state.of(stage.name)
        failures += known.failures.values()
        paid = spent.get(stage.name, Spent())
        stages.append(
            StageStatus(
                name=stage.name,
                num_done=len(known.parts),
                num_todo=len(known.todo()),
                num_failed=len(known.failures),
                num_held_up=known.num_blocked,
                num_calls=paid.calls,
                num_tokens=paid.tokens,
                usd=paid.known_usd,
            )
        )
    aside = [
        record
        for name in ("ingest", "events")
        if any(stage.name == name for stage in build.stages)
        for record in state.rows(name)
        if isinstance(record, SetAside)
    ]
    releases = build.folder / "release"
    names = sorted(p.name for p in releases.iterdir() if p.is_dir()) if releases.is_dir() else []
    return BuildStatus(
        stages=tuple(stages),
        num_videos=len(state.videos()),
        set_aside=tuple(aside),
        failures=tuple(failures),
        releases=tuple(name for name in names if not name.startswith(".")),
        next_step=_next_step(stages, failures, build),
        note=state.source_fault,
    )


def _next_step(stages: list[StageStatus], failures: list[Failure], build: Build) -> str:
    if any(stage.num_todo or stage.num_held_up for stage in stages) and not (
        failures and all(stage.num_todo == 0 for stage in stages)
    ):
        return f"hour-llava synth run {shlex.quote(str(build.folder))}"
    if failures:
        return f"hour-llava synth retry {shlex.quote(str(build.folder))}"
    return "nothing: complete"
