"""A run that is killed goes on to the last bit: losses, gradients and the model are the same."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hour_llava.train.checkpoint import last_checkpoint, list_checkpoints

Run = Callable[..., int]
Steps = Callable[[Path], list[dict[str, Any]]]
SAME = ("step", "samples", "loss", "grad_norm", "tokens", "labels", "broken")


def require_same(steps_of: Steps, whole: Path, resumed: Path) -> None:
    found, wanted = steps_of(resumed), steps_of(whole)
    for a, b in zip(found, wanted, strict=True):
        assert {name: a[name] for name in SAME} == {name: b[name] for name in SAME}
    weights = "model/model.safetensors"
    assert (resumed / weights).read_bytes() == (whole / weights).read_bytes()


@pytest.mark.parametrize(
    "stage", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)]
)
def test_five_kills_change_no_bit(
    stage: int,
    tmp_path: Path,
    train_in_process: Run,
    whole_run: Callable[[int], Path],
    steps_of: Steps,
) -> None:
    whole = whole_run(stage)
    for step in sorted(random.Random(stage).sample(range(1, 21), 5)):
        kill = {"where": "gradients", "step": step}
        assert train_in_process(stage, tmp_path, resume=True, kill=kill) == -signal.SIGKILL
    assert train_in_process(stage, tmp_path, resume=True) == 0
    require_same(steps_of, whole, tmp_path)


def test_a_kill_while_saving_leaves_the_checkpoint_before_whole(
    tmp_path: Path, train_in_process: Run, whole_run: Callable[[int], Path], steps_of: Steps
) -> None:
    whole = whole_run(1)
    kills = [
        ("weights", 5, None),
        ("sync", 10, "step-00000005"),
        ("before removing", 15, "step-00000015"),
        ("removing", 20, "step-00000020"),
    ]
    for where, step, kept in kills:
        kill = {"where": where, "step": step}
        assert train_in_process(1, tmp_path, resume=True, kill=kill) == -signal.SIGKILL
        last = last_checkpoint(tmp_path / "checkpoints")
        assert (last.name if last else None) == kept
    assert train_in_process(1, tmp_path, resume=True) == 0
    require_same(steps_of, whole, tmp_path)


def test_old_checkpoints_and_what_kills_left_are_removed(
    tmp_path: Path, train_in_process: Run
) -> None:
    kill = {"where": "weights", "step": 15}
    assert train_in_process(1, tmp_path, kill=kill) == -signal.SIGKILL
    assert (tmp_path / "checkpoints" / ".step-00000015.part").is_dir()
    assert train_in_process(1, tmp_path, resume=True) == 0
    names = [path.name for path in (tmp_path / "checkpoints").iterdir()]
    assert sorted(names) == ["step-00000015", "step-00000020"]
    assert len(list_checkpoints(tmp_path / "checkpoints")) == 2
