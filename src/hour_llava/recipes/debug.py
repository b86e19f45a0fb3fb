"""A tiny model, trained from scratch in a minute on a CPU, with no network: to try, and for tests.

`debug_stage1`, `debug_stage2` and `debug_stage3` train what the stages of the real recipes train,
with the same classes, on data that they make themselves under OUT/material. Each starts from
scratch, or from the stage before: `--model.start runs/debug_stage1/model`.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hour_llava.errors import ConfigError
from hour_llava.train.config import (
    SCRATCH,
    BatchConfig,
    CheckpointConfig,
    DataConfig,
    HardwareConfig,
    ModelConfig,
    OptimConfig,
    TrainConfig,
    WatchConfig,
)

if TYPE_CHECKING:
    from hour_llava.model.configuration_hour_llava import HourLlavaConfig
    from hour_llava.model.modeling_hour_llava import HourLlavaForConditionalGeneration
    from hour_llava.model.processing_hour_llava import HourLlavaProcessor

START = f"{SCRATCH}debug"
NUM_STEPS = 20
_VERSION = 1
_MARK = "material.json"


def debug_stage1() -> TrainConfig:
    """Train MemAug alone on single images."""
    return _config("debug_stage1", 1, OptimConfig(lr_memaug=2e-3))


def debug_stage2() -> TrainConfig:
    """Train everything on images, texts and short videos; these need PyAV, and else are left out.

    Features could not take their place: they would be of the tower as it was before training.
    """
    optim = OptimConfig(lr_vision=1e-4, lr_projector=2e-3, lr_memaug=2e-3, lr_language_model=1e-3)
    return _config("debug_stage2", 2, optim)


def debug_stage3() -> TrainConfig:
    """Train all but the vision tower, also on features of long videos."""
    optim = OptimConfig(lr_projector=2e-3, lr_memaug=2e-3, lr_language_model=1e-3)
    return _config("debug_stage3", 3, optim)


def _config(name: str, stage: Any, optim: OptimConfig) -> TrainConfig:
    return TrainConfig(
        name=name,
        stage=stage,
        model=ModelConfig(start=START),
        data=DataConfig(max_length=4096, broken_allowed=0, workers=0),
        optim=optim,
        batch=BatchConfig(global_batch_size=4, micro_batch_size=2, max_steps=NUM_STEPS),
        hardware=HardwareConfig(precision="fp32", loss_chunk_size=64, device="cpu"),
        checkpoints=CheckpointConfig(every_steps=5),
        watch=WatchConfig(log_every_steps=1),
    )


def shape() -> HourLlavaConfig:
    """Give the tiny model's configuration: the released classes and options, small sizes."""
    from hour_llava.model.configuration_hour_llava import HourLlavaConfig

    tokenizer = make_tokenizer()
    text = {
        "model_type": "qwen2",
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 32_768,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0},
        "bos_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": True,
    }
    vision = {
        "model_type": "siglip_vision_model",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
        "vision_use_head": False,
    }
    return HourLlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<video>"),
        pool_size=2,
        memaug_num_layers=2,
        max_kept_frames=64,
        min_memory_frames=8,
        vision_tower_name=None,
    )


def make_tokenizer() -> Any:
    """Make a tokenizer of single bytes in GPT-2's order, so that a newline has Qwen's id 198."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = [*map(chr, printable), *(chr(256 + number) for number in range(len(others)))]
    tokenizer = Tokenizer(
        models.BPE(vocab={letter: number for number, letter in enumerate(letters)}, merges=[])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>", "<image>", "<video>"],
        model_max_length=32_768,
        clean_up_tokenization_spaces=False,
    )


def make_model(seed: int = 0) -> tuple[HourLlavaForConditionalGeneration, HourLlavaProcessor]:
    """Make the tiny model with random weights, and its processor."""
    import torch

    from hour_llava.model.modeling_hour_llava import HourLlavaForConditionalGeneration
    from hour_llava.model.processing_hour_llava import HourLlavaProcessor

    config = shape()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = HourLlavaForConditionalGeneration(config)
    return model, HourLlavaProcessor.from_config(config, make_tokenizer())


def prepare(config: TrainConfig, out: Path) -> TrainConfig:
    """Make what the run lacks, model and data, under OUT/material; what is there stays.

    Raises:
        ConfigError: the material there was made for another start, stage or seed.
    """
    from filelock import FileLock

    folder = out / "material"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(out / ".material.lock"):
        start = config.model.start
        if start == START:
            start = str(_start(folder / "start", config.seed))
        elif start.startswith(SCRATCH):
            raise ConfigError(f"--model.start {start}: what is made from scratch is {START}")
        manifests = config.data.manifest or _material(folder, config.stage, start)
    return replace(
        config,
        model=replace(config.model, start=start),
        data=replace(config.data, manifest=manifests),
    )


def _start(folder: Path, seed: int) -> Path:
    from hour_llava.train.export import export

    if not (folder / _MARK).is_file():
        shutil.rmtree(folder, ignore_errors=True)
        export(*make_model(seed), folder)
        (folder / _MARK).write_text(json.dumps({"version": _VERSION, "seed": seed}))
    if json.loads((folder / _MARK).read_text()) != {"version": _VERSION, "seed": seed}:
        raise ConfigError(f"{folder} was made of another seed than {seed}; name another --out")
    return folder


def _material(folder: Path, stage: int, start: str) -> tuple[Path, ...]:
    """Make the data, or find it; features are of the tower of `start`."""
    from hour_llava.recipes.debug_data import has_decoder, make_material
    from hour_llava.train.watching.terminal import say

    mark = folder / _MARK
    size, tower, encode = shape().tile_size, "", None
    if stage == 3:
        size, tower, encode = _encoder(start)
    made = {"version": _VERSION, "stage": stage, "tower": tower}
    if mark.is_file():
        found = json.loads(mark.read_text())
        manifests = tuple(folder / name for name in found.pop("manifests"))
        if found != made:
            raise ConfigError(
                f"{folder} was made for {found}, this run needs {made}; name another --out"
            )
        return manifests
    if stage == 2 and not has_decoder():
        say("debug_stage2 without short videos: PyAV, which writes and reads them, is not here")
    manifests = make_material(folder, stage=stage, size=size, encode=encode, tower=tower)
    names = [path.name for path in manifests]
    mark.write_text(json.dumps(made | {"manifests": names}, indent=1) + "\n")
    return manifests


def _encoder(start: str) -> tuple[int, str, Any]:
    import torch

    from hour_llava.data.features import tower_digest
    from hour_llava.model.checkpoints import load_pretrained

    model, _ = load_pretrained(start)

    def encode(pixels: Any) -> Any:
        with torch.no_grad():
            return model.encode_video(pixels)

    return model.config.tile_size, tower_digest(model), encode
