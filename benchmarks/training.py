"""What the trainer costs beside forward and backward, what waiting for data costs, and memory.

    python benchmarks/training.py                       # a shape for two CPU cores
    python benchmarks/training.py --shape half-billion  # Qwen2.5-0.5B's, where there is a GPU
    python benchmarks/training.py --shape half-billion-minute --steps 3  # the same, two CPU cores

Three figures of stage 3 (features of videos on the local disk, vision tower frozen):

* overhead: a step of `HourLlavaTrainer`, from asking for data to the next asking, without the
  optimiser's own step, against forward and backward of the same batches done bare, one behind the
  other in one process; of a CPU in seconds of the processor too, which a busy machine stretches
  less;
* waiting: the share of a step in which the trainer waited for data;
* memory: the most a fresh process took in a step, against `--dry-run`'s estimate.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch
from transformers import TrainerCallback

from hour_llava.data.features import FeaturesHeader, tower_digest, write_features
from hour_llava.model.configuration_hour_llava import SO400M_384, HourLlavaConfig
from hour_llava.model.modeling_hour_llava import HourLlavaForConditionalGeneration
from hour_llava.model.processing_hour_llava import HourLlavaProcessor
from hour_llava.recipes.debug import make_tokenizer
from hour_llava.train import run
from hour_llava.train.config import (
    BatchConfig,
    CheckpointConfig,
    DataConfig,
    HardwareConfig,
    ModelConfig,
    OptimConfig,
    TrainConfig,
    WatchConfig,
)
from hour_llava.train.estimate import make_plan
from hour_llava.train.machines import this_machine
from hour_llava.train.sizes import manifest_streams
from hour_llava.train.trainer import HourLlavaTrainer
from record import keep_results, origin

RESULTS = Path(__file__).parent / "results" / "training.json"
HALF_BILLION = {"layers": 24, "width": 896, "words": 151_936, "blocks": 4}
SHAPES: dict[str, dict[str, Any]] = {
    "half-billion": {**HALF_BILLION, "frames": 3600},
    "half-billion-minute": {**HALF_BILLION, "frames": 64},
    "cpu": {"layers": 4, "width": 448, "words": 8_192, "blocks": 2, "frames": 64},
}
"""The first is Qwen2.5-0.5B's with an hour of video, the second with a minute: heads of 64, 7 to a
key head."""


def shape(name: str) -> HourLlavaConfig:
    """Give a model's configuration."""
    size, tokenizer = SHAPES[name], make_tokenizer()
    return HourLlavaConfig(
        vision_config=SO400M_384 | {"num_hidden_layers": 1},
        text_config={
            "model_type": "qwen2",
            "vocab_size": size["words"],
            "hidden_size": size["width"],
            "intermediate_size": 4864 * size["width"] // 896,
            "num_hidden_layers": size["layers"],
            "num_attention_heads": size["width"] // 64,
            "num_key_value_heads": size["width"] // 448,
            "max_position_embeddings": 32_768,
            "tie_word_embeddings": True,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<video>"),
        pool_size=8,
        memaug_num_layers=size["blocks"],
        min_memory_frames=min(128, size["frames"]),
    )


def make_material(folder: Path, name: str, *, samples: int) -> None:
    """Write a model of random weights, a manifest, and features of random numbers."""
    config = shape(name)
    torch.manual_seed(0)
    model = HourLlavaForConditionalGeneration(config)
    model.save_pretrained(folder / "start")
    HourLlavaProcessor.from_config(config, make_tokenizer()).save_pretrained(folder / "start")
    frames = SHAPES[name]["frames"]
    header = FeaturesHeader(tower_digest=tower_digest(model), duration_seconds=float(frames))
    rows: list[str] = []
    for number in range(samples):
        features = torch.randn(frames, 64, 1152)
        path = folder / f"features/{number}.safetensors"
        write_features(path, features, torch.arange(frames), header, storage="int8")
        turns = [
            {"from": "human", "value": "<video>\nWhat is on the table at the end?"},
            {"from": "gpt", "value": "A red cup, a knife and half an orange. " * 3},
        ]
        row = {"id": str(number), "conversations": turns, "features": str(path)}
        rows.append(json.dumps(row))
    (folder / "train.jsonl").write_text("\n".join(rows) + "\n")


def make_config(folder: Path, args: argparse.Namespace) -> TrainConfig:
    """Set up stage 3."""
    return TrainConfig(
        name="benchmark",
        stage=3,
        model=ModelConfig(start=str(folder / "start")),
        data=DataConfig(
            manifest=(folder / "train.jsonl",), workers=args.workers, root=folder, max_length=32_768
        ),
        optim=OptimConfig(lr_projector=1e-4, lr_memaug=1e-4, lr_language_model=1e-5),
        batch=BatchConfig(
            global_batch_size=args.batch, micro_batch_size=1, max_steps=args.steps, epochs=1
        ),
        hardware=HardwareConfig(
            precision=args.precision,
            gradient_checkpointing=args.checkpointing,
            device=args.device,
        ),
        checkpoints=CheckpointConfig(every_steps=10_000),
        watch=WatchConfig(log_every_steps=1),
    )


class Clock:
    """Seconds of the wall, and of this process's processors (of a GPU: of the wall, waited for)."""

    def __init__(self, device: str) -> None:
        self.is_gpu = device == "cuda"

    def __call__(self) -> tuple[float, float]:
        """Give both."""
        if self.is_gpu:
            torch.cuda.synchronize()
        return time.perf_counter(), time.process_time()


class Measured(HourLlavaTrainer):
    """The trainer, with stopwatches, and every batch's forward and backward once more, bare."""

    clock: Clock
    rows: list[dict[str, float]]
    bare = True

    def get_batch_samples(self, *args: Any, **options: Any) -> Any:
        now = self.clock()
        if self.rows:
            last = self.rows[-1]
            for number, kind in enumerate(("wall", "processor")):
                spent = now[number] - last.pop(f"began_{kind}")
                last[kind] = spent - last[f"bare_{kind}"] - last[f"optimiser_{kind}"]
        row = {"began_wall": now[0], "began_processor": now[1]}
        row |= dict.fromkeys(("bare_wall", "bare_processor"), 0.0)
        self.rows.append(row)
        self.kept: list[dict[str, Any]] = []
        return super().get_batch_samples(*args, **options)

    def _next_micro_batch(self, batches: Any) -> dict[str, Any]:
        batch = super()._next_micro_batch(batches)
        if self.bare:
            self.kept.append(dict(batch))
        return batch

    def _clip_grad_norm(self, model: Any) -> Any:
        norm = super()._clip_grad_norm(model)
        self.before_optimiser = self.clock()
        return norm

    def stop_optimiser(self) -> None:
        """Note the optimiser's own time, then do the step's work again without a trainer."""
        row, middle = self.rows[-1], self.clock()
        for number, kind in enumerate(("wall", "processor")):
            row[f"optimiser_{kind}"] = middle[number] - self.before_optimiser[number]
        row["room"] = most_memory(self.clock.is_gpu)
        row["waited"] = self.step_facts.data_seconds
        if not self.bare:
            return
        model: Any = self.model
        model.zero_grad()  # the step's are used
        options = {"num_items_in_batch": 1, **self._own_options}
        started = self.clock()
        for batch in self.kept:
            model(**self._prepare_inputs(batch), **options).loss.backward()
        ended = self.clock()
        model.zero_grad()
        for number, kind in enumerate(("wall", "processor")):
            row[f"bare_{kind}"] = ended[number] - started[number]


class _BehindOptimiser(TrainerCallback):
    def __init__(self, trainer: list[Measured]) -> None:
        self.trainer = trainer

    def on_optimizer_step(self, *args: Any, **options: Any) -> None:
        self.trainer[0].stop_optimiser()


def most_memory(is_gpu: bool) -> float:
    """Give the most bytes this process has held so far, on its device."""
    if is_gpu:
        return float(torch.cuda.max_memory_reserved())
    return 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def train(folder: Path, args: argparse.Namespace, *, bare: bool) -> list[dict[str, float]]:
    """Train, and give what was measured of each step but the first and the last."""
    made: list[Measured] = []
    device = args.device or run._device(None)

    class Here(Measured):
        def __init__(self, *given: Any, **options: Any) -> None:
            made.append(self)
            self.clock, self.rows, self.bare = Clock(device), [], bare
            options["callbacks"] = [_BehindOptimiser(made), *options.get("callbacks", ())]
            super().__init__(*given, **options)

    run.HourLlavaTrainer = Here  # pyright: ignore
    with tempfile.TemporaryDirectory(dir=folder) as out:
        run.train(make_config(folder, args), Path(out))
    return made[0].rows[1:-1]


def estimated(folder: Path, args: argparse.Namespace) -> dict[str, float]:
    """Ask `--dry-run`'s arithmetic."""
    config = make_config(folder, args)
    tokenizer = make_tokenizer()
    streams = manifest_streams(
        config.data.manifest,
        (),
        root=folder,
        features=None,
        fps=1.0,
        count_tokens=lambda text: len(tokenizer(text)["input_ids"]),
    )
    machine = this_machine(args.device, count=1)
    return make_plan(config, shape(args.shape), streams, machine).memory


def measure(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Do what a child process is asked for."""
    rows = train(folder, args, bare=args.child == "overhead")
    kinds = ("wall", "processor", "bare_wall", "bare_processor", "optimiser_wall", "waited")
    found: dict[str, Any] = {kind: [round(row[kind], 4) for row in rows] for kind in kinds}
    found["memory_bytes"] = max(row["room"] for row in rows)
    return found


def children(folder: Path, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure time, then memory, each in a fresh process."""
    for child in ("overhead", "memory"):
        command = [sys.executable, __file__, *sys.argv[1:], "--child", child]
        command += ["--folder", str(folder)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        yield json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure, print, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="cpu")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--checkpointing", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--device")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
        print(json.dumps(measure(args.folder, args)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_material(folder, args.shape, samples=6)
        plan = estimated(folder, args)
        time_taken, room = children(folder, args)
    result = summary(time_taken, room, plan, args)
    print(json.dumps(result, indent=2))
    same = ("shape", "precision", "checkpointing", "device", "batch")
    keep_results(RESULTS, [result], origin("torch", "transformers", "accelerate"), same=same)


def summary(
    time_taken: dict[str, Any],
    room: dict[str, Any],
    plan: dict[str, float],
    args: argparse.Namespace,
) -> dict[str, Any]:
    """Put the figures together."""

    def overhead(kind: str) -> float:
        pairs = zip(time_taken[kind], time_taken[f"bare_{kind}"], strict=True)
        return round(median(ours / bare - 1 for ours, bare in pairs), 4)

    whole = [
        ours + optimiser
        for ours, optimiser in zip(room["wall"], room["optimiser_wall"], strict=True)
    ]
    total = sum(plan.values())
    return {
        "shape": args.shape,
        "sizes": SHAPES[args.shape],
        "precision": args.precision,
        "checkpointing": args.checkpointing,
        "device": args.device or run._device(None),
        "batch": args.batch,
        "workers": args.workers,
        "overhead_wall": overhead("wall"),
        "overhead_processor": overhead("processor"),
        "waiting_share": round(sum(room["waited"]) / sum(whole), 4),
        "step_seconds": round(median(whole), 3),
        "memory_measured": room["memory_bytes"],
        "memory_estimated": round(total),
        "estimated_over_measured": round(total / room["memory_bytes"], 3),
        "estimate": {name: round(value) for name, value in plan.items()},
        "steps": time_taken,
    }


if __name__ == "__main__":
    main()
