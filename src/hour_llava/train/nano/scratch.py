"""What training from scratch needs of a model that pretrained weights would bring along."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from hour_llava.model.memories import FRACTION_HARMONICS, TimeFeatures
from hour_llava.model.modeling_hour_llava import HourLlavaForConditionalGeneration

EMBEDDING_STD = 0.5
ADDED_STD = 0.1
"""Words must be far apart from the start; what is added to memory tokens must not drown them."""

PAST_SHARE = 0.1
"""First weights of a tube's frames before t - 1, beside those of t and t - 1."""


@torch.no_grad()
def start_from_scratch(model: HourLlavaForConditionalGeneration, seed: int) -> None:
    """Draw weights for fast learning at small width.

    transformers draws everything with a standard deviation of 0.02, made for widths in the
    thousands.
    """
    torch.manual_seed(seed)
    inner = model.model
    for part in (inner.memory_maker, inner.memaug, inner.language_model, model.lm_head):
        for module in part.modules():
            if isinstance(module, nn.Linear):
                module.reset_parameters()
    # Frames long past say little at first: full weights mix what is seen now with what was.
    projector = inner.memory_maker.projector.fc1
    projector.weight[:, 2 * model.config.vision_config.hidden_size :] *= PAST_SHARE
    embeddings = inner.get_input_embeddings()
    assert isinstance(embeddings, nn.Embedding)
    nn.init.normal_(embeddings.weight, std=EMBEDDING_STD)
    nn.init.normal_(inner.memory_maker.newline, std=EMBEDDING_STD)
    if inner.memory_maker.time_features is not None:
        nn.init.normal_(inner.memory_maker.time_features.proj.weight, std=ADDED_STD)
        nn.init.zeros_(inner.memory_maker.time_features.proj.bias)
        inner.memory_maker.time_features.proj.weight.mul_(
            _is_fraction(inner.memory_maker.time_features)
        )


def hold_clock_time_out(times: TimeFeatures) -> RemovableHandle:
    """Keep the Fourier features of seconds (not of t / T) where they are: at zero, at first.

    A model that meets short clips alone would lean on them and fail on longer ones. Lengths of time
    are told by them later, when all lengths are met.
    """
    is_fraction = _is_fraction(times)
    return times.proj.weight.register_hook(lambda gradient: gradient * is_fraction)


def _is_fraction(times: TimeFeatures) -> Tensor:
    half = times.proj.in_features // 2
    return (torch.arange(times.proj.in_features) % half) < FRACTION_HARMONICS
