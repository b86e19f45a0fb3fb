"""What a training run is: frozen settings; a recipe is a function that gives them.

    TrainConfig = stage + model + data + optim + batch + hardware + checkpoints + watch + seed

On the command line a field is `--data.manifest` or `--optim.lr-memaug`. The trainer never sees
these classes: `train.run` hands it plain arguments. Nothing heavy is imported here, so that
`--help` and `--print-config` answer at once.
Source: arXiv 2506.05332, table 8.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_type_hints

from hour_llava.errors import ConfigError

Layout = Literal["auto", "hour_llava", "llava_onevision", "llava_onevision_hf", "qwen_siglip"]
Sharding = Literal["auto", "none", "ddp", "fsdp2"]
Part = Literal["vision", "projector", "memaug", "language_model"]
PARTS: tuple[Part, ...] = ("vision", "projector", "memaug", "language_model")
SCRATCH = "scratch:"
ATTENTION_NEEDS: Mapping[str, str | None] = MappingProxyType(
    {"sdpa": None, "eager": None, "flash_attention_2": "flash_attn"}
)
"""Kind of attention -> the package that it needs besides torch."""
EXAM_SECONDS = (14, 24 * 3600)
"""Shortest and longest video of an exam: MarathonWorld's, repeated as its module takes numpy."""


MOST_SAMPLES, MOST_STEPS, MOST_WORKERS = 10**6, 10**9, 1024
"""Of a batch, of a run, of a rank's processes: more is a slip of the hand."""
MOST_SEED = 2**32 - 1
"""NumPy takes no larger one."""
DEVICES = ("cpu", "cuda")
"""No "mps": seconds and sums are float64, which Apple's GPUs do not have. No "cuda:1" either: which
GPU a process takes is its place in torchrun, or CUDA_VISIBLE_DEVICES."""
RUN_REPORTS = ("wandb", "trackio")
"""Reports that are libraries of their own."""


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """Adapters on the language model (peft), instead of training all of it.

    Projector and MemAug are trained whole beside them, and saved with them.
    """

    rank: int = 0
    """width of the adapters; 0: none, the language model is trained whole"""
    alpha: float = 32.0
    """adapters count alpha / rank times"""
    dropout: float = 0.0
    """share of the adapters' inputs that is dropped in training"""
    targets: tuple[str, ...] = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )
    """linear layers of the language model that get adapters"""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """What is trained, and where its weights come from."""

    start: str
    """the weights to begin with: a local folder or a hub id (debug recipes: `scratch:debug`)"""
    layout: Layout = "auto"
    """how START is laid out; auto: by its look"""
    language_model: str | None = None
    """folder or hub id of a Qwen2 / Qwen2.5; with VISION-TOWER it takes the place of START"""
    vision_tower: str | None = None
    """folder or hub id of a SigLIP; with LANGUAGE-MODEL it takes the place of START"""
    attention: str | None = None
    """attention of the language model: sdpa, flash_attention_2, eager; None: the best there is"""
    spatial_forgetting: Literal["random", "uniform"] = "random"
    """which quarter of a frame's cells the decayed tokens keep"""
    temporal_forgetting: Literal["uniform", "random", "keyframe", "question"] = "uniform"
    """which quarter of a video's frames they keep"""
    lora: LoraConfig = field(default_factory=LoraConfig)


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What is learned from, and in which order."""

    manifest: tuple[Path, ...] = ()
    """manifests (.jsonl, .parquet, LLaVA .json), each a stream of the mixture"""
    weights: tuple[float, ...] = ()
    """how often an epoch goes through each manifest: 0.5 is another half each epoch; () is once"""
    mode: Literal["per_stream", "random"] = "per_stream"
    """each global batch from one manifest, as released, or mixed of all"""
    root: Path | None = None
    """folder that paths in the manifests are relative to; by default each manifest's own"""
    features: Path | None = None
    """folder that `hour-llava extract` filled; videos with features there are not decoded"""
    question_scope: Literal["conversation", "turn"] = "conversation"
    """MemAug sees all questions of a sample, as released, or each answer's own and those before"""
    max_length: int | None = 32_768
    """tokens of a row; longer samples are refused, never cut; None: the tokenizer's limit"""
    fps: float = 1.0
    """frames a second at which video files are read"""
    broken_allowed: int = 100
    """samples that may be unreadable and replaced by their neighbour before the run stops"""
    window: int = 0
    """shuffle within so many neighbours, a video's samples together; 0: over all"""
    cache: Path | None = None
    """local folder that features files are copied to when they are first read"""
    cache_gigabytes: float = 500.0
    """the least recently used leave the cache beyond this"""
    workers: int = 4
    """processes of each rank that read and encode samples; 0: the training process does"""
    validation: Path | None = None
    """manifest whose loss is measured and not learned"""


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW with a learning rate for every part."""

    lr_vision: float = 0.0
    """of the vision tower; 0 freezes it"""
    lr_projector: float = 0.0
    """of the projector and the newline token; 0 freezes them"""
    lr_memaug: float = 0.0
    """of MemAug; 0 freezes it"""
    lr_language_model: float = 0.0
    """of the language model and its head; 0 freezes them"""
    weight_decay: float = 0.0
    """of matrices; biases, norms and the newline have none"""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's memory of gradients and of their squares"""
    eps: float = 1e-8
    """AdamW's guard against division by nothing"""
    warm_up: float = 0.03
    """share of the steps over which the rates rise from 0"""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """how the rates fall to 0 behind the warm-up"""
    max_grad_norm: float = 1.0
    """gradients longer than this are shortened to it; 0: never"""

    def rates(self) -> dict[str, float]:
        """Give every part's learning rate."""
        return {part: getattr(self, f"lr_{part}") for part in PARTS}

    def trained_parts(self) -> tuple[Part, ...]:
        """Name the parts that are not frozen."""
        rates = self.rates()
        return tuple(part for part in PARTS if rates[part] > 0)


@dataclass(frozen=True, kw_only=True)
class BatchConfig:
    """How much is learned from at a time, and how long."""

    global_batch_size: int = 128
    """samples of one step of the optimiser, on all ranks together"""
    micro_batch_size: int = 1
    """samples of one forward of one rank; the rest of the batch is accumulated"""
    epochs: float = 1.0
    """times through the data"""
    max_steps: int | None = None
    """steps of the optimiser, whatever the epochs; the schedule ends there too"""


@dataclass(frozen=True, kw_only=True)
class HardwareConfig:
    """How the computation is laid out; only precision changes what is learned."""

    precision: Literal["bf16", "fp32"] = "bf16"
    """bf16 computes in bfloat16 and keeps trained weights and the optimiser in float32"""
    gradient_checkpointing: bool = True
    """keep one state a layer and compute the rest again: less memory, a third more time"""
    sharding: Sharding = "auto"
    """auto: none on one rank, fsdp2 on several GPUs, ddp on several CPU processes"""
    loss_chunk_size: int = 2048
    """learned positions whose logits exist at a time"""
    device: str | None = None
    """cpu or cuda, the better one by default; which GPU: CUDA_VISIBLE_DEVICES; no Apple GPUs"""


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """What is kept to go on from."""

    every_steps: int = 500
    """save after so many steps of the optimiser (and at the end, and on SIGTERM)"""
    keep_last: int = 2
    """older checkpoints are removed"""


@dataclass(frozen=True, kw_only=True)
class WatchConfig:
    """What is told of a run; the JSONL log of every step is always written."""

    log_every_steps: int = 10
    """a line on stderr every so many steps, where it is no terminal"""
    reports: tuple[str, ...] = ("tensorboard",)
    """also: tensorboard (passed over where it is not installed), wandb, trackio"""
    progress: bool = True
    """show progress on stderr"""
    validate_every_steps: int = 0
    """measure the loss on data.validation every so many steps; 0: at the end alone"""
    exam_every_steps: int = 0
    """ask questions about MarathonWorld every so many steps; 0: never"""
    exam_seconds: int = 60
    """length of the exam's videos"""
    exam_videos: int = 4
    """videos of an exam"""
    exam_questions: int = 1
    """questions of each task and format about each video"""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A training run, whole.

    Raises:
        ConfigError: values that no run can have; the field is named.
    """

    name: str
    """of the run, in logs and in the name of its folder"""
    stage: Literal[1, 2, 3]
    """the recipe's: 1 image-language, 2 video-language adaptation, 3 video instruction tuning"""
    model: ModelConfig
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig
    batch: BatchConfig = field(default_factory=BatchConfig)
    hardware: HardwareConfig = field(default_factory=HardwareConfig)
    checkpoints: CheckpointConfig = field(default_factory=CheckpointConfig)
    watch: WatchConfig = field(default_factory=WatchConfig)
    seed: int = 0
    """of the data's order, of forgetting, and of new weights"""

    def __post_init__(self) -> None:
        for fault in _faults(self):
            raise ConfigError(fault)

    def as_dict(self) -> dict[str, Any]:
        """Give plain values, as JSON holds them."""
        return _plain(dataclasses.asdict(self))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """Read what `as_dict` gave.

        Raises:
            ConfigError: a field is unknown, missing or of another kind.
        """
        return _build(cls, values, "")


# What may differ between a run and its resumption: all else changes what is learned.
_FREE = ("name", "checkpoints", "watch", "model.start", "model.layout")
_FREE += ("hardware.gradient_checkpointing", "hardware.sharding", "hardware.loss_chunk_size")
_FREE += ("hardware.device",)
_FREE += ("model.language_model", "model.vision_tower", "model.attention", "data.root")
_FREE += ("data.features", "data.cache", "data.cache_gigabytes", "data.workers")
_FREE += ("data.broken_allowed", "data.validation", "data.manifest", "batch.micro_batch_size")


def differences(saved: Mapping[str, Any], now: TrainConfig) -> list[str]:
    """Say in which settings a run cannot go on from a checkpoint: `optim.lr_memaug: 0.1, now 0.2`.

    Manifests are not compared here: `run.rows_of` and the sampler's fingerprint know their rows
    better than their paths.

    Args:
        saved: `as_dict` of the run that wrote the checkpoint.
        now: Of the run that resumes.
    """
    before, after = dict(_flat(saved)), dict(_flat(now.as_dict()))
    before |= {name: _default(name) for name in after.keys() - before.keys()}
    return [
        f"{name}: {before.get(name)}, now {after.get(name)}"
        for name in dict.fromkeys([*before, *after])
        if before.get(name) != after.get(name)
        and not any(name == free or name.startswith(f"{free}.") for free in _FREE)
    ]


def _default(name: str) -> Any:
    """Give what a setting is that an older version did not have; None where it has no default."""
    kind: Any = TrainConfig
    *groups, last = name.split(".")
    for group in groups:
        kind = get_type_hints(kind)[group]
    default = next(field.default for field in dataclasses.fields(kind) if field.name == last)
    return None if default is dataclasses.MISSING else _plain(default)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _build(kind: Any, values: Mapping[str, Any], path: str) -> Any:
    hints = get_type_hints(kind)
    unknown = sorted(values.keys() - hints.keys())
    if unknown:
        raise ConfigError(f"{path}{unknown[0]}: no such setting; known are {', '.join(hints)}")
    made: dict[str, Any] = {}
    for name, value in values.items():
        hint = hints[name]
        if dataclasses.is_dataclass(hint):
            made[name] = _build(hint, value, f"{path}{name}.")
        elif value is not None and "Path" in str(hint):
            made[name] = tuple(map(Path, value)) if isinstance(value, list) else Path(value)
        else:
            made[name] = tuple(value) if isinstance(value, list) else value
    try:
        return kind(**made)
    except TypeError as error:
        raise ConfigError(f"{path or 'the configuration'}: {error}") from error


def _faults(config: TrainConfig) -> Iterator[str]:
    """Name values that no run can have, by their command-line names."""
    optim, data, batch = config.optim, config.data, config.batch
    for part, rate in optim.rates().items():
        if not (math.isfinite(rate) and rate >= 0):
            yield f"--optim.lr-{part.replace('_', '-')} {rate}: a rate is 0 (frozen) or more"
    if not optim.trained_parts():
        yield "every --optim.lr-... is 0: nothing would be trained"
    for beta in optim.betas:
        if not 0 <= beta < 1:
            betas = " ".join(map(str, optim.betas))
            yield f"--optim.betas {betas}: {beta} is outside 0 to below 1"
    if not 0 <= optim.warm_up < 1:
        yield f"--optim.warm-up {optim.warm_up}: a share of the steps, 0 to below 1"
    if data.weights and len(data.weights) != len(data.manifest):
        yield (
            f"{len(data.weights)} --data.weights for {len(data.manifest)} --data.manifest: give "
            "one a manifest, or none"
        )
    for weight in data.weights:
        if not (math.isfinite(weight) and weight > 0):
            yield f"--data.weights {weight:g}: a weight is more than 0; leave the manifest out"
    if data.features is not None and optim.lr_vision > 0:
        yield (
            f"--data.features {data.features} holds what the tower made before training; with "
            f"--optim.lr-vision {optim.lr_vision:g} it changes from step to step: freeze it (0), "
            "or read the videos"
        )
    if data.cache is None and data.cache_gigabytes != DataConfig().cache_gigabytes:
        yield (
            f"--data.cache-gigabytes {data.cache_gigabytes:g} without --data.cache: name the folder"
        )
    yield from _range_faults(config)
    positive = {
        "--batch.epochs": batch.epochs,
        "--data.fps": data.fps,
        "--optim.eps": optim.eps,
        "--model.lora.alpha": config.model.lora.alpha,
    }
    for name, value in positive.items():
        if not (math.isfinite(value) and value > 0):
            yield f"{name} {value}: more than 0 is needed"
    if batch.global_batch_size % batch.micro_batch_size:
        yield (
            f"--batch.global-batch-size {batch.global_batch_size} is no multiple of "
            f"--batch.micro-batch-size {batch.micro_batch_size}"
        )
    device = config.hardware.device
    if device is not None and device not in DEVICES:
        yield f"--hardware.device {device}: {_device_hint(device)}"
    yield from _model_faults(config.model, optim)
    yield from _watch_faults(config.watch, data)


def _device_hint(device: str) -> str:
    known = f"training runs on {' or '.join(DEVICES)}"
    kind, _, number = device.partition(":")
    if kind == "cuda" and number.isdecimal():
        return f"{known}; take cuda, and choose the GPU with CUDA_VISIBLE_DEVICES={number}"
    if kind == "mps":
        return f"{known}; Apple's GPUs lack the float64 that it takes"
    return known


def _range_faults(config: TrainConfig) -> Iterator[str]:
    """Name numbers below the least or above the most that a run can have."""
    data, batch, watch = config.data, config.batch, config.watch
    ranges: dict[str, tuple[float | None, float, float | None]] = {
        "--batch.global-batch-size": (batch.global_batch_size, 1, MOST_SAMPLES),
        "--batch.micro-batch-size": (batch.micro_batch_size, 1, MOST_SAMPLES),
        "--batch.max-steps": (batch.max_steps, 1, MOST_STEPS),
        "--data.max-length": (data.max_length, 1, None),
        "--data.broken-allowed": (data.broken_allowed, 0, None),
        "--data.window": (data.window, 0, None),
        "--data.workers": (data.workers, 0, MOST_WORKERS),
        "--data.cache-gigabytes": (data.cache_gigabytes, 0, None),
        "--optim.weight-decay": (config.optim.weight_decay, 0, None),
        "--optim.max-grad-norm": (config.optim.max_grad_norm, 0, None),
        "--model.lora.rank": (config.model.lora.rank, 0, None),
        "--hardware.loss-chunk-size": (config.hardware.loss_chunk_size, 1, None),
        "--checkpoints.every-steps": (config.checkpoints.every_steps, 1, None),
        "--checkpoints.keep-last": (config.checkpoints.keep_last, 1, None),
        "--watch.log-every-steps": (watch.log_every_steps, 1, None),
        "--watch.validate-every-steps": (watch.validate_every_steps, 0, None),
        "--watch.exam-every-steps": (watch.exam_every_steps, 0, None),
        "--watch.exam-videos": (watch.exam_videos, 1, None),
        "--watch.exam-questions": (watch.exam_questions, 1, None),
        "--seed": (config.seed, 0, MOST_SEED),
    }
    for name, (value, least, most) in ranges.items():
        if value is not None and not value >= least:
            yield f"{name} {value}: at least {least:g} is needed"
        if value is not None and most is not None and value > most:
            yield f"{name} {value}: at most {most:,} is allowed"


def _model_faults(model: ModelConfig, optim: OptimConfig) -> Iterator[str]:
    lora, attention = model.lora, model.attention
    if not 0 <= lora.dropout < 1:
        yield f"--model.lora.dropout {lora.dropout}: a share, 0 to below 1"
    if lora.rank == 0 and lora != LoraConfig():
        yield (
            "--model.lora... without --model.lora.rank: there are no adapters, and the language "
            "model would be trained whole; give a rank"
        )
    if lora.rank > 0 and optim.lr_language_model == 0:
        yield (
            f"--model.lora.rank {lora.rank} with --optim.lr-language-model 0: nobody would train "
            "these adapters; give the language model a rate, or take rank 0"
        )
    if attention is None:
        return
    if attention not in ATTENTION_NEEDS:
        yield f"--model.attention {attention}: known are {', '.join(ATTENTION_NEEDS)}"
        return
    package = ATTENTION_NEEDS[attention]
    if package is not None and importlib.util.find_spec(package) is None:
        yield (
            f"--model.attention {attention} needs the package {package}, which is not installed: "
            "take sdpa, or leave the flag out"
        )


def _watch_faults(watch: WatchConfig, data: DataConfig) -> Iterator[str]:
    least, most = EXAM_SECONDS
    if watch.validate_every_steps > 0 and data.validation is None:
        yield (
            f"--watch.validate-every-steps {watch.validate_every_steps} without --data.validation: "
            "name the manifest to measure on"
        )
    if not least <= watch.exam_seconds <= most:
        yield (
            f"--watch.exam-seconds {watch.exam_seconds}: an exam's video has {least} to {most} "
            "seconds (24 hours)"
        )
