"""The released layout (`hour_llava_qwen`): its names and its configuration, to ours and back.

The names are a bijection and no tensor changes. A released configuration has no sizes of the
vision tower: they follow from its name, or, for towers that have none, from a `vision_meta.json`
beside it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import Qwen2Config

from hour_llava.errors import CheckpointError
from hour_llava.model.configuration_hour_llava import SO400M_384, HourLlavaConfig

RELEASED_TYPE = "hour_llava_qwen"
SO400M_NAME = "google/siglip-so400m-patch14-384"
VISION_META = "vision_meta.json"

# Ours on the left; released names on the right. Longer prefixes stand before shorter ones.
_NAMES = (
    ("model.memory_maker.newline", "model.image_newline"),
    ("model.memory_maker.projector.fc1.", "model.mm_projector.0."),
    ("model.memory_maker.projector.fc2.", "model.mm_projector.2."),
    ("model.memaug.", "model.vision_resampler."),
    ("model.vision_tower.", "model.vision_tower.vision_tower.vision_model."),
    ("model.language_model.", "model."),
)
_MEMAUG_NAMES = (
    (".self_attn.qkv_proj.", ".self_attn.Wqkv."),
    (".self_attn.o_proj.", ".self_attn.Wo."),
    (".cross_attn.q_proj.", ".cross_attn.Wq."),
    (".cross_attn.kv_proj.", ".cross_attn.Wkv."),
    (".cross_attn.o_proj.", ".cross_attn.Wo."),
    (".mlp.fc1.", ".mlp.0."),
    (".mlp.fc2.", ".mlp.2."),
)


def our_key(released: str) -> str:
    """Rename a released key to ours."""
    for ours, theirs in _NAMES:
        if released.startswith(theirs):
            renamed = ours + released[len(theirs) :]
            if ours == "model.memaug.":
                for our_part, their_part in _MEMAUG_NAMES:
                    renamed = renamed.replace(their_part, our_part)
            return renamed
    return released


def released_key(ours: str) -> str:
    """Rename one of our keys to the released one; the inverse of `our_key`."""
    for our_prefix, their_prefix in _NAMES:
        if ours.startswith(our_prefix):
            renamed = their_prefix + ours[len(our_prefix) :]
            if our_prefix == "model.memaug.":
                for our_part, their_part in _MEMAUG_NAMES:
                    renamed = renamed.replace(our_part, their_part)
            return renamed
    return ours


# -------------------------------------------------------------------- configurations

_TEXT_FIELDS = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers"),
    *("num_attention_heads", "num_key_value_heads", "hidden_act", "max_position_embeddings"),
    *("initializer_range", "rms_norm_eps", "use_cache", "tie_word_embeddings", "rope_theta"),
    *("use_sliding_window", "sliding_window", "max_window_layers", "attention_dropout"),
    *("bos_token_id", "eos_token_id", "pad_token_id"),
)
_ADDED_OPTIONS = {
    "projector_layer_norm": False,
    "tube_size": 1,
    "time_features": False,
    "log_n_reference": None,
    "pool_size": 8,
    "min_memory_frames": 128,
    "frame_keep_ratio": 4,
    "max_kept_frames": 512,
    "temporal_forgetting": "uniform",
}
_RELEASED_DEFAULTS = {
    "architectures": ["HourLlavaQwenForCausalLM"],
    "model_type": RELEASED_TYPE,
    "add_faster_video": False,
    "add_time_instruction": True,
    "faster_token_stride": 10,
    "force_sample": True,
    "image_crop_resolution": None,
    "image_split_resolution": None,
    "mm_newline_position": "grid",
    "mm_patch_merge_type": "spatial_unpad",
    "mm_projector_type": "mlp2x_gelu",
    "mm_resampler_type": "memaug",
    "mm_spatial_pool_mode": "bilinear",
    "mm_spatial_pool_stride": None,
    "mm_use_im_patch_token": False,
    "mm_use_im_start_end": False,
    "mm_vision_select_feature": "patch",
    "mm_vision_select_layer": -2,
    "pos_skipping_range": 4096,
    "rope_scaling": None,
    "tokenizer_model_max_length": 32768,
    "tokenizer_padding_side": "right",
    "use_mm_proj": True,
    "use_pos_skipping": False,
    "vision_tower_pretrained": None,
}


def config_from_released(
    values: Mapping[str, Any], folder: Path, *, num_words: int
) -> HourLlavaConfig:
    """Read a released configuration.

    Args:
        values: its config.json.
        folder: where it lies, and maybe a `vision_meta.json` with it.
        num_words: size of the tokenizer; the placeholders' ids stand behind its last word, where
            no text can reach them.

    Raises:
        CheckpointError: another model, or a tower of unknown sizes.
    """
    _require_released(values, folder)
    text = {name: values[name] for name in _TEXT_FIELDS if name in values}
    pinpoints = values.get("image_grid_pinpoints")
    return HourLlavaConfig(
        vision_config=_vision_config(values, folder),
        text_config=Qwen2Config(**text),
        image_token_id=num_words,
        video_token_id=num_words + 1,
        memaug_num_layers=values.get("memaug_depth", 4),
        spatial_forgetting=values.get("spatial_sampling_type", "random"),
        image_grid_pinpoints=pinpoints if isinstance(pinpoints, list) else None,
        image_aspect_ratio=values.get("image_aspect_ratio", "anyres_max_9"),
        time_instruction=values.get("add_time_instruction", True),
        vision_tower_name=values.get("mm_vision_tower"),
        released_config=dict(values),
    )


def _require_released(values: Mapping[str, Any], folder: Path) -> None:
    wanted = {
        "mm_resampler_type": "memaug",
        "mm_projector_type": "mlp2x_gelu",
        "mm_patch_merge_type": "spatial_unpad",
        "mm_spatial_pool_mode": "bilinear",
    }
    for name, value in wanted.items():
        if values.get(name, value) != value:
            raise CheckpointError(
                f"{folder}/config.json has {name} {values[name]!r}; Hour-LLaVA has {value!r}"
            )


def _vision_config(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    meta_path, tower = folder / VISION_META, str(values.get("mm_vision_tower"))
    if meta_path.is_file():
        meta = read_json(meta_path)
        names = ("hidden_size", "intermediate_size", "num_attention_heads", "image_size")
        names += ("patch_size", "hidden_act", "layer_norm_eps", "num_channels")
        vision = {name: meta[name] for name in names if name in meta}
        vision |= {"model_type": "siglip_vision_model", "vision_use_head": False}
        return vision | {"num_hidden_layers": meta["num_hidden_layers_kept"]}
    if Path(tower).name != Path(SO400M_NAME).name:
        raise CheckpointError(
            f"{folder}/config.json names the vision tower {tower!r}, whose sizes are unknown: "
            f"put a {VISION_META} beside it"
        )
    if values.get("mm_hidden_size", SO400M_384["hidden_size"]) != SO400M_384["hidden_size"]:
        raise CheckpointError(
            f"{folder}/config.json has mm_hidden_size {values['mm_hidden_size']}, but {tower} "
            f"is {SO400M_384['hidden_size']} wide"
        )
    return dict(SO400M_384)


def config_to_released(config: HourLlavaConfig) -> dict[str, Any]:
    """Write a configuration as the released code reads it.

    Raises:
        CheckpointError: names an option that the released architecture lacks.
    """
    for name, default in _ADDED_OPTIONS.items():
        if getattr(config, name) != default:
            raise CheckpointError(
                f"the released layout has no {name} (it is {getattr(config, name)!r} here): this "
                "model stays in the hour-llava layout"
            )
    text = config.text_config
    values = dict(_RELEASED_DEFAULTS) | dict(config.released_config or {})
    for name in _TEXT_FIELDS:
        if hasattr(text, name):
            values[name] = getattr(text, name)
    values |= {
        "rope_theta": text.rope_parameters["rope_theta"],
        "tie_word_embeddings": config.tie_word_embeddings,
        "memaug_depth": config.memaug_num_layers,
        "spatial_sampling_type": config.spatial_forgetting,
        "image_grid_pinpoints": config.image_grid_pinpoints,
        "image_aspect_ratio": config.image_aspect_ratio,
        "add_time_instruction": config.time_instruction,
        "mm_vision_tower": config.vision_tower_name or SO400M_NAME,
        "mm_hidden_size": config.vision_config.hidden_size,
        "torch_dtype": str(config.dtype or "float32").removeprefix("torch."),
    }
    return values


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        CheckpointError: the file is missing or not JSON.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} holds no JSON object")
    return values
