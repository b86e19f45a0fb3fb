"""How a model lies on processes, as far as one process can tell; see tests/integration/train."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hour_llava.errors import ConfigError
from hour_llava.model.modeling_hour_llava import HourLlavaForConditionalGeneration
from hour_llava.train.distributed import (
    any_process,
    choose_sharding,
    gathered,
    leave_sharded_models_alone,
    prepare,
    shard,
)


@pytest.fixture
def model(tiny_model: Path) -> Any:
    return HourLlavaForConditionalGeneration.from_pretrained(tiny_model).train()


@pytest.mark.parametrize(
    ("wanted", "world_size", "device", "chosen"),
    [
        ("auto", 1, "cuda", "none"),
        ("auto", 1, "cpu", "none"),
        ("auto", 2, "cpu", "ddp"),
        ("auto", 8, "cuda", "fsdp2"),
        ("fsdp2", 2, "cpu", "fsdp2"),
        ("fsdp2", 1, "cuda", "fsdp2"),
        ("ddp", 1, "cuda", "none"),
        ("ddp", 2, "cuda", "ddp"),
    ],
)
def test_the_sharding_fits_the_processes(
    wanted: Any, world_size: int, device: str, chosen: str
) -> None:
    assert choose_sharding(wanted, world_size=world_size, device=device) == chosen


def test_several_processes_that_know_nothing_of_each_other_are_refused() -> None:
    with pytest.raises(ConfigError, match="none on 4 processes"):
        choose_sharding("none", world_size=4, device="cuda")


def text_batch() -> dict[str, torch.Tensor]:
    ids = torch.arange(10, 20)[None]
    return {"input_ids": ids, "labels": ids, "attention_mask": torch.ones_like(ids)}


def test_a_text_gives_a_trained_tower_gradients_of_zeros_and_changes_no_other(model: Any) -> None:
    def gradients() -> dict[str, torch.Tensor | None]:
        model.zero_grad()
        model(**text_batch()).loss.backward()
        return {name: weight.grad for name, weight in model.named_parameters()}

    for weight in model.model.vision_tower.embeddings.parameters():
        weight.requires_grad_(False)
    before = gradients()
    prepare(model, sharding="none", precision="fp32", device="cpu")
    after = gradients()
    for name, weight in model.named_parameters():
        if not weight.requires_grad:
            assert after[name] is None, name
        else:
            found, wanted = after[name], before[name]
            assert found is not None, name
            assert torch.equal(found, torch.zeros_like(found) if wanted is None else wanted), name


def test_a_frozen_tower_is_left_out(model: Any) -> None:
    model.model.vision_tower.requires_grad_(False)
    prepare(model, sharding="none", precision="fp32", device="cpu")
    model(**text_batch()).loss.backward()
    assert all(weight.grad is None for weight in model.model.vision_tower.parameters())


def test_a_model_without_layers_to_shard_is_refused() -> None:
    try:
        with pytest.raises(ConfigError, match="found none of Qwen2DecoderLayer, MemAugLayer"):
            shard(torch.nn.Linear(2, 2), precision="fp32", device="cpu")
    finally:
        torch.distributed.destroy_process_group()


def test_one_process_is_heard_by_itself() -> None:
    assert gathered("x") == ["x"]
    assert any_process(True) and not any_process(False)


def test_ddp_is_made_without_torchs_word_on_the_name_that_accelerate_uses() -> None:
    def prepare_model(given: torch.nn.Module) -> torch.nn.Module:
        warnings.warn("another", FutureWarning, stacklevel=1)
        return torch.nn.parallel.DistributedDataParallel(given, broadcast_buffers=False)

    accelerator = SimpleNamespace(prepare_model=prepare_model)
    leave_sharded_models_alone(accelerator)
    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1
    )
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            accelerator.prepare_model(torch.nn.Linear(2, 2))
    finally:
        torch.distributed.destroy_process_group()
    assert [str(one.message) for one in said] == ["another"]
