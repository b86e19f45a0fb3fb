"""Where training may start: checkpoints of four layouts, their tensors under our names.

    hour_llava          ours, or released Hour-LLaVA        nothing is new
    llava_onevision     LLaVA-OneVision as released         MemAug is new
    llava_onevision_hf  the same as transformers writes it  MemAug is new
    qwen_siglip         a Qwen2 and a SigLIP folder         projector, newline, MemAug are new

Every tensor of a source is used, or is of a kind that the architecture has no use for; anything
else is an error, and so is a tensor that is missing. No weights are read here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from transformers import AutoConfig, GenerationConfig, Qwen2Config

from hour_llava.errors import CheckpointError, ConfigError
from hour_llava.model.checkpoints import (
    Checkpoint,
    expected_shapes,
    find_folder,
    listing,
    naming_folder,
    read_checkpoint,
    read_config_json,
    read_tokenizer,
    without_tied_head,
)
from hour_llava.model.configuration_hour_llava import SO400M_384, HourLlavaConfig
from hour_llava.model.processing_hour_llava import HourLlavaProcessor
from hour_llava.model.prompts import CHAT_TEMPLATE, TURN_END
from hour_llava.model.released_layout import (
    RELEASED_TYPE,
    config_from_released,
    our_key,
)
from hour_llava.model.tensor_files import TensorEntry, read_folder
from hour_llava.train.config import Layout, ModelConfig

MEMAUG, MEMORY_MAKER = "model.memaug.", "model.memory_maker."
TOWER = "model.vision_tower."

_HF_NAMES = (
    (r"^(?:model\.)?image_newline$", "model.memory_maker.newline"),
    (r"^(?:model\.)?multi_modal_projector\.linear_([12])\.", r"model.memory_maker.projector.fc\1."),
    (r"^(?:model\.)?vision_tower\.(?:vision_model\.)?", TOWER),
    (r"^language_model\.lm_head\.", "lm_head."),
    (r"^language_model\.model\.", "model.language_model."),
)
"""Keys of transformers' LLaVA-OneVision, of before and since its release 4.52, and our names."""

_QWEN_NAMES = ((r"^model\.", "model.language_model."),)
_SIGLIP_NAMES = (
    (r"^(?:vision_model\.)?(?=embeddings\.|encoder\.|post_layernorm\.|head\.)", TOWER),
)
_SIGLIP_UNUSED = (r"^text_model\.", r"^logit_(?:scale|bias)$", r"^model\.vision_tower\.head\.")

_VISION_FIELDS = ("hidden_size", "intermediate_size", "num_attention_heads", "image_size")
_VISION_FIELDS += ("patch_size", "hidden_act", "layer_norm_eps", "num_channels")


@dataclass(frozen=True, kw_only=True)
class Start:
    """What training starts from, read and checked; no weight is in memory yet.

    Args:
        name: as the user named it.
        layout: what it was found to be.
        config: of the model to be trained.
        processor: that makes its inputs.
        entries: where each tensor lies, by our names.
        source_names: what those are called in their files.
        new: our names of the tensors that no file has.
        unused: keys of the files that the architecture has no place for.
        generation_config: how its answers end.
        changed: what the settings make different from the start's own.
    """

    name: str
    layout: Layout
    config: HourLlavaConfig
    processor: HourLlavaProcessor
    entries: Mapping[str, TensorEntry]
    source_names: Mapping[str, str]
    new: tuple[str, ...]
    unused: tuple[str, ...]
    generation_config: GenerationConfig
    changed: tuple[str, ...] = ()


def read_start(model: ModelConfig) -> Start:
    """Read where training starts: configuration, processor, and the list of its tensors.

    Raises:
        ModelNotFoundError: nothing of that name is here, or on a hub that can be reached.
        CheckpointError: names what is missing, extra, of a wrong shape, or of another model.
        ConfigError: `language_model` or `vision_tower` with a start that is whole.
    """
    folder = _start_folder(model)
    with naming_folder(folder):
        values = read_config_json(folder)
        layout = _layout_of(folder, values) if model.layout == "auto" else model.layout
        _check_halves(model, layout)
        start = _READERS[layout](model, folder, values)
    changed: list[str] = []
    for name in ("spatial_forgetting", "temporal_forgetting"):
        own, asked = getattr(start.config, name), getattr(model, name)
        if own != asked and start.layout == "hour_llava":
            changed.append(f"{name}: {own} in {start.name}, trained with {asked}")
        setattr(start.config, name, asked)
        setattr(start.processor, name, asked)
    return replace(start, changed=tuple(changed))


def start_config(model: ModelConfig) -> HourLlavaConfig:
    """Give the configuration of the model to be trained, for estimates: no weights are touched.

    The published starting points are known by name, so that they need no network.

    Raises:
        ModelNotFoundError, CheckpointError: as `read_start`.
    """
    if is_known_by_name(model):
        known = _PUBLISHED[model.start]
        text = Qwen2Config(
            **_QWEN_COMMON, **known, rope_parameters={"rope_type": "default", "rope_theta": 1e6}
        )
        config = HourLlavaConfig(vision_config=dict(SO400M_384), text_config=text)
    else:
        config = read_start(model).config
    config.spatial_forgetting = model.spatial_forgetting
    config.temporal_forgetting = model.temporal_forgetting
    return config


def is_known_by_name(model: ModelConfig) -> bool:
    """Say whether `start_config` needs no file: a published start that is no folder here."""
    is_in_halves = model.language_model is not None or model.vision_tower is not None
    return not is_in_halves and model.start in _PUBLISHED and not Path(model.start).is_dir()


_QWEN_COMMON: Mapping[str, Any] = {"max_position_embeddings": 32_768, "rms_norm_eps": 1e-6}
_3B: Mapping[str, Any] = {
    "hidden_size": 2048,
    "intermediate_size": 11_008,
    "num_hidden_layers": 36,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "vocab_size": 151_936,
    "tie_word_embeddings": True,
}
_7B: Mapping[str, Any] = {
    "hidden_size": 3584,
    "intermediate_size": 18_944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152_064,
    "tie_word_embeddings": False,
}
_PUBLISHED: Mapping[str, Mapping[str, Any]] = {
    "jylins/llava-onevision-qwen25-3b-si": _3B,
    **{f"jylins/hourllava-qwen25-3b-s{stage}": _3B for stage in (1, 2, 3)},
    "lmms-lab/llava-onevision-qwen2-7b-si": _7B,
    **{f"jylins/hourllava-qwen2-7b-s{stage}": _7B for stage in (1, 2, 3)},
}
"""Sizes of Qwen2.5-3B and Qwen2-7B as published by their makers."""


# ------------------------------------------------------------------- which layout


def _start_folder(model: ModelConfig) -> Path:
    """Find the folder whose config.json says what START is."""
    if model.language_model and model.vision_tower:  # both halves: START has nothing to say
        return find_folder(model.language_model)
    if not model.start:
        raise ConfigError("--model.start is empty: name a folder or a hub id to start from")
    return find_folder(model.start)


def _layout_of(folder: Path, values: Mapping[str, Any]) -> Layout:
    """Tell a layout by its configuration.

    Raises:
        CheckpointError: it is none that training can start from.
    """
    kind = values.get("model_type")
    if kind in (HourLlavaConfig.model_type, RELEASED_TYPE):
        return "hour_llava"
    if kind == "llava_onevision":
        return "llava_onevision_hf"
    # Published as "llava_qwen" and, for the hub's sake, as plain "llava".
    if "mm_vision_tower" in values and "mm_projector_type" in values:
        return "llava_onevision"
    if kind in ("qwen2", *_SIGLIP_TYPES):
        return "qwen_siglip"
    raise CheckpointError(
        f"{folder} holds a {kind!r} model: training starts from Hour-LLaVA, LLaVA-OneVision (as "
        "released or as transformers writes it), or Qwen2 with SigLIP"
    )


_SIGLIP_TYPES = ("siglip", "siglip_vision_model")


def _check_halves(model: ModelConfig, layout: Layout) -> None:
    """Refuse a half that a whole model would not take."""
    given = [n for n in ("language_model", "vision_tower") if getattr(model, n) is not None]
    if layout != "qwen_siglip" and given:
        flag = given[0].replace("_", "-")
        raise ConfigError(
            f"--model.{flag} {getattr(model, given[0])}: {model.start} is a whole model with one "
            f"of its own; leave --model.{flag} out, or name both --model.language-model and "
            "--model.vision-tower"
        )


# ------------------------------------------------------------------- the four readers


def _read_hour_llava(model: ModelConfig, folder: Path, values: Mapping[str, Any]) -> Start:
    found: Checkpoint = read_checkpoint(folder)
    processor = found.processor()
    if str(processor.chat_template).strip() != CHAT_TEMPLATE.strip():
        raise CheckpointError(
            f"{folder} has a chat template of its own, and training writes the released one: it "
            "would be trained on prompts that it is never asked (nano: `make nano` trains it)"
        )
    names = {key: key for key in found.entries}
    if found.layout == "released":
        names = {our_key(key): key for key in read_folder(folder)}
    return Start(
        name=model.start,
        layout="hour_llava",
        config=found.config,
        processor=processor,
        entries=found.entries,
        source_names=names,
        new=(),
        unused=(),
        generation_config=_generation_config(folder, found.config, found.tokenizer),
    )


def _read_llava_onevision(model: ModelConfig, folder: Path, values: Mapping[str, Any]) -> Start:
    """Read LLaVA-OneVision's own layout: Hour-LLaVA's released one without MemAug."""
    tokenizer = read_tokenizer(folder)
    ours = {"mm_resampler_type": "memaug", "memaug_depth": 4, "mm_spatial_pool_mode": "bilinear"}
    ours |= {"spatial_sampling_type": model.spatial_forgetting, "add_time_instruction": True}
    ours |= {"model_type": RELEASED_TYPE, "architectures": ["HourLlavaQwenForCausalLM"]}
    config = config_from_released(dict(values) | ours, folder, num_words=len(tokenizer))
    source = _Source(folder, our_key, unused=_above(config.vision_config.num_hidden_layers))
    return _start_of(model, "llava_onevision", config, tokenizer, [source], new=(MEMAUG,))


def _read_llava_onevision_hf(model: ModelConfig, folder: Path, values: Mapping[str, Any]) -> Start:
    """Read LLaVA-OneVision as transformers writes it."""
    layout: Layout = "llava_onevision_hf"
    wanted = {"projector_hidden_act": "gelu", "vision_feature_select_strategy": "full"}
    for name, value in wanted.items():
        if values.get(name, value) != value:
            raise CheckpointError(
                f"{folder}/config.json has {name} {values[name]!r}; Hour-LLaVA has {value!r}"
            )
    vision = dict(values.get("vision_config") or {})
    depth = int(vision.get("num_hidden_layers", SO400M_384["num_hidden_layers"]))
    feature_layer = int(values.get("vision_feature_layer", -1))
    kept = feature_layer if feature_layer >= 0 else depth + 1 + feature_layer
    tokenizer = read_tokenizer(folder)
    config = HourLlavaConfig(
        vision_config=_tower_config(vision, kept),
        text_config=_text_config(folder, dict(values.get("text_config") or {})),
        image_token_id=len(tokenizer),
        video_token_id=len(tokenizer) + 1,
        spatial_forgetting=model.spatial_forgetting,
        image_grid_pinpoints=values.get("image_grid_pinpoints"),
        image_aspect_ratio=values.get("vision_aspect_ratio", "anyres_max_9"),
        tie_word_embeddings=values.get("tie_word_embeddings", False),
    )
    source = _Source(folder, partial(_renamed, _HF_NAMES), unused=_above(kept))
    return _start_of(model, layout, config, tokenizer, [source], new=(MEMAUG,))


def _read_qwen_siglip(model: ModelConfig, folder: Path, values: Mapping[str, Any]) -> Start:
    """Join a language model and a vision tower; what leads from one to the other is new."""
    is_tower = values.get("model_type") in _SIGLIP_TYPES
    language = model.language_model or ("" if is_tower else model.start)
    tower = model.vision_tower or (model.start if is_tower else "")
    for flag, name in (("language-model", language), ("vision-tower", tower)):
        if not name:
            raise ConfigError(
                f"--model.start {model.start} is one half of a model; name the other with "
                f"--model.{flag}"
            )
    text_folder, tower_folder = find_folder(language), find_folder(tower)
    with naming_folder(tower_folder):
        seen = read_config_json(tower_folder)
        if seen.get("model_type") not in _SIGLIP_TYPES:
            raise CheckpointError(
                f"{tower_folder} holds a {seen.get('model_type')!r} model; the vision tower is a "
                "SigLIP"
            )
        # A lone tower's configuration is SigLIP's own; a pair's holds it under its name.
        seen = AutoConfig.from_pretrained(tower_folder).to_dict()
        vision = dict(seen.get("vision_config") or seen)
        kept = int(vision["num_hidden_layers"]) - 1  # as released: the last layer is not read
    with naming_folder(text_folder):
        text = _text_config(text_folder, read_config_json(text_folder))
        tokenizer = read_tokenizer(text_folder)
    config = HourLlavaConfig(
        vision_config=_tower_config(vision, kept),
        text_config=text,
        image_token_id=len(tokenizer),
        video_token_id=len(tokenizer) + 1,
        spatial_forgetting=model.spatial_forgetting,
        vision_tower_name=tower,
    )
    sources = [
        _Source(text_folder, partial(_renamed, _QWEN_NAMES)),
        _Source(
            tower_folder,
            partial(_renamed, _SIGLIP_NAMES),
            unused=(*_SIGLIP_UNUSED, *_above(kept)),
        ),
    ]
    new = (MEMAUG, MEMORY_MAKER)
    return _start_of(model, "qwen_siglip", config, tokenizer, sources, new=new)


_READERS: Mapping[Layout, Callable[[ModelConfig, Path, Mapping[str, Any]], Start]] = {
    "hour_llava": _read_hour_llava,
    "llava_onevision": _read_llava_onevision,
    "llava_onevision_hf": _read_llava_onevision_hf,
    "qwen_siglip": _read_qwen_siglip,
}


# ------------------------------------------------------------------- their common parts


@dataclass(frozen=True)
class _Source:
    """A folder of tensors: how its keys become ours, and which of those are of no use."""

    folder: Path
    rename: Callable[[str], str]
    unused: tuple[str, ...] = ()


def _renamed(names: tuple[tuple[str, str], ...], key: str) -> str:
    for pattern, ours in names:
        renamed, count = re.subn(pattern, ours, key, count=1)
        if count:
            return renamed
    return key


def _above(num_layers: int) -> tuple[str, ...]:
    """Match a tower's layers that are not read, and its pooling head."""
    allowed = "|".join(map(str, range(num_layers)))
    return (
        rf"^model\.vision_tower\.encoder\.layers\.(?!(?:{allowed})\.)\d+\.",
        r"^model\.vision_tower\.head\.",
    )


def _tower_config(vision: Mapping[str, Any], num_layers: int) -> dict[str, Any]:
    own = {name: vision[name] for name in _VISION_FIELDS if name in vision}
    fixed = {"num_hidden_layers": num_layers, "vision_use_head": False}
    return dict(SO400M_384) | own | fixed


def _text_config(folder: Path, values: dict[str, Any]) -> Qwen2Config:
    if values.get("model_type") != "qwen2":
        raise CheckpointError(
            f"{folder} has a language model of type {values.get('model_type')!r}; Hour-LLaVA is "
            "built on 'qwen2' (Qwen2, Qwen2.5)"
        )
    return Qwen2Config.from_dict(values)


def _start_of(
    model: ModelConfig,
    layout: Layout,
    config: HourLlavaConfig,
    tokenizer: Any,
    sources: list[_Source],
    *,
    new: tuple[str, ...],
) -> Start:
    """Account for every tensor of the sources and of the model.

    Raises:
        CheckpointError: names what is missing, extra, or of a wrong shape.
    """
    entries: dict[str, TensorEntry] = {}
    names: dict[str, str] = {}
    unused: list[str] = []
    for source in sources:
        for key, entry in read_folder(source.folder).items():
            ours = source.rename(key)
            if any(re.match(pattern, ours) for pattern in source.unused):
                unused.append(key)
                continue
            entries[ours], names[ours] = entry, key
    folders = " and ".join(str(source.folder) for source in sources)
    entries = without_tied_head(sources[0].folder, config, entries)
    shapes = expected_shapes(config)
    made = [key for key in shapes.keys() - entries.keys() if key.startswith(new)]
    _check(folders, shapes, entries, names, allowed=set(made))
    _check_words(folders, config, tokenizer)
    return Start(
        name=model.start,
        layout=layout,
        config=config,
        processor=HourLlavaProcessor.from_config(config, tokenizer),
        entries=entries,
        source_names=names,
        new=tuple(sorted(made)),
        unused=tuple(sorted(unused)),
        generation_config=_generation_config(sources[0].folder, config, tokenizer),
    )


def _check(
    folders: str,
    shapes: Mapping[str, tuple[int, ...]],
    entries: Mapping[str, TensorEntry],
    names: Mapping[str, str],
    *,
    allowed: set[str],
) -> None:
    both = shapes.keys() & entries.keys()
    wrong = [
        f"{names[key]} {entries[key].shape}, not {shapes[key]}"
        for key in both
        if entries[key].shape != shapes[key]
    ]
    faults = [
        listing("is missing", [k for k in shapes.keys() - entries.keys() if k not in allowed]),
        listing("has extra", [names[key] for key in entries.keys() - shapes.keys()]),
        listing("has wrong shapes:", wrong),
    ]
    if any(faults):
        raise CheckpointError(
            f"{folders} {'; '.join(fault for fault in faults if fault)} (missing ones by our "
            "names): its weights do not belong to its config.json, or it is another model"
        )


def _check_words(folders: str, config: HourLlavaConfig, tokenizer: Any) -> None:
    words, rows = len(tokenizer), config.text_config.vocab_size
    if words > rows:
        raise CheckpointError(
            f"{folders}: the tokenizer has {words} words, the embedding {rows} rows; take both "
            "from one model"
        )


def _generation_config(folder: Path, config: HourLlavaConfig, tokenizer: Any) -> GenerationConfig:
    """Let answers end with their turn; a chat model's sampling settings stay behind."""
    try:
        given = GenerationConfig.from_pretrained(folder)
    except OSError:
        given = GenerationConfig.from_model_config(config)
    ends = given.eos_token_id
    ends = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
    turn_end = tokenizer.convert_tokens_to_ids(TURN_END)
    if turn_end is not None and turn_end != tokenizer.unk_token_id:
        ends = [turn_end, *(end for end in ends if end != turn_end)]
    pad = given.pad_token_id if given.pad_token_id is not None else tokenizer.pad_token_id
    return GenerationConfig(eos_token_id=ends or None, pad_token_id=pad, do_sample=False)
