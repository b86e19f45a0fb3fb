"""Every weight belongs to one part, and a part without a rate neither moves nor draws lots."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hour_llava.errors import ConfigError
from hour_llava.recipes.debug import make_model
from hour_llava.train.config import LoraConfig
from hour_llava.train.lora import add_lora
from hour_llava.train.parts import count_parameters, freeze, parameter_groups, part_of


def trained(module: nn.Module) -> set[str]:
    return {part_of(name) for name, p in module.named_parameters() if p.requires_grad}


def test_no_weight_of_the_model_is_without_a_part() -> None:
    model, _ = make_model()
    counts = count_parameters(model)
    assert set(counts) == {"vision", "projector", "memaug", "language_model"}
    assert sum(total for total, _ in counts.values()) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("model.memory_maker.newline", "projector"),
        ("base.model.memaug.layers.0.norm1.weight", "memaug"),
        ("lm_head.weight", "language_model"),
        ("model.language_model.layers.0.self_attn.q_proj.lora_A.default.weight", "language_model"),
        ("answer.weight", "other"),
    ],
)
def test_a_name_says_the_part(name: str, part: str) -> None:
    assert part_of(name) == part


def test_stage_1_trains_memaug_alone() -> None:
    model, _ = make_model()
    rates = {"vision": 0.0, "projector": 0.0, "memaug": 1e-4, "language_model": 0.0}
    freeze(model, rates)
    assert trained(model) == {"memaug"}
    groups = parameter_groups(model, rates)
    assert [(group["name"], group["lr"]) for group in groups] == [("memaug", 1e-4)]


def test_weights_that_no_forward_reads_are_frozen() -> None:
    model, _ = make_model()
    freeze(model, {"vision": 1e-4})
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert "model.vision_tower.post_layernorm.weight" in frozen


def test_tied_weights_are_in_one_group_once() -> None:
    model, _ = make_model()
    rates = {"memaug": 1e-4, "language_model": 1e-5}
    freeze(model, rates)
    grouped = [p for group in parameter_groups(model, rates) for p in group["params"]]
    assert len(grouped) == len({id(p) for p in grouped})


def test_weight_decay_spares_vectors() -> None:
    model, _ = make_model()
    rates = {"memaug": 1e-4}
    freeze(model, rates)
    for group in parameter_groups(model, rates, weight_decay=0.1):
        is_matrix = {p.ndim > 1 for p in group["params"]}
        assert is_matrix == {group["weight_decay"] > 0}


def test_adapters_are_what_is_trained_of_the_language_model() -> None:
    model, _ = make_model()
    add_lora(model, LoraConfig(rank=2), seed=0)
    freeze(model, {"memaug": 1e-4, "projector": 1e-4, "language_model": 1e-4})
    moving = [name for name, p in model.named_parameters() if p.requires_grad]
    of_language = [name for name in moving if part_of(name) == "language_model"]
    assert of_language and all(".lora_" in name for name in of_language)


def test_a_wrapper_s_own_weights_are_trained() -> None:
    class Wrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model, self.head = make_model()[0], nn.Linear(4, 4)

    wrapper = Wrapper()
    rates = {"memaug": 1e-4}
    freeze(wrapper, rates)
    assert trained(wrapper) == {"memaug", "other"}
    assert [group["lr"] for group in parameter_groups(wrapper, rates)] == [1e-4, 1e-4]


def test_frozen_layers_drop_nothing_in_training_mode() -> None:
    class Wrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.vision_tower = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.BatchNorm1d(4))
            self.memaug = nn.Linear(4, 4)

    wrapper = Wrapper().train()
    freeze(wrapper, {"memaug": 1e-4})
    before = [buffer.clone() for buffer in wrapper.buffers()]
    inputs = torch.randn(8, 4)
    outputs = [wrapper.train().vision_tower(inputs) for _ in range(2)]
    assert torch.equal(*outputs)
    assert all(torch.equal(a, b) for a, b in zip(before, wrapper.buffers(), strict=True))


@pytest.mark.parametrize(
    ("rates", "said"),
    [
        ({"memaug": 0.0}, "every part of the model is frozen"),
        ({"memory": 1e-4}, "no part of the model is called memory"),
    ],
)
def test_rates_that_train_nothing_are_refused(rates: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        freeze(make_model()[0], rates)


def test_a_rate_for_a_part_that_is_missing_is_refused() -> None:
    with pytest.raises(ConfigError, match="vision"):
        freeze(nn.ModuleDict({"memaug": nn.Linear(2, 2)}), {"vision": 1e-4})
