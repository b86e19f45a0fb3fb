"""Giving failed units another chance."""

from __future__ import annotations

from hour_llava.errors import BuildError
from hour_llava.videomarathon.build import Build
from hour_llava.videomarathon.runner import ROUNDS, read_rounds
from hour_llava.videomarathon.state import State


def clear_failures(build: Build, stage: str | None = None) -> int:
    """Forget the failures of a stage, or of all; returns how many there were.

    A unit whose answers could not be used gets new ones: the number of retries in the build's
    folder tells the callers to ask beyond what the ledger holds.

    Raises:
        BuildError: a run is under way, or the folder cannot be written.
    """
    names = [stage] if stage is not None else [one.name for one in build.stages]
    with build.lock():
        state = State(build)
        failures = [
            (state.of(name), one) for name in names for one in state.of(name).failures.values()
        ]
        try:
            if any(one.failure == "content" for _, one in failures):
                (build.folder / ROUNDS).write_text(f"{read_rounds(build) + 1}\n")
            for stage_state, one in failures:
                stage_state.store.clear_failure(one.unit, one.inputs)
        except OSError as error:
            raise BuildError(f"{build.folder}: cannot be written ({error}); repair it") from error
    return len(failures)
