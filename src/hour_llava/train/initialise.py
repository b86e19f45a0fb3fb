"""The model that training begins with: weights from a checkpoint, the rest drawn from a seed.

New weights are drawn tensor by tensor from (seed, name), so they are the same on every rank, on
every device, and whatever else is new.
Source: arXiv 2506.05332, section 4: stage 1 starts from LLaVA-OneVision, MemAug from nothing.
"""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor

from hour_llava.model.checkpoints import expected_shapes, read_numbers, without_loading_bar
from hour_llava.model.modeling_hour_llava import HourLlavaForConditionalGeneration
from hour_llava.model.processing_hour_llava import HourLlavaProcessor
from hour_llava.train.config import ModelConfig
from hour_llava.train.distributed import rank
from hour_llava.train.lora import add_lora, require_peft
from hour_llava.train.start import Start, read_start
from hour_llava.train.watching.terminal import say

NEW_STD = 0.02


def initialise(
    model_config: ModelConfig,
    *,
    seed: int,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> tuple[HourLlavaForConditionalGeneration, HourLlavaProcessor]:
    """Build the model to be trained.

    Args:
        model_config: where the weights come from, and what is set differently.
        seed: of new weights, adapters included.
        dtype: of the weights; the optimiser wants float32.
        device: where to put the model; None: the CPU; "meta": shapes alone, no weights are read.

    Returns:
        The model, in eval mode and with every parameter trainable unless LoRA is asked for, and
        its processor.

    Raises:
        ModelNotFoundError, CheckpointError, ConfigError: see `read_start`.

    Cost: the weights are read once; memory peaks at about their size in `dtype`.
    """
    if model_config.lora.rank > 0:
        require_peft()  # before the weights are read
    start = read_start(model_config)
    if rank() == 0:
        for line in start.changed:
            say(line)
    attention: dict[str, Any] = {}
    if model_config.attention is not None:
        attention = {"attn_implementation": model_config.attention}
    is_meta = torch.device(device or "cpu").type == "meta"
    if is_meta:
        with torch.device("meta"):
            model = HourLlavaForConditionalGeneration._from_config(
                start.config, dtype=dtype, **attention
            )
    else:
        with without_loading_bar():
            model = HourLlavaForConditionalGeneration.from_pretrained(
                None, config=start.config, state_dict=_weights(start, seed, dtype), dtype=dtype,
                **attention,
            )  # fmt: skip
    model.generation_config = start.generation_config
    if model_config.lora.rank > 0:
        add_lora(model, model_config.lora, seed=seed)
    model.eval()
    if device is not None and not is_meta:
        model.to(torch.device(device))  # pyright: ignore[reportArgumentType]
    return model, start.processor


def _weights(start: Start, seed: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """Read what the checkpoint has, and draw what it has not."""
    weights = {
        key: read_numbers(entry, name=start.source_names[key]).to(dtype)
        for key, entry in start.entries.items()
    }
    shapes = expected_shapes(start.config)
    for key in start.new:
        weights[key] = new_weight(key, shapes[key], seed=seed).to(dtype)
    return weights


def new_weight(name: str, shape: tuple[int, ...], *, seed: int) -> Tensor:
    """Draw a tensor that no checkpoint has.

    Norms begin as the identity, biases at 0, matrices as a normal of 0.02, and the newline like an
    embedding of length about 1.

    Args:
        name: our name of it; with the seed it decides the numbers.
        shape: as the model wants it.
        seed: of the run.

    Returns:
        float32, on the CPU.
    """
    if name.endswith(".bias"):
        return torch.zeros(shape)
    if ".norm" in name:
        return torch.ones(shape)
    std = shape[0] ** -0.5 if name.endswith(".newline") else NEW_STD
    return torch.normal(0.0, std, shape, generator=_generator(seed, name))


def _generator(seed: int, name: str) -> torch.Generator:
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
