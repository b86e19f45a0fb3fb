"""What is measured on the way: the validation loss and a small exam."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from hour_llava.errors import DataError
from hour_llava.train.watching.exam import WorldExam
from hour_llava.train.watching.measurement import undisturbed
from hour_llava.train.watching.validation import ValidationLoss


class Counting(torch.nn.Module):
    """Its loss is the mean of its labels, as a language model's is a mean over labelled tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.num_calls = 0

    def forward(self, labels: torch.Tensor) -> Any:
        self.num_calls += 1
        shifted = labels[:, 1:]
        return SimpleNamespace(loss=shifted[shifted != -100].float().mean())


SAMPLES = [[0, 1], [0, 2, 3], [0, 4, -100, 5], [0, 6], [0, 7, 8, 9, 10]]


def collate(samples: list[list[int]]) -> dict[str, Any]:
    width = max(map(len, samples))
    padded = [sample + [-100] * (width - len(sample)) for sample in samples]
    return {"labels": torch.tensor(padded), "sample_ids": ["x"], "broken": []}


def test_the_validation_loss_is_the_mean_over_all_labelled_tokens() -> None:
    for micro_batch_size in (1, 2, 5):
        loss = ValidationLoss(SAMPLES, collate, micro_batch_size=micro_batch_size)
        assert loss(Counting()) == {"loss": pytest.approx(5.5), "labels": 10}


def test_ranks_share_the_samples_and_make_the_same_number_of_forward_passes() -> None:
    total = labels = 0.0
    calls = set()
    for rank in range(4):
        model = Counting()
        loss = ValidationLoss(SAMPLES, collate, micro_batch_size=1, rank=rank, world_size=4)
        found = loss(model)
        total += found["loss"] * found["labels"]
        labels += found["labels"]
        calls.add(model.num_calls)
    assert (total / labels, labels, calls) == (pytest.approx(5.5), 10, {2})


def test_replaced_validation_samples_are_counted_and_named_once_and_an_empty_set_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def broken(samples: list[list[int]]) -> dict[str, Any]:
        return collate(samples) | {"broken": ["v, sample 1: no file"]}

    loss = ValidationLoss(SAMPLES, broken, micro_batch_size=5)
    assert [loss(Counting())["broken"] for _ in range(2)] == [1, 1]
    assert capsys.readouterr().err.count("v, sample 1: no file") == 1
    with pytest.raises(DataError, match=r"--data\.validation"):
        ValidationLoss([], collate, micro_batch_size=1)


def test_a_validation_set_that_cannot_be_read_says_how_to_go_on() -> None:
    def unreadable(samples: list[list[int]]) -> dict[str, Any]:
        raise DataError("8 neighbours cannot be read")

    with pytest.raises(DataError, match=r"--data\.validation: 8 neighbours .* --resume and a "):
        ValidationLoss(SAMPLES, unreadable, micro_batch_size=1)


def test_a_measurement_leaves_modes_and_random_numbers_as_they_were() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout())
    model[0].eval()  # frozen parts may be in eval mode while the whole trains
    states = []
    for measures in (False, True):
        torch.manual_seed(0), np.random.seed(0), random.seed(0)
        if measures:
            with undisturbed(model):
                assert not any(module.training for module in model.modules())
                torch.rand(1), np.random.rand(1), random.random()
        states.append((torch.rand(1).item(), np.random.rand(), random.random()))
    assert states[0] == states[1]
    assert [module.training for module in model.modules()] == [True, False, True]


def test_an_exam_gives_shares_a_format_and_task_and_the_same_ones_again(tiny_model: Path) -> None:
    from hour_llava.model.checkpoints import load_pretrained

    model, processor = load_pretrained(str(tiny_model))
    exam = WorldExam(processor, seconds=20, videos=1, formats=("mc",))
    found = exam(model.eval())
    assert 0 <= found["mc"] <= 1
    assert 0.2 < found["chance/mc"] < 0.6
    assert found["questions/mc"] > 5
    assert any(name.startswith("mc/") for name in found)
    assert exam(model) == found
