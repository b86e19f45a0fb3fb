"""A run that is killed goes on to the last bit: losses, gradients and the model are the same."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hour_llava.train.checkpoint import list_checkpoints, read_facts

pytestmark = pytest.mark.timeout(1800)  # a minute on a quiet machine
Run = Callable[..., int]
Steps = Callable[[Path], list[dict[str, Any]]]
SAME = ("step", "samples", "loss", "grad_norm", "tokens", "labels", "broken")


def require_same(steps_of: Steps, whole: Path, resumed: Path) -> None:
    found, wanted = steps_of(resumed), steps_of(whole)
    for a, b in zip(found, wanted, strict=True):
        assert {name: a[name] for name in SAME} == {name: b[name] for name in SAME}
    weights = "model/model.safetensors"
    assert (resumed / weights).read_bytes() == (whole / weights).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 2, 3])
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


def test_sigterm_saves_and_a_kill_while_saving_leaves_the_one_before_whole(
    tmp_path: Path, train_in_process: Run, whole_run: Callable[[int], Path], steps_of: Steps
) -> None:
    whole, root = whole_run(3), tmp_path / "checkpoints"
    kills = [
        ("term", 3, [3]),
        ("weights", 5, [3]),
        ("sync", 5, [3]),
        ("before removing", 10, [3, 5, 10]),
        ("removing", 15, [5, 10, 15]),
    ]
    for where, step, kept in kills:
        kill = {"where": where, "step": step}
        code = 143 if where == "term" else -signal.SIGKILL
        assert train_in_process(3, tmp_path, resume=True, kill=kill) == code
        assert [read_facts(folder).step for folder in list_checkpoints(root)] == kept
    assert train_in_process(3, tmp_path, resume=True) == 0
    require_same(steps_of, whole, tmp_path)
    names = sorted(path.name for path in root.iterdir())
    assert names == ["step-00000015", "step-00000020"]  # nothing that a kill left
