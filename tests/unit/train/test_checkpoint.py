"""Checkpoints are whole or absent; the last N are kept; random numbers go on."""

from __future__ import annotations

import random
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch

from hour_llava.errors import CheckpointError, ResourceError
from hour_llava.train.checkpoint import (
    CheckpointFacts,
    last_checkpoint,
    list_checkpoints,
    passed_over,
    random_state,
    read_facts,
    restore_random_state,
    verify,
    write_checkpoint,
)


def write(root: Path, step: int, *, keep_last: int = 2, num_bytes: int = 0) -> Path:
    facts = CheckpointFacts(step=step, sampler={"num_consumed": 4 * step}, identity={"seed": 1})
    return write_checkpoint(
        root,
        facts,
        lambda folder: (folder / "weights").write_text(str(step)) and None,
        keep_last=keep_last,
        num_bytes=num_bytes,
    )


def test_the_last_ones_are_kept(tmp_path: Path) -> None:
    for step in (5, 10, 100_000_00, 15):
        write(tmp_path, step, keep_last=9)
    for step in (20, 25):
        write(tmp_path, step, keep_last=2)
    assert [read_facts(folder).step for folder in list_checkpoints(tmp_path)] == [25, 100_000_00]


def test_a_step_that_is_saved_again_replaces_its_checkpoint(tmp_path: Path) -> None:
    write(tmp_path, 5)
    (write(tmp_path, 5) / "weights").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000005"]


def test_facts_come_back(tmp_path: Path) -> None:
    facts = read_facts(write(tmp_path, 7))
    assert (facts.step, facts.sampler, facts.identity) == (7, {"num_consumed": 28}, {"seed": 1})


def test_a_failed_write_leaves_the_one_before(tmp_path: Path) -> None:
    before = write(tmp_path, 5)

    def fail(folder: Path) -> None:
        (folder / "weights").write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(ResourceError, match=r"step 10 .*No space left.*step-00000005 is whole"):
        write_checkpoint(tmp_path, CheckpointFacts(step=10, sampler={}), fail, keep_last=1)
    assert last_checkpoint(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000005"]


def test_a_disk_that_is_too_small_is_told_with_both_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, 1_500_000_000))
    with pytest.raises(ResourceError, match=r"1.5 GB free, 2 GB are needed; there is no earlier"):
        write(tmp_path, 5, num_bytes=2_000_000_000)


def test_what_a_kill_left_is_no_checkpoint(tmp_path: Path) -> None:
    write(tmp_path, 5)
    (tmp_path / ".step-00000010.part").mkdir()
    (tmp_path / "step-00000015").mkdir()  # no facts in it
    last = last_checkpoint(tmp_path)
    assert last is not None and last.name == "step-00000005"
    assert passed_over(tmp_path) == [tmp_path / "step-00000015"]
    assert last_checkpoint(tmp_path / "missing") is None


@pytest.mark.parametrize("text", ["", "{}", '{"version": 9}', '{"version": 1, "step": 3}'])
def test_damaged_or_newer_facts_are_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "checkpoint.json").write_text(text)
    with pytest.raises(CheckpointError, match="checkpoint"):
        read_facts(tmp_path)


def test_random_numbers_go_on_where_they_were(tmp_path: Path) -> None:
    def draw() -> list[float]:
        return [random.random(), float(np.random.rand()), float(torch.rand(()))]

    random.gauss(0, 1)
    torch.save(random_state(), tmp_path / "random.pt")
    wanted = draw()
    draw()
    restore_random_state(torch.load(tmp_path / "random.pt", weights_only=True))
    assert draw() == wanted


def test_a_damaged_file_is_named_with_what_to_go_on_from(tmp_path: Path) -> None:
    write(tmp_path, 5)
    newest = write(tmp_path, 10)
    verify(newest)
    (newest / "weights").write_text("11")
    with pytest.raises(CheckpointError, match=r"weights is damaged; .*goes on from step-00000005"):
        verify(newest)
    (newest / "weights").unlink()
    with pytest.raises(CheckpointError, match=r"weights cannot be read"):
        verify(newest)
