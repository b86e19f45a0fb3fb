"""Processes that train: forked from one that has imported everything, so that each is cheap."""

from __future__ import annotations

import json
import multiprocessing
import runpy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

PRELOADED = (
    "hour_llava.train.run",
    "hour_llava.recipes.debug",
    "matplotlib.backends.backend_agg",
    "torch.distributed.checkpoint",
    "transformers.models.qwen2.modeling_qwen2",
    "transformers.models.siglip.modeling_siglip",
)
RUNNER = Path(__file__).with_name("runner.py")
Run = Callable[..., int]


@pytest.fixture(scope="session")
def train_in_process() -> Run:
    """Return a function that trains a debug recipe in a new process, and gives its exit code."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))

    def train(
        stage: int, out: Path, *, resume: bool = False, kill: Mapping[str, Any] | None = None
    ) -> int:
        args = {"recipe": f"debug_stage{stage}", "out": str(out), "resume": resume, "kill": kill}
        process = context.Process(
            target=runpy.run_path, args=(str(RUNNER), {"ARGS": json.dumps(args)})
        )
        process.start()
        process.join(240)
        assert process.exitcode is not None, "the training hangs"
        return process.exitcode

    return train


@pytest.fixture(scope="session")
def whole_run(
    train_in_process: Run, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[int], Path]:
    """Return a function that gives the folder of a stage's run that nothing disturbed."""
    made: dict[int, Path] = {}

    def run(stage: int) -> Path:
        if stage not in made:
            made[stage] = tmp_path_factory.mktemp("whole") / f"stage{stage}"
            assert train_in_process(stage, made[stage]) == 0
        return made[stage]

    return run


@pytest.fixture(scope="session")
def steps_of() -> Callable[[Path], list[dict[str, Any]]]:
    """Return a function that reads the log's steps."""

    def read(out: Path) -> list[dict[str, Any]]:
        lines = (out / "log.jsonl").read_text().splitlines()
        return [line for line in map(json.loads, lines) if line["kind"] == "step"]

    return read
