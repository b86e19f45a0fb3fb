"""The configuration of Hour-LLaVA: the released architecture, and options that it lacks.

Sizes are those of the two halves (`vision_config`, `text_config`); what stands here says how they
are joined: pooling, MemAug, forgetting, tiles. The last block is absent from the released
architecture and off by default; the built-in nano uses it.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from transformers import AutoConfig, PreTrainedConfig

from hour_llava.memory.forgetting import SpatialForgetting, TemporalForgetting
from hour_llava.model.registration import register_auto_classes

OptionScoring = Literal["letter", "likelihood"]
ImageAspectRatio = Literal["anyres", "anyres_max_9", "pad"]

SO400M_384: dict[str, Any] = {
    "model_type": "siglip_vision_model",
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 26,
    "num_attention_heads": 16,
    "image_size": 384,
    "patch_size": 14,
    "vision_use_head": False,
}
"""google/siglip-so400m-patch14-384 without its last layer and its head, as released."""


class HourLlavaConfig(PreTrainedConfig):
    """Configure Hour-LLaVA; the defaults are the released 3B's.

    Args:
        vision_config: a SigLIP tower without the layers that are not read (dict or config).
        text_config: the language model (dict or config); MemAug takes its width and heads.
        image_token_id: stands for one visual token of an image; no text is tokenized to it.
        video_token_id: the same for a video.
        pool_size: a frame's grid is pooled to pool_size x pool_size cells.
        memaug_num_layers: blocks of MemAug.
        spatial_forgetting: "random" or "uniform" quarter of a frame's cells.
        temporal_forgetting: "uniform", "random", "keyframe" or "question".
        frame_keep_ratio: one frame of so many is kept ..
        max_kept_frames: .. and at most so many.
        min_memory_frames: shorter videos are repeated up to so many memory frames.
        image_grid_pinpoints: tile sheets of images, (width, height) in pixels.
        image_aspect_ratio: "anyres*" cuts a lone image into tiles, "pad" never.
        time_instruction: the prompt says how long the video is and how many frames were read.
        vision_tower_name: where the tower came from; written back into released folders.
        released_config: the configuration this one was converted from, to convert back.
        projector_layer_norm: LayerNorm right after the projector.
        tube_size: the projector sees so many frames at a time: t, t - 1, ..
        time_features: Fourier features of t / T and of seconds are added to memory tokens.
        log_n_reference: MemAug scales queries by log(n) / log(reference) over longer memories.
        option_scoring: how options are chosen: the letter that is generated, or likelihood.
        domain: what the model knows, if that is less than the world.
        abstain_below: answers less confident than this are not given.

    Source: arXiv 2506.05332, sections 3 and 4.
    """

    model_type = "hour_llava"
    # Not annotated: transformers makes a field of what is.
    sub_configs = {"vision_config": AutoConfig, "text_config": AutoConfig}  # noqa: RUF012 # pyright: ignore

    vision_config: Any = None
    text_config: Any = None
    image_token_id: int = 151665
    video_token_id: int = 151666
    pool_size: int = 8
    memaug_num_layers: int = 4
    spatial_forgetting: str = "random"
    temporal_forgetting: str = "uniform"
    frame_keep_ratio: int = 4
    max_kept_frames: int = 512
    min_memory_frames: int = 128
    image_grid_pinpoints: Any = None
    image_aspect_ratio: str = "anyres_max_9"
    time_instruction: bool = True
    vision_tower_name: str | None = "google/siglip-so400m-patch14-384"
    released_config: Any = None
    tie_word_embeddings: bool = False

    projector_layer_norm: bool = False
    tube_size: int = 1
    time_features: bool = False
    log_n_reference: int | None = None
    option_scoring: str = "letter"
    domain: str | None = None
    abstain_below: float | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        self.vision_config = _as_config(self.vision_config, SO400M_384)
        self.text_config = _as_config(self.text_config, {"model_type": "qwen2"})
        if self.image_grid_pinpoints is None:
            tile = self.vision_config.image_size
            sides = [tile * count for count in range(1, 7)]
            self.image_grid_pinpoints = [[width, height] for width in sides for height in sides]
        self.tie_word_embeddings = bool(
            self.tie_word_embeddings or getattr(self.text_config, "tie_word_embeddings", False)
        )
        self.text_config.tie_word_embeddings = self.tie_word_embeddings
        self._require("spatial_forgetting", SpatialForgetting)
        self._require("temporal_forgetting", TemporalForgetting)
        self._require("option_scoring", OptionScoring)
        self._require("image_aspect_ratio", ImageAspectRatio)
        super().__post_init__(**kwargs)

    def _require(self, name: str, allowed: Any) -> None:
        value, choices = getattr(self, name), get_args(allowed)
        if value not in choices:
            raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(choices)}")

    @property
    def grid_side(self) -> int:
        """Cells along one side of a tile, as the tower gives them (27 for so400m at 384)."""
        return self.vision_config.image_size // self.vision_config.patch_size

    @property
    def tile_size(self) -> int:
        """Pixels along one side of a tile or frame."""
        return self.vision_config.image_size

    @property
    def num_cells(self) -> int:
        """Cells of a pooled frame; its memory tokens are one more, the newline."""
        return self.pool_size**2

    @property
    def num_projector_channels(self) -> int:
        """Channels the projector reads: the tower's, times the frames of a tube."""
        return self.vision_config.hidden_size * self.tube_size


def _as_config(given: Any, default: dict[str, Any]) -> Any:
    """Turn a dict, a config or None into a config of its own model type."""
    if given is None:
        given = default
    if isinstance(given, PreTrainedConfig):
        return given
    values = dict(given)
    return AutoConfig.for_model(values.pop("model_type", default["model_type"]), **values)


register_auto_classes()
