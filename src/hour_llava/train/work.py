"""Floating-point operations of a training step, part by part.

    forward    2 x weights x tokens, and attention's two products (half of them where causal)
    backward   the same again for the gradient of a part's input, where something before it or in
               it is trained, and again for the gradient of its weights, where they are trained
    recompute  the forward again, where activations are checkpointed

So a trained part costs 3 forwards, 4 with checkpointing; a frozen one behind trained ones 2, or 3;
a frozen one before all that is trained costs 1. A language model with adapters (LoRA) costs 2, or
3: its own weights get no gradient, and the adapters' work is not counted (a per cent).

Letters: as in `sizes`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from hour_llava.model.configuration_hour_llava import HourLlavaConfig
from hour_llava.train.config import PARTS, Part
from hour_llava.train.sizes import TokenCounts

FLOW: tuple[Part, ...] = PARTS
"""Gradients flow from the last to the first."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """Operations of one sample.

    Args:
        forward: Of each part.
        useful: Forward and backward, nothing recomputed: what shares of a peak are quoted of.
        done: Recomputation counted too: what takes the time.
    """

    forward: dict[Part, float]
    useful: float
    done: float


def work_of(
    counts: TokenCounts,
    config: HourLlavaConfig,
    trained: Collection[Part],
    *,
    checkpointing: bool,
    by_adapters: bool = False,
) -> Work:
    """Count the operations of training on one sample.

    Args:
        by_adapters: Whether adapters are what is trained of the language model.
    """
    forward = forward_work(counts, config)
    useful = done = 0.0
    in_graph = False
    for part in FLOW:
        is_trained, had_graph = part in trained, in_graph
        in_graph = in_graph or is_trained
        learns = is_trained and not (by_adapters and part == "language_model")
        passes = 1 + (is_trained or had_graph) + learns
        useful += passes * forward[part]
        recomputed = checkpointing and in_graph and part != "projector"
        done += (passes + recomputed) * forward[part]
    return Work(forward=forward, useful=useful, done=done)


def forward_work(counts: TokenCounts, config: HourLlavaConfig) -> dict[Part, float]:
    """Count the operations of a forward pass, part by part."""
    return {
        "vision": counts.tower_inputs * _tower_work(config),
        "projector": 2.0 * counts.cells * projector_size(config),
        "memaug": _memaug_work(counts, config),
        "language_model": _language_work(counts, config),
    }


def projector_size(config: HourLlavaConfig) -> int:
    """Count the numbers of the projector's two matrices."""
    hidden = config.text_config.hidden_size
    return config.num_projector_channels * hidden + hidden * hidden


def _tower_work(config: HourLlavaConfig) -> float:
    vision = config.vision_config
    width, cells = vision.hidden_size, config.grid_side**2
    weights = 4 * width * width + 2 * width * vision.intermediate_size
    patches = 2.0 * cells * 3 * vision.patch_size**2 * width
    return patches + vision.num_hidden_layers * (2.0 * cells * weights + 4.0 * cells**2 * width)


def heads_of(config: HourLlavaConfig) -> tuple[int, int]:
    """Give the width of all query heads, and that of all key heads."""
    text = config.text_config
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return text.num_attention_heads * head, text.num_key_value_heads * head


def _memaug_work(counts: TokenCounts, config: HourLlavaConfig) -> float:
    D = config.text_config.hidden_size
    queries, keys = heads_of(config)
    N, M = counts.question + counts.kept, counts.memory
    if not M:
        return 0.0
    own = D * (queries + 2 * keys) + 3 * queries * D + 8 * D * D
    read = 2 * D * keys
    row = 2.0 * N * own + 4.0 * N * N * queries + 4.0 * N * M * queries
    layer = counts.rows * row + counts.memories * 2.0 * M * read
    return config.memaug_num_layers * layer


def _language_work(counts: TokenCounts, config: HourLlavaConfig) -> float:
    text = config.text_config
    D = text.hidden_size
    queries, keys = heads_of(config)
    L = counts.row
    weights = D * (2 * queries + 2 * keys) + 3 * D * text.intermediate_size
    row = text.num_hidden_layers * (2.0 * L * weights + 2.0 * L * L * queries)
    return counts.rows * row + 2.0 * counts.learned * text.vocab_size * D
