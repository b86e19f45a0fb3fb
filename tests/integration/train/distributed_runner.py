"""One of several processes that train a debug recipe together: see test_distributed.py.

ARGS (JSON): rank, world_size, port, recipe, out, sharding, precision, lora, validate, resume,
signal_at.
Writes out/rank-N.json: what this process holds of the model.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.distributed.tensor import DTensor

from hour_llava.recipes import RECIPES
from hour_llava.train import run
from hour_llava.train.config import LoraConfig
from hour_llava.train.trainer import HourLlavaTrainer


def describe(trainer: HourLlavaTrainer) -> dict[str, Any]:
    weights = list(trainer.model.parameters())
    shares = [weight.to_local() for weight in weights if isinstance(weight, DTensor)]
    assert trainer.optimizer is not None
    moments = [state["exp_avg"] for state in trainer.optimizer.state.values()]
    return {
        "wrapper": type(trainer.model_wrapped).__name__,
        "weights": len(weights),
        "sharded": len(shares),
        "sharded_moments": sum(isinstance(moment, DTensor) for moment in moments),
        "moments": len(moments),
        "numbers": sum(share.numel() for share in shares),
        "all_numbers": sum(weight.numel() for weight in weights),
        "encoded": list(encode(trainer.model).shape),
        "dtypes": sorted({str(w.dtype) for w in weights if w.requires_grad}),
    }


def encode(model: Any) -> torch.Tensor:
    """Use the model as an exam does: by a method that is not `forward`."""
    size = model.config.tile_size
    with torch.no_grad():
        return model.encode_video(torch.zeros(3, 3, size, size))


def main(args: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    if args["world_size"] > 1:
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(args["port"])}
        os.environ |= {"RANK": str(args["rank"]), "WORLD_SIZE": str(args["world_size"])}
        os.environ |= {"LOCAL_RANK": str(args["rank"])}
    out = Path(args["out"])
    recipe = RECIPES[args["recipe"]]
    config = recipe.config()
    config = replace(
        config,
        model=replace(config.model, lora=LoraConfig(rank=args["lora"])),
        data=replace(config.data, mode="random"),  # texts beside pictures
        batch=replace(config.batch, max_steps=6, micro_batch_size=1),
        hardware=replace(config.hardware, sharding=args["sharding"], precision=args["precision"]),
        checkpoints=replace(config.checkpoints, every_steps=3),
        watch=replace(config.watch, reports=(), progress=False),
    )
    config = recipe.prepared(config, out)
    if args["validate"]:  # at the step that is saved too, and after the last
        config = replace(
            config,
            data=replace(config.data, validation=config.data.manifest[0]),
            watch=replace(config.watch, validate_every_steps=3),
        )
    real = HourLlavaTrainer.train

    def train(self: HourLlavaTrainer, resume: Path | None = None, **options: Any) -> int | None:
        ended_by = real(self, resume, **options)
        (out / f"rank-{args['rank']}.json").write_text(json.dumps(describe(self)))
        return ended_by

    def clip(self: HourLlavaTrainer, model: Any) -> Any:
        if args["signal_at"] == [args["rank"], self.state.global_step + 1]:
            os.kill(os.getpid(), signal.SIGTERM)
        return real_clip(self, model)

    real_clip = HourLlavaTrainer._clip_grad_norm
    HourLlavaTrainer.train, HourLlavaTrainer._clip_grad_norm = train, clip
    sys.stderr = (out / f"stderr-{args['rank']}").open("w")
    run.train(config, out, resume=args["resume"])


main(json.loads(globals()["ARGS"]))
