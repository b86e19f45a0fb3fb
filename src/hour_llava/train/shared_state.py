"""Weights and optimiser on disk, by name: written by any number of processes, read by any other.

    FOLDER/.metadata, FOLDER/*.distcp     torch.distributed.checkpoint; float32, but what is frozen
                                          as it is held (bfloat16 under fsdp2 in bf16)

Every process writes its share. Names are the model's parameters' own, so a run on eight processes
with fsdp2 goes on in one process, and back. What is kept for each rank (random numbers) and the
data's place are not here: see `train.checkpoint`, which also makes saving all-or-nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

from hour_llava.errors import CheckpointError, ResourceError
from hour_llava.train.distributed import keep_shares_alone

NAMED = 3  # of wrong names, so many are told
_FLAT = StateDictOptions(flatten_optimizer_state_dict=True)


def save_state(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer | None) -> None:
    """Write weights and optimiser; every process must call it.

    Args:
        folder: Empty or missing; the same for all processes, on storage that all of them see.
        model: Not wrapped in DDP.
        optimizer: None writes the weights alone.

    Raises:
        ResourceError: some process cannot write: the disk is full, say.
    """
    keep_shares_alone(model)
    state: dict[str, Any] = {"model": _weights(model)}
    if optimizer is not None:
        state["optimizer"] = get_optimizer_state_dict(model, _bare(optimizer), options=_FLAT)
    try:
        with _quiet():
            dcp.save(state, checkpoint_id=folder, no_dist=not dist.is_initialized())
    except (dcp.api.CheckpointException, OSError, RuntimeError) as error:
        raise ResourceError(f"{folder}: cannot be written: {_cause(error)}") from error


def load_state(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer | None) -> None:
    """Read what `save_state` wrote into a model and its optimiser, in place.

    Args:
        folder: Written by any number of processes, sharded or not.
        model: Of the same architecture, with the same parts trained.
        optimizer: Of the same kind and parameter groups; None reads the weights alone.

    Raises:
        CheckpointError: the checkpoint is of another model, is damaged, or trained other parts.
    """
    keep_shares_alone(model)
    state: dict[str, Any] = {"model": _weights(model)}
    if optimizer is not None:
        state["optimizer"] = get_optimizer_state_dict(model, _bare(optimizer), options=_FLAT)
    _require_same(folder, state)
    try:
        with _quiet():
            dcp.load(state, checkpoint_id=folder, no_dist=not dist.is_initialized())
    except (dcp.api.CheckpointException, OSError, RuntimeError, EOFError) as error:
        raise CheckpointError(
            f"{folder}: cannot be read: {_cause(error)}; resume from an earlier checkpoint"
        ) from error
    if optimizer is not None:
        set_optimizer_state_dict(model, _bare(optimizer), state["optimizer"], options=_FLAT)


def full_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """Gather a model's weights in process 0's memory (CPU); the others get none.

    Every process must call it. For the final export: a checkpoint needs no gathering.
    """
    if not dist.is_initialized():
        return dict(model.state_dict())
    keep_shares_alone(model)
    whole = StateDictOptions(full_state_dict=True, cpu_offload=True)
    gathered: Any = get_model_state_dict(model, options=whole)
    return {name: _alone(weight) for name, weight in gathered.items()}


def _alone(weight: Tensor) -> Tensor:
    """Give a tensor a storage of its own size: gathering unequal shares leaves a larger one."""
    is_exact = weight.untyped_storage().nbytes() == weight.nbytes
    return weight if is_exact else weight.clone()


@contextmanager
def _quiet() -> Iterator[None]:
    """Pass over torch's remark that one process is one process."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


def _weights(model: nn.Module) -> dict[str, Tensor]:
    """Give parameters, tied ones once, and the buffers that are kept; loading fills them."""
    kept = model.state_dict()
    weights = {name: weight.detach() for name, weight in model.named_parameters()}
    return weights | {name: kept[name] for name, _ in model.named_buffers() if name in kept}


def _require_same(folder: Path, state: dict[str, Any]) -> None:
    """Refuse a checkpoint of other tensors before anything is overwritten.

    Raises:
        CheckpointError: names what is missing, too much, or of another shape.
    """
    try:
        metadata = dcp.FileSystemReader(folder).read_metadata()
    except Exception as error:  # a cut pickle raises anything
        raise CheckpointError(
            f"{folder}: no whole checkpoint ({_cause(error)}); resume from an earlier one"
        ) from error
    stored = {
        name: tuple(found.size)
        for name, found in metadata.state_dict_metadata.items()
        if isinstance(found, TensorStorageMetadata)
    }
    wanted = {
        f"{part}.{name}": tuple(value.shape)
        for part, values in state.items()
        for name, value in values.items()
        if isinstance(value, Tensor)
    }
    faults = [f"has no {name}" for name in wanted if name not in stored]
    faults += [
        f"{name} is {stored[name]}, the run's {shape}"
        for name, shape in wanted.items()
        if name in stored and stored[name] != shape
    ]
    read = tuple(f"{part}." for part in state)
    faults += [
        f"has {name}, which the run has not"
        for name in stored
        if name.startswith(read) and name not in wanted
    ]
    if faults:
        more = f" and {len(faults) - NAMED} more" if len(faults) > NAMED else ""
        raise CheckpointError(
            f"{folder}: of another model or other trained parts: {'; '.join(faults[:NAMED])}{more}"
        )


def _bare(optimizer: Any) -> torch.optim.Optimizer:
    """Take accelerate's wrapper off."""
    return getattr(optimizer, "optimizer", optimizer)


def _cause(error: BaseException) -> str:
    """Say in one line what went wrong on the first process that failed."""
    failures = getattr(error, "failures", None)
    if failures:
        number, (cause, _) = sorted(failures.items())[0]
        return f"process {number}: {_cause(cause)}"
    text = str(error).strip()
    return text.splitlines()[-1] if text else type(error).__name__
