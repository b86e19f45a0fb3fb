"""Trains a debug recipe in a process of its own, and kills it where a test says: see conftest.

ARGS (JSON): recipe, out, resume; kill: {"where", "step"} or none; "term" is SIGTERM, all others -9.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from hour_llava.recipes import RECIPES
from hour_llava.train import checkpoint, run
from hour_llava.train.trainer import HourLlavaTrainer


def die(number: int = signal.SIGKILL) -> None:
    os.kill(os.getpid(), number)


def die_in(
    owner: Any,
    name: str,
    is_time: Callable[[tuple[Any, ...]], bool],
    number: int = signal.SIGKILL,
) -> None:
    """Kill the process in a function, behind its work, before what follows."""
    real = getattr(owner, name)

    def wrapped(*args: Any, **options: Any) -> Any:
        result = real(*args, **options)
        if is_time(args):
            die(number)
        return result

    setattr(owner, name, wrapped)


def arm(kill: dict[str, Any]) -> None:
    where, step = kill["where"], kill["step"]
    name = checkpoint.checkpoint_folder(Path(), step).name
    if where in ("gradients", "term"):  # behind a step's backward pass, before the optimiser's
        number = signal.SIGTERM if where == "term" else signal.SIGKILL
        at_step = lambda a: a[0].state.global_step == step - 1  # noqa: E731
        die_in(HourLlavaTrainer, "_clip_grad_norm", at_step, number)
    elif where == "weights":
        import hour_llava.train.trainer as trainer

        die_in(trainer, "save_state", lambda a: name in str(a[0]))
    elif where == "sync":
        die_in(checkpoint, "_sync", lambda a: name in str(a[0]) and a[0].suffix == ".pt")
    elif where == "before removing":
        die_in(Path, "rename", lambda a: a[1].name == name)
    elif where == "removing":
        die_in(checkpoint, "_remove", lambda a: True)


def main(args: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    out = Path(args["out"])
    if args.get("kill"):
        arm(args["kill"])
    recipe = RECIPES[args["recipe"]]
    config = recipe.prepared(recipe.config(), out)
    config = replace(config, watch=replace(config.watch, reports=()))
    sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115
    run.train(config, out, resume=args.get("resume", False))


main(json.loads(globals()["ARGS"]))
