"""A training run, from its settings to the folder of the trained model.

OUT/config.json    the settings as they were resolved, the commit, the versions
OUT/checkpoints/   to go on from
OUT/log.jsonl ..   what `train.watching` writes
OUT/model/         the trained model
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from hour_llava.data.cache import NodeCache
from hour_llava.data.collate import Collator, TrainingData
from hour_llava.data.features import tower_digest
from hour_llava.data.manifest import read_manifest
from hour_llava.data.mixture import Mixture, Stream
from hour_llava.errors import CheckpointError, ConfigError
from hour_llava.train.checkpoint import (
    FACTS,
    last_checkpoint,
    list_checkpoints,
    passed_over,
    read_facts,
)
from hour_llava.train.config import DataConfig, TrainConfig, differences
from hour_llava.train.distributed import (
    choose_sharding,
    finish,
    first_alone,
    gathered,
    is_sharded,
    num_processes,
    prepare,
    rank,
)
from hour_llava.train.export import export
from hour_llava.train.initialise import initialise
from hour_llava.train.material import Material, manifest_material
from hour_llava.train.own_features import require_own_features
from hour_llava.train.parts import freeze
from hour_llava.train.provenance import code_facts
from hour_llava.train.run_folder import CONFIG, own_folder
from hour_llava.train.shared_state import full_state_dict
from hour_llava.train.signals import EXIT_CODES
from hour_llava.train.trainer import HourLlavaTrainer
from hour_llava.train.watching import Measurement, callbacks
from hour_llava.train.watching.exam import WorldExam
from hour_llava.train.watching.terminal import say
from hour_llava.train.watching.validation import ValidationLoss

CHECKPOINTS, MODEL = "checkpoints", "model"


def train(
    config: TrainConfig,
    out: Path,
    *,
    resume: bool = False,
    prepare: Callable[[TrainConfig], TrainConfig] = lambda config: config,
) -> Path:
    """Train a model; every rank must call it.

    Args:
        config: Its settings; `model.start` and `data.manifest` are files and folders.
        out: The run's folder; a start that fails leaves it as it was found.
        resume: Go on from the newest checkpoint in `out`, or begin where there is none.
        prepare: Makes in `out` what the settings lack, and names it in them; the first rank does,
            then the others find it there.

    Returns:
        The folder of the trained model.

    Raises:
        ConfigError: Settings do not fit; `out` has checkpoints and `resume` was not asked for, or
            a trained model and no checkpoint, or another run is at work in it.
        CheckpointError: The newest checkpoint is of a run with other settings or rows.
        DataError, ModelNotFoundError, ResourceError, TrainingError: See `HourLlavaTrainer.train`.
        SystemExit: A signal ended the run, after a checkpoint was saved: 130 or 143.
    """
    device = _device(config.hardware.device)
    with own_folder(out):
        _join_processes(device)
        try:
            checkpoint = checkpoint_to_resume(config, out, resume=resume)
            given = config
            config = first_alone(lambda: prepare(given))
            rows = rows_of(config.data.manifest)
            _require_same_rows(checkpoint, rows)
            _say_what_is_passed_over(out / CHECKPOINTS, checkpoint)
            require_own_features(config)
            return _train(config, out, checkpoint, device, rows)
        finally:
            finish()


def _train(
    config: TrainConfig, out: Path, checkpoint: Path | None, device: str, rows: Mapping[str, str]
) -> Path:
    hardware, optim = config.hardware, config.optim
    sharding = choose_sharding(hardware.sharding, world_size=num_processes(), device=device)
    has_weights = rank() == 0 or sharding != "fsdp2"  # the first rank deals them out
    model, processor = initialise(
        config.model, seed=config.seed, device=None if has_weights else "meta"
    )
    tower = gathered(tower_digest(model) if has_weights else None)[0]
    freeze(model, optim.rates())
    prepare(model, sharding=sharding, precision=hardware.precision, device=device)
    collator = collator_of(config, model, processor, tower=tower)
    material = material_of(config, collator)
    facts = write_config(config, out)
    with callbacks(
        config.watch,
        out,
        name=config.name,
        samples_per_step=config.batch.global_batch_size,
        measurements=_measurements(config, collator, processor),
        facts=facts,
        is_first_process=rank() == 0,
    ) as watchers:
        trainer = HourLlavaTrainer(
            model,
            material,
            out=out,
            learning_rates=optim.rates(),
            schedule=optim.schedule,
            warm_up=optim.warm_up,
            betas=optim.betas,
            eps=optim.eps,
            weight_decay=optim.weight_decay,
            max_grad_norm=optim.max_grad_norm,
            precision=hardware.precision,
            gradient_checkpointing=hardware.gradient_checkpointing,
            loss_chunk_size=hardware.loss_chunk_size,
            save_every_steps=config.checkpoints.every_steps,
            keep_last=config.checkpoints.keep_last,
            workers=config.data.workers,
            broken_allowed=config.data.broken_allowed,
            seed=config.seed,
            device=device,
            callbacks=watchers,
            identity={"settings": config.as_dict(), "rows": rows},
        )
        ended_by = trainer.train(resume=checkpoint)
    if ended_by is not None:
        raise SystemExit(EXIT_CODES[ended_by])
    folder = out / MODEL
    weights = full_state_dict(model) if is_sharded(model) else None
    if rank() == 0:
        export(
            model,
            processor,
            folder,
            model_config=config.model,
            seed=config.seed,
            state_dict=weights,
            dtype=torch.bfloat16 if hardware.precision == "bf16" else None,
            remedy="all steps are in the last checkpoint: free some space and go on with --resume",
        )
    return folder


def mixture_of(data: DataConfig) -> Mixture:
    """Open the manifests, each a stream.

    Raises:
        DataError: A manifest cannot be read.
    """
    weights = data.weights or (1.0,) * len(data.manifest)
    return Mixture(
        [
            Stream(
                name=path.stem,
                samples=read_manifest(path, root=data.root, features=data.features),
                weight=weight,
            )
            for path, weight in zip(data.manifest, weights, strict=True)
        ]
    )


def collator_of(
    config: TrainConfig, model: Any, processor: Any, *, tower: str | None = None
) -> Collator:
    """Make what encodes samples for a model.

    Args:
        tower: The digest of its tower, where the model is sharded already.
    """
    data = config.data
    return Collator(
        processor,
        seed=config.seed,
        question_scope=data.question_scope,
        max_length=data.max_length,
        tower=tower or tower_digest(model),
        feature_size=model.config.vision_config.hidden_size,
        takes_features=config.optim.lr_vision == 0,
        fps=data.fps,
        cache=cache_of(data),
    )


def cache_of(data: DataConfig) -> NodeCache | None:
    """Open the node's cache of features, where one is wanted.

    Raises:
        ResourceError: It cannot be written.
    """
    if data.cache is None:
        return None
    return NodeCache.open(data.cache, gigabytes=data.cache_gigabytes)


def material_of(config: TrainConfig, collator: Collator) -> Material:
    """Make what a run is trained on: this rank's share of the manifests.

    Raises:
        DataError: A manifest cannot be read, or the batch cannot be dealt to the ranks.
    """
    mixture, window = mixture_of(config.data), config.data.window
    if window and rank() == 0:
        num_rows = sum(len(stream.samples) for stream in mixture.streams)
        say(f"--data.window {window}: reading {num_rows:,} rows for which of them share a video")
    return manifest_material(
        mixture,
        collator,
        global_batch_size=config.batch.global_batch_size,
        micro_batch_size=config.batch.micro_batch_size,
        epochs=config.batch.epochs,
        max_steps=config.batch.max_steps,
        seed=config.seed,
        mode=config.data.mode,
        window=window,
        rank=rank(),
        world_size=num_processes(),
    )


def write_config(config: TrainConfig, out: Path) -> dict[str, Any]:
    """Write down what is run, beside the run; the first rank does.

    Returns:
        The commit, the versions and the hardware.
    """
    facts: dict[str, Any] = {**code_facts(), "ranks": num_processes()}
    if torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name()
    if rank() == 0:
        out.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"config": config.as_dict(), "run": facts}, indent=2)
        part = out / f".{CONFIG}.part"
        part.write_text(text + "\n", encoding="utf-8")
        part.replace(out / CONFIG)
    return facts


def rows_of(manifests: Sequence[Path]) -> dict[str, str]:
    """Say what rows a run is trained on, whatever their files are called: size and digest."""
    found: dict[str, str] = {}
    for number, path in enumerate(manifests, 1):
        if path.is_file():
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "blake2b").hexdigest()[:12]
            found[f"manifest {number}"] = f"{path.stat().st_size:,} bytes, {digest}"
    return found


def _require_same_rows(checkpoint: Path | None, rows: Mapping[str, str]) -> None:
    before = {} if checkpoint is None else read_facts(checkpoint).identity.get("rows", {})
    for name, was in before.items():
        if rows.get(name) != was:
            raise CheckpointError(
                f"{checkpoint} was trained on other rows ({name}: {was}, now {rows.get(name)}): "
                "resume with the same manifests, or name another --out"
            )


def checkpoint_to_resume(config: TrainConfig, out: Path, *, resume: bool) -> Path | None:
    """Find the checkpoint to go on from.

    Raises:
        ConfigError: There is one, and going on was not asked for; there is none, but the model of
            a run that is done.
        CheckpointError: It is of a run with other settings; the first are named.
    """
    root = out / CHECKPOINTS
    last = last_checkpoint(root)
    if last is None:
        if (out / MODEL).exists():
            raise ConfigError(
                f"{out} has a trained model, {out / MODEL}, and no checkpoint to go on from: a new "
                f"run would replace it; name another --out, or move or remove {out / MODEL}"
            )
        return None
    if not resume:
        raise ConfigError(
            f"{out} has checkpoints of a run ({len(list_checkpoints(root))}), the last is "
            f"{last.name}: go on with --resume, or name another --out"
        )
    found: Mapping[str, Any] = read_facts(last).identity
    wrong = differences(found["settings"], config) if found else []
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise CheckpointError(
            f"{last} is of a run with other settings ({'; '.join(wrong[:3])}{more}): resume with "
            "the same recipe and settings, or name another --out"
        )
    return last


def _say_what_is_passed_over(root: Path, checkpoint: Path | None) -> None:
    """Say on the first rank that newer checkpoints are not whole."""
    over = passed_over(root)
    if over and rank() == 0:
        then = "begins anew" if checkpoint is None else f"goes on from {checkpoint.name}"
        say(f"passed over: {over[-1]} has no {FACTS}; the run {then}")


def _device(wanted: str | None) -> str:
    """Choose the device: the one asked for, else the best there is.

    Raises:
        ConfigError: It is not here.
    """
    has_cuda = torch.cuda.is_available()
    if wanted == "cuda" and not has_cuda:
        raise ConfigError(
            "--hardware.device cuda: torch sees no such GPU here; take cpu, or leave the flag out"
        )
    return wanted or ("cuda" if has_cuda else "cpu")


def _join_processes(device: str) -> None:
    """Meet the other processes that torchrun started."""
    if num_processes() > 1:
        options: dict[str, Any] = {"backend": "gloo"} if device == "cpu" else {}
        PartialState(cpu=device == "cpu", **options)


def _measurements(config: TrainConfig, collator: Collator, processor: Any) -> list[Measurement]:
    """Make what is measured on the way: the loss of held-out samples, and an exam."""
    watch, found = config.watch, []
    if config.data.validation is not None:
        samples = read_manifest(
            config.data.validation, root=config.data.root, features=config.data.features
        )
        stream = Stream(name="validation", samples=samples)
        loss = ValidationLoss(
            TrainingData(Mixture([stream]), collator),
            collator,
            micro_batch_size=config.batch.micro_batch_size,
            rank=rank(),
            world_size=num_processes(),
            inputs={"loss_chunk_size": config.hardware.loss_chunk_size},
        )
        found.append(
            Measurement(name="validation", every_steps=watch.validate_every_steps, measure=loss)
        )
    if watch.exam_every_steps:
        exam = WorldExam(
            processor,
            seconds=watch.exam_seconds,
            videos=watch.exam_videos,
            questions=watch.exam_questions,
        )
        found.append(Measurement(name="exam", every_steps=watch.exam_every_steps, measure=exam))
    return found
