"""Watch: the Trainer's callback that times each step and makes a line of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

import psutil
import torch
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hour_llava.errors import ResourceError
from hour_llava.train.watching.lines import Watcher
from hour_llava.train.watching.measurement import Measurement, undisturbed

_FROM_THE_TRAINER = (
    *("loss", "grad_norm", "samples", "tokens", "labels", "broken", "data_seconds"),
)
_FAMILIES = ("loss/", "lr/")


class Watch(TrainerCallback):
    """Measures on every process, tells watchers on the first.

    The Trainer is asked to log each step (`logging_steps=1`). Of its logs are taken: loss,
    grad_norm, and where given samples, tokens, labels, data_seconds, broken (how many samples were
    replaced, in all), broken_samples (this step's, and why), loss/NAME and lr/PART.

    Args:
        watchers: Told of every line.
        measurements: Taken at their steps and behind the last.
        samples_per_step: The global batch size.
        facts: Of the run; its name among them.
    """

    def __init__(
        self,
        watchers: Sequence[Watcher],
        measurements: Sequence[Measurement],
        *,
        samples_per_step: int,
        facts: Mapping[str, Any],
    ) -> None:
        self._watchers, self._measurements = list(watchers), measurements
        self._samples_per_step, self._facts = samples_per_step, facts
        self._last_step: int | None = None
        self._free_since = self._seconds = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Say what runs, and from which step on."""
        if state.is_world_process_zero:
            run = {"kind": "run", "step": state.global_step, "num_steps": state.max_steps}
            run |= {"time": _now(), "ranks": args.world_size, **self._facts}
            self._last_step = state.global_step
            for watcher in self._watchers:
                watcher.begin(run)
        self._free_since = time.perf_counter()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Note how long the step took, its data included: nothing else happens between steps."""
        now = time.perf_counter()
        self._seconds, self._free_since = now - self._free_since, now

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        model: nn.Module | None = None,
        **_: Any,
    ) -> None:
        """Make the step's line; measure what is due, but behind a checkpoint of this step."""
        if not logs or "loss" not in logs:
            return
        line: dict[str, Any] = {"kind": "step", "step": state.global_step}
        line["samples"] = state.global_step * self._samples_per_step
        line |= {name: _number(logs[name]) for name in _FROM_THE_TRAINER if name in logs}
        line |= {name: _number(logs[name]) for name in logs if name.startswith(_FAMILIES)}
        line |= {"seconds": self._seconds, "memory_bytes": peak_memory_bytes()}
        if logs.get("broken_samples"):
            line["broken_samples"] = list(logs["broken_samples"])
        self._tell(state, line)
        if model is not None and not control.should_save:
            self._measure(state, control, model)
        self._free_since = time.perf_counter()

    def on_save(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        **_: Any,
    ) -> None:
        """Measure what is due; writing and measuring are no part of the next step."""
        if model is not None:
            self._measure(state, control, model)
        self._free_since = time.perf_counter()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Say why it ended."""
        reason = "done" if state.global_step >= state.max_steps else "stopped"
        self._end(reason)

    def close(self) -> None:
        """Close all watchers; a run that has not ended by now has failed."""
        with suppress(ResourceError):  # the full disk that made it fail is known
            self._end("failed")
        for watcher in self._watchers:
            watcher.close()

    def _end(self, reason: str) -> None:
        if self._last_step is None:
            return
        line = {"kind": "end", "step": self._last_step, "time": _now(), "reason": reason}
        self._last_step = None
        for watcher in self._watchers:
            watcher.take(line)

    def _measure(self, state: TrainerState, control: TrainerControl, model: nn.Module) -> None:
        is_last = state.global_step >= state.max_steps
        if control.should_training_stop and not is_last:
            return  # told to end: whoever told it may not wait
        for measurement in self._measurements:
            if not measurement.is_due(state.global_step, is_last=is_last):
                continue
            begun = time.perf_counter()
            with undisturbed(model):
                numbers = measurement.measure(model)
            line = {"kind": measurement.name, "step": state.global_step}
            line |= {"seconds": time.perf_counter() - begun, **numbers}
            self._tell(state, line)

    def _tell(self, state: TrainerState, line: Mapping[str, Any]) -> None:
        if state.is_world_process_zero:
            self._last_step = state.global_step
            for watcher in self._watchers:
                watcher.take(line)


def peak_memory_bytes() -> int:
    """Give the accelerator's peak, or where there is none what the process holds."""
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    return psutil.Process().memory_info().rss


def _number(value: Any) -> Any:
    return value.item() if isinstance(value, torch.Tensor) else value


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")
