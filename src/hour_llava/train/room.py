"""Memory of one device at the fullest moment of a training step, item by item.

    weights       4 bytes a trained number, 2 (fsdp2 in bf16) or 4 a frozen one
    gradients     4 a trained number
    optimiser     8 a trained number: AdamW's two averages
    gathered      fsdp2 in bf16: 2 bytes a number of the root (tower, projector, embeddings, head)
                  and of two layers, 2 more for the root's gradients and 6 for a layer's
    casts         autocast in bf16: 2 bytes a trained number
    kept          what the forward pass keeps for the backward one: with checkpointing one state
                  (row x D) a layer of each part in the graph, else all that the layer saves; a
                  video's memory, and what the projector saves (2 D b a cell)
    working       the fullest of: a chunk of the loss, a layer of the language model, of MemAug, of
                  the tower, the projector's backward
    inputs        features in bfloat16, pixels in float32
    around        what torch and its libraries take

fsdp2 divides the first three by the number of processes. With `b` bytes an activation (2 in bf16)
and `s` bytes a residual stream (2 under fsdp2 in bf16, else 4), a layer saves, and takes besides
while its backward runs,

    language model  L x (8 D + 4 D b + 4 Hq b + 2 Hk b + 4 I b)          L x (D s + 3 I b)
    MemAug          N x (6 D s + 8 D b + 6 Hq b + 2 Hk b) + M x 3 Hk b   N x 2 D s + M x grown
    tower           n x (2 C s + 7 C b + 2 I b)                          n x (C s + I b)
    loss                                                                 chunk x V x 16

where `grown` is the larger of 2 Hk b + D s (attention's backward) and 2 D s - Hk b (behind it).
Checked on a CPU by counting live tensors of forward and backward: docs/training.md.

Letters: as in `sizes`; Hq, Hk width of all query and of all key heads, I of the feed-forward, C of
the tower, n its tokens, V words.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from hour_llava.model.configuration_hour_llava import HourLlavaConfig
from hour_llava.train.config import Part
from hour_llava.train.sizes import TokenCounts
from hour_llava.train.work import heads_of

AROUND_GPU, AROUND_CPU = 1.5e9, 0.5e9
FRAGMENTS = 0.05
"""Share of activations that the allocator holds beyond what is used."""
ENCODE_TOKENS = 24_576


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How the computation lies on devices.

    Args:
        world_size: Processes.
        sharding: As chosen: none, ddp or fsdp2.
        is_bf16: Whether it computes in bfloat16.
        checkpointing: Of activations.
        loss_chunk_size: Positions whose logits exist at a time.
        is_gpu: Devices, or a CPU's processes.
    """

    world_size: int
    sharding: str
    is_bf16: bool
    checkpointing: bool
    loss_chunk_size: int
    is_gpu: bool

    @property
    def activation_bytes(self) -> int:
        """Of a number that a matrix product takes."""
        return 2 if self.is_bf16 else 4

    @property
    def is_autocast(self) -> bool:
        """Whether weights stay float32 and autocast computes in bfloat16."""
        return self.is_bf16 and self.sharding != "fsdp2"

    @property
    def stream_bytes(self) -> int:
        """Of a number of the residual stream: autocast keeps it in float32."""
        return 2 if self.is_bf16 and self.sharding == "fsdp2" else 4


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Numbers of the model.

    Args:
        all, trained: Of each part.
        root: Of what fsdp2 gathers once a forward.
        root_trained: Those of them that are trained.
        largest_layer: Of a decoder layer or MemAug block.
    """

    all: Mapping[str, int]
    trained: Mapping[str, int]
    root: int
    root_trained: int
    largest_layer: int


def static_room(weights: Weights, layout: Layout) -> dict[str, float]:
    """Count what is there all the time: bytes of one device."""
    trained = sum(weights.trained.values())
    frozen = sum(weights.all.values()) - trained
    is_sharded = layout.sharding == "fsdp2"
    share = layout.world_size if is_sharded else 1
    frozen_bytes = 2 if is_sharded and layout.is_bf16 else 4
    items = {
        "weights": (4.0 * trained + frozen_bytes * frozen) / share,
        "gradients": 4.0 * trained / share,
        "optimiser": 8.0 * trained / share,
    }
    if is_sharded:
        size = layout.activation_bytes
        items["gathered"] = (
            size * (weights.root + weights.root_trained)
            + (2 * size + size + 4) * weights.largest_layer
        )
    elif layout.is_bf16:
        items["casts"] = 2.0 * trained
    if layout.sharding == "ddp":
        items["buckets"] = 4.0 * trained
    items["around"] = AROUND_GPU if layout.is_gpu else AROUND_CPU
    return items


def activation_room(
    samples: Collection[TokenCounts],
    config: HourLlavaConfig,
    trained: Collection[Part],
    layout: Layout,
) -> dict[str, float]:
    """Count what a micro-batch of these samples takes at the fullest moment: bytes."""
    totals = _Totals.of(samples, config)
    kept = _kept(totals, config, trained, layout)
    working = _working(totals, config, trained, layout)
    # Backward goes from the last part to the first and lets go of what is behind it.
    moments = {
        "loss": kept["language_model"] + kept["memaug"] + kept["memory"] + kept["vision"],
        "language_model": kept["language_model"] + kept["memaug"] + kept["memory"] + kept["vision"],
        "memaug": kept["memaug"] + kept["memory"] + kept["vision"],
        "projector": kept["memory"] + kept["vision"],
        "vision": kept["vision"],
    }
    fullest = max(moments, key=lambda name: moments[name] + working[name])
    whole = moments[fullest] + working[fullest]
    return {
        "kept": moments[fullest],
        f"working ({fullest.replace('_', ' ')})": working[fullest],
        "inputs": totals.input_bytes,
        "fragments": FRAGMENTS * whole,
    }


@dataclass(frozen=True, kw_only=True)
class _Totals:
    """Tokens of a micro-batch: rows are padded to the longest."""

    row_tokens: int
    longest: int
    queries: int
    memory: int
    cells: int
    tower_inputs: int
    learned: int
    input_bytes: float

    @classmethod
    def of(cls, samples: Collection[TokenCounts], config: HourLlavaConfig) -> _Totals:
        longest = max(sample.row for sample in samples)
        features = sum(s.cells for s in samples if not s.tower_inputs)
        inputs = sum(s.tower_inputs for s in samples)
        return cls(
            row_tokens=longest * sum(s.rows for s in samples),
            longest=longest,
            queries=sum(s.rows * (s.question + s.kept) for s in samples),
            memory=sum(s.memories * s.memory for s in samples),
            cells=sum(s.cells for s in samples),
            tower_inputs=inputs,
            learned=sum(s.learned for s in samples),
            input_bytes=2.0 * features * config.vision_config.hidden_size
            + 4.0 * inputs * 3 * config.tile_size**2,
        )


def _kept(
    totals: _Totals, config: HourLlavaConfig, trained: Collection[Part], layout: Layout
) -> dict[str, float]:
    text, vision = config.text_config, config.vision_config
    D, size, stream = text.hidden_size, layout.activation_bytes, layout.stream_bytes
    once = layout.checkpointing
    states = totals.row_tokens * D * stream
    own = totals.queries * D * stream
    # A video's tokens, and before them what the projector's two layers and its GELU keep.
    memory = float(totals.memory) * D * stream
    if {"vision", "projector"} & set(trained):
        memory += 2.0 * totals.cells * D * size
        is_copied = totals.tower_inputs or stream == 4  # features come in bfloat16
        memory += totals.cells * vision.hidden_size * size if is_copied else 0.0
    if layout.is_autocast:
        memory += totals.memory * D * 2.0
    tower_tokens = totals.tower_inputs * config.grid_side**2
    tower = 0.0
    if "vision" in trained:
        state = tower_tokens * vision.hidden_size * stream
        tower = vision.num_hidden_layers * (
            state if once else _tower_layer(tower_tokens, config, layout)
        )
    return {
        "language_model": text.num_hidden_layers
        * (states if once else _language_layer(totals, config, layout))
        + 2 * states,
        "memaug": config.memaug_num_layers
        * (own if once else _memaug_layer(totals, config, layout))
        + own,
        "memory": memory,
        "vision": tower,
    }


def _working(
    totals: _Totals, config: HourLlavaConfig, trained: Collection[Part], layout: Layout
) -> dict[str, float]:
    """Count what a part's backward takes beyond what is kept."""
    text, vision = config.text_config, config.vision_config
    (_, keys), D = heads_of(config), text.hidden_size
    size, stream = layout.activation_bytes, layout.stream_bytes
    again = 1.0 if layout.checkpointing else 0.0  # what a layer saves exists again, or still
    chunk = min(layout.loss_chunk_size, max(1, totals.learned))
    trains_memory = bool({"vision", "projector"} & set(trained))
    tower_tokens = totals.tower_inputs * config.grid_side**2
    if "vision" in trained:
        tower = again * _tower_layer(tower_tokens, config, layout)
    else:  # a chunk of frames at a time; nothing is kept
        tower_tokens = min(tower_tokens, ENCODE_TOKENS)
        tower = tower_tokens * (3.0 * vision.hidden_size + vision.intermediate_size) * size
    tower += tower_tokens * (vision.hidden_size * stream + vision.intermediate_size * size)
    gradient = float(D * stream) if trains_memory else 0.0
    grown = max(2.0 * keys * size + gradient, 2 * gradient - keys * size)
    memory = totals.memory
    return {
        "loss": 16.0 * chunk * text.vocab_size,
        "language_model": again * _language_layer(totals, config, layout)
        + totals.row_tokens * (D * stream + 3.0 * text.intermediate_size * size),
        "memaug": again * _memaug_layer(totals, config, layout)
        + totals.queries * 2.0 * D * stream
        + memory * grown,
        "projector": 2.0 * totals.cells * D * size + memory * gradient if trains_memory else 0.0,
        "vision": tower,
    }


def _language_layer(totals: _Totals, config: HourLlavaConfig, layout: Layout) -> float:
    text, (queries, keys) = config.text_config, heads_of(config)
    D, size = text.hidden_size, layout.activation_bytes
    one = 8 * D + 4 * D * size + 4 * queries * size + 2 * keys * size
    return float(totals.row_tokens) * (one + 4 * text.intermediate_size * size)


def _memaug_layer(totals: _Totals, config: HourLlavaConfig, layout: Layout) -> float:
    (queries, keys), D = heads_of(config), config.text_config.hidden_size
    size, stream = layout.activation_bytes, layout.stream_bytes
    own = 6 * D * stream + 8 * D * size + 6 * queries * size + 2 * keys * size
    read = 3 * keys * size
    if layout.is_autocast:  # it casts what norms and memory give anew in every layer
        own += 6 * D
        read += 2 * D
    return float(totals.queries) * own + float(totals.memory) * read


def _tower_layer(num_tokens: int, config: HourLlavaConfig, layout: Layout) -> float:
    vision, size = config.vision_config, layout.activation_bytes
    one = 2 * vision.hidden_size * layout.stream_bytes + 7 * vision.hidden_size * size
    return float(num_tokens) * (one + 2 * vision.intermediate_size * size)
