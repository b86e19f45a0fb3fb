"""Numbers taken of the model now and then, without the training noticing."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What to measure, and how often.

    Args:
        name: The kind of its lines: "validation", "exam".
        every_steps: 0: behind the last step alone.
        measure: Called with the Trainer's model on every process at the same step, in eval mode and
            without gradients; all processes must do the same work, or sharded models hang. Names
            without a slash are shown, those with one (open/colour) are for the log.
    """

    name: str
    every_steps: int
    measure: Callable[[nn.Module], Mapping[str, float]]

    def is_due(self, step: int, *, is_last: bool) -> bool:
        """Say whether to measure behind a step."""
        return is_last or (self.every_steps > 0 and step % self.every_steps == 0)


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Put a model into eval mode; afterwards modes and random states are as they were before.

    A run with and a run without measurements give the same losses to the last bit.
    """
    modes = {module: module.training for module in model.modules()}
    python, numpy = random.getstate(), np.random.get_state()
    model.eval()
    try:
        with torch.random.fork_rng(_devices()), torch.no_grad():
            yield
    finally:
        for module, is_training in modes.items():
            module.training = is_training
        random.setstate(python)
        np.random.set_state(numpy)


def _devices() -> list[int]:
    return [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
