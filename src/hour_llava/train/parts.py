"""Which weights are which part of the model, and which of them a stage trains.

    vision          the SigLIP tower
    projector       the two layers behind it, the newline of every frame, nano's time features
    memaug          the memory augmentation
    language_model  the language model, its embeddings and its head
    other           what a wrapper adds: training-only heads

Source: arXiv 2506.05332, table 8 (a learning rate a part; 0 is frozen). The newline has none there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from hour_llava.errors import ConfigError
from hour_llava.train.lora import has_adapters, is_adapter

VISION, PROJECTOR, MEMAUG, LANGUAGE_MODEL = "vision", "projector", "memaug", "language_model"
OTHER = "other"
PARTS = (VISION, PROJECTOR, MEMAUG, LANGUAGE_MODEL)

_MARKS = (
    ("vision_tower.", VISION),
    ("memory_maker.", PROJECTOR),
    ("memaug.", MEMAUG),
    ("language_model.", LANGUAGE_MODEL),
    ("lm_head.", LANGUAGE_MODEL),
)
_NEVER_USED = ("vision_tower.post_layernorm.", "vision_tower.head.")
"""Weights of a SigLIP checkpoint that no forward pass reads: DDP would wait for their gradients."""


def part_of(name: str) -> str:
    """Say which part a parameter belongs to, by its name; wrappers may stand before it."""
    for mark, part in _MARKS:
        if name.startswith(mark) or f".{mark}" in name:
            return part
    return OTHER


def is_used(name: str) -> bool:
    """Say whether a forward pass reads this parameter."""
    return not any(mark in name for mark in _NEVER_USED)


def freeze(module: nn.Module, learning_rates: Mapping[str, float]) -> None:
    """Let no gradient reach the parts whose rate is 0, and keep them free of chance.

    Frozen layers stay in training mode, because activations are checkpointed in that mode alone;
    what behaves differently in it (dropout, running statistics) is turned off in them. Where the
    language model has adapters, they are what is trained of it.

    Args:
        module: The model, or a wrapper of it.
        learning_rates: Of each part; without one a part is frozen, but "other" is trained.

    Raises:
        ConfigError: Nothing is left to train, or a rate is given to a part that is not there.
    """
    unknown = set(learning_rates) - {*PARTS, OTHER}
    if unknown:
        raise ConfigError(f"no part of the model is called {', '.join(sorted(unknown))}")
    by_adapters = has_adapters(module)
    found: set[str] = set()
    for name, parameter in module.named_parameters():
        part = part_of(name)
        rate = learning_rates.get(part, 1.0 if part == OTHER else 0.0)
        is_base = by_adapters and part == LANGUAGE_MODEL and not is_adapter(name)
        parameter.requires_grad_(rate > 0 and is_used(name) and not is_base)
        found.add(part)
    missing = [part for part, rate in learning_rates.items() if rate > 0 and part not in found]
    if missing:
        raise ConfigError(
            f"a learning rate is given for {', '.join(missing)}, but the model has no such weights"
        )
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise ConfigError("every part of the model is frozen: give one a learning rate above 0")
    for frozen in _frozen_modules(module):
        _turn_chance_off(frozen)


def parameter_groups(
    module: nn.Module, learning_rates: Mapping[str, float], *, weight_decay: float = 0.0
) -> list[dict[str, Any]]:
    """Group what is trained by part, for an optimiser.

    Args:
        module: After `freeze`, and after it was sharded.
        learning_rates: Of each part; of "other" where nothing is said the highest.
        weight_decay: Of matrices; vectors (biases, norms, the newline) have none.

    Returns:
        {"name", "lr", "weight_decay", "params"}, in the order of `PARTS`; with weight decay a part
        has two groups of one name.
    """
    rates = {OTHER: max(learning_rates.values()), **learning_rates}
    grouped: dict[tuple[str, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            decay = weight_decay if parameter.ndim > 1 else 0.0
            grouped.setdefault((part_of(name), decay), []).append(parameter)
    order = (*PARTS, OTHER)
    return [
        {"name": part, "lr": rates[part], "weight_decay": decay, "params": parameters}
        for (part, decay), parameters in sorted(
            grouped.items(), key=lambda item: (order.index(item[0][0]), -item[0][1])
        )
    ]


def count_parameters(module: nn.Module) -> dict[str, tuple[int, int]]:
    """Count the numbers of each part: (all, trained); works on the meta device."""
    counts: dict[str, tuple[int, int]] = {}
    for name, parameter in module.named_parameters():
        total, trained = counts.get(part_of(name), (0, 0))
        size = parameter.numel()
        counts[part_of(name)] = (total + size, trained + size * parameter.requires_grad)
    return counts


def _frozen_modules(module: nn.Module) -> Iterator[nn.Module]:
    """Find the leaves of the parts of which no weight is trained."""
    owned = [p.requires_grad for p in module.parameters()]
    if owned and not any(owned):
        yield from module.modules()
        return
    for child in module.children():
        yield from _frozen_modules(child)


def _turn_chance_off(module: Any) -> None:
    if isinstance(module, nn.Dropout):
        module.p = 0.0
    elif isinstance(module, nn.modules.batchnorm._BatchNorm):
        module.register_forward_pre_hook(_evaluating)
    elif isinstance(getattr(module, "attention_dropout", None), float):
        module.attention_dropout = 0.0
    elif isinstance(getattr(module, "dropout", None), float):
        module.dropout = 0.0


def _evaluating(module: nn.Module, inputs: Any) -> None:
    module.eval()
