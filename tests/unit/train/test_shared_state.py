"""Weights and optimiser on disk: what is read is what was written, or nothing is."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hour_llava.errors import CheckpointError, ResourceError
from hour_llava.train.shared_state import full_state_dict, load_state, save_state


class Tied(nn.Module):
    """Two layers that share a weight, a frozen one, and a buffer."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(width, width), nn.Linear(width, width)
        self.last.weight = self.first.weight
        self.frozen = nn.Linear(width, width).requires_grad_(False)
        self.register_buffer("counted", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.counted += 1
        return self.last(self.frozen(self.first(x)).relu())


def make(seed: int, width: int = 8) -> tuple[Tied, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    model = Tied(width)
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": trained[:1], "lr": 1e-2, "name": "matrices"},
        {"params": trained[1:], "lr": 1e-3, "name": "vectors"},
    ]
    return model, torch.optim.AdamW(groups)


def learn(model: Tied, optimizer: torch.optim.Optimizer, steps: int) -> list[float]:
    losses: list[float] = []
    for step in range(steps):
        x = torch.randn(4, model.first.in_features, generator=torch.Generator().manual_seed(step))
        loss = (model(x) - 1).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    folder = tmp_path_factory.mktemp("state") / "weights"
    model, optimizer = make(0)
    learn(model, optimizer, 3)
    save_state(folder, model, optimizer)
    return folder, learn(model, optimizer, 3)


def test_what_was_saved_goes_on_to_the_last_bit(saved: tuple[Path, list[float]]) -> None:
    folder, wanted = saved
    model, optimizer = make(1)
    load_state(folder, model, optimizer)
    assert int(model.counted) == 3
    assert model.last.weight is model.first.weight
    assert [group["name"] for group in optimizer.param_groups] == ["matrices", "vectors"]
    assert learn(model, optimizer, 3) == wanted


def test_weights_can_be_read_alone(saved: tuple[Path, list[float]]) -> None:
    model, _ = make(1)
    load_state(saved[0], model, None)
    assert int(model.counted) == 3


def test_another_model_is_refused_and_left_as_it_was(saved: tuple[Path, list[float]]) -> None:
    model, optimizer = make(1, width=4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"first\.weight is \(8, 8\), the run's \(4, 4\)"):
        load_state(saved[0], model, optimizer)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_other_trained_parts_are_refused(saved: tuple[Path, list[float]]) -> None:
    model, _ = make(1)
    for weight in model.parameters():
        weight.requires_grad_(True)
    with pytest.raises(CheckpointError, match=r"has no optimizer\.state\.frozen"):
        load_state(saved[0], model, torch.optim.AdamW(model.parameters()))


@pytest.mark.parametrize("damage", ["cut data", "cut index", "no index", "no folder"])
def test_a_damaged_checkpoint_is_named(
    damage: str, saved: tuple[Path, list[float]], tmp_path: Path
) -> None:
    folder = tmp_path / "weights"
    for source in saved[0].iterdir() if damage != "no folder" else ():
        folder.mkdir(exist_ok=True)
        kept = 100 if damage == ("cut index" if source.name == ".metadata" else "cut data") else -1
        if not (damage == "no index" and source.name == ".metadata"):
            (folder / source.name).write_bytes(source.read_bytes()[:kept])
    if damage == "cut data":
        (folder / ".metadata").write_bytes((saved[0] / ".metadata").read_bytes())
    with pytest.raises(CheckpointError, match=f"{folder}: .*earlier"):
        load_state(folder, *make(1))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount: list[Any] = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", disk]
    if os.geteuid() or subprocess.run(mount, check=False).returncode:
        pytest.skip("no mounting here")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_is_a_resource_error(small_disk: Path) -> None:
    model, optimizer = make(0)
    learn(model, optimizer, 1)
    with pytest.raises(ResourceError, match="No space left"):
        save_state(small_disk / "weights", model, optimizer)


def test_the_whole_state_of_one_process_is_the_models_own() -> None:
    model, _ = make(0)
    found = full_state_dict(model)
    assert found.keys() == model.state_dict().keys()
