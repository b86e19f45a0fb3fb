"""A refactor may not move the loss: twenty steps of each debug stage are written down.

HOUR_LLAVA_WRITE_GOLDENS=1 writes them anew; say in the commit why they moved.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(1800)  # a minute on a quiet machine
GOLDENS = Path(__file__).parents[2] / "golden" / "training"
NAMES = ("step", "loss", "grad_norm", "tokens", "labels")


@pytest.mark.parametrize(
    "stage", [pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow), 3]
)
def test_twenty_steps_are_as_written_down(
    stage: int,
    whole_run: Callable[[int], Path],
    steps_of: Callable[[Path], list[dict[str, Any]]],
) -> None:
    steps = steps_of(whole_run(stage))
    path = GOLDENS / f"debug_stage{stage}.json"
    if os.environ.get("HOUR_LLAVA_WRITE_GOLDENS"):
        lines = [json.dumps({name: step[name] for name in NAMES}) for step in steps]
        path.parent.mkdir(exist_ok=True)
        path.write_text("[\n " + ",\n ".join(lines) + "\n]\n")
    wanted = json.loads(path.read_text())
    assert len(steps) == len(wanted) == 20
    for found, golden in zip(steps, wanted, strict=True):
        for name in ("step", "tokens", "labels"):
            assert found[name] == golden[name]
        for name in ("loss", "grad_norm"):
            assert found[name] == pytest.approx(golden[name], rel=1e-4), (found["step"], name)
