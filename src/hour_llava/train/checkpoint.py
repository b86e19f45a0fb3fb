"""Checkpoints of a run: whole, or not there.

    ROOT/step-00000050/     has this name when all of it is on the disk
      checkpoint.json       step, samples consumed, the data's order, what run it is of, checksums
      trainer_state.json    transformers' own
      scheduler.pt
      random-0.pt ..        random numbers of each rank
      weights/              weights and optimiser, see `train.shared_state`

Until then the folder is called `.step-00000050.part`: whatever kills a run, and whenever, the last
checkpoint is a whole one.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from hour_llava.errors import CheckpointError, HourLlavaError, ResourceError
from hour_llava.train.distributed import gathered, num_processes, rank, wait_for_all

VERSION = 1
FACTS, WEIGHTS, SCHEDULER = "checkpoint.json", "weights", "scheduler.pt"
_NAME = re.compile(r"step-(\d{8})")
_GIGABYTE = 1e9
_BLOCK_BYTES = 2**22


@dataclass(frozen=True, kw_only=True)
class CheckpointFacts:
    """What a checkpoint says about itself.

    Args:
        step: Steps of the optimiser that were taken.
        sampler: The sampler's state: samples consumed, and the order they came in.
        num_broken: Samples that were replaced.
        num_ranks: Processes that wrote it.
        checksums: CRC-32 of every other file.
        identity: What a run must share to go on from here: its settings.
    """

    step: int
    sampler: Mapping[str, Any]
    num_broken: int = 0
    num_ranks: int = 1
    identity: Mapping[str, Any] = field(default_factory=dict)
    checksums: Mapping[str, int] = field(default_factory=dict)
    version: int = VERSION


def checkpoint_folder(root: Path, step: int) -> Path:
    """Name the folder of a step's checkpoint."""
    return root / f"step-{step:08d}"


def list_checkpoints(root: Path) -> list[Path]:
    """Find the whole checkpoints of a run, oldest first."""
    return [folder for folder in _named(root) if (folder / FACTS).is_file()]


def last_checkpoint(root: Path) -> Path | None:
    """Find the newest whole checkpoint of a run."""
    return next(reversed(list_checkpoints(root)), None)


def passed_over(root: Path) -> list[Path]:
    """Find what is called a checkpoint, is newer than the last whole one, and is none."""
    last = last_checkpoint(root)
    return [folder for folder in _named(root) if last is None or folder.name > last.name]


def read_facts(folder: Path) -> CheckpointFacts:
    """Read what a checkpoint says about itself.

    Raises:
        CheckpointError: It is no checkpoint, or of a newer version.
    """
    path = folder / FACTS
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        version = int(document["version"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{folder} is no checkpoint of a training run: {error}; {_instead_of(folder)}"
        ) from error
    if version != VERSION:
        raise CheckpointError(
            f"{folder}: a checkpoint of version {version}, this hour-llava reads {VERSION}"
        )
    known = {item.name for item in fields(CheckpointFacts)}
    if not known.issuperset(document) or not document.keys() >= {"step", "sampler"}:
        raise CheckpointError(f"{path} has wrong fields; {_instead_of(folder)}")
    return CheckpointFacts(**document)


def verify(folder: Path) -> None:
    """Hold a checkpoint's files against its checksums; every rank must call it, and reads a share.

    Raises:
        CheckpointError: A file is gone or damaged; it is named, and what to go on from instead.
    """
    written = read_facts(folder).checksums
    faults: list[str] = []
    for name in sorted(written)[rank() :: num_processes()]:
        try:
            if _checksum(folder / name) != written[name]:
                faults.append(f"{name} is damaged")
        except OSError as error:
            faults.append(f"{name} cannot be read ({error.strerror})")
    found = [fault for share in gathered(faults) for fault in share]
    if found:
        raise CheckpointError(f"{folder}: {found[0]}; {_instead_of(folder)}")


def write_checkpoint(
    root: Path,
    facts: CheckpointFacts,
    write: Callable[[Path], None],
    *,
    keep_last: int,
    num_bytes: int = 0,
) -> Path:
    """Write a checkpoint, whole or not at all; every rank must call it.

    Args:
        root: The run's checkpoints, on storage that all ranks see.
        facts: Written last.
        write: Fills the folder it is given; runs on every rank.
        keep_last: Older checkpoints beyond this are removed, once the new one is whole.
        num_bytes: What it will take; the disk is asked before anything is written.

    Returns:
        The folder.

    Raises:
        ResourceError: It could not be written; the earlier checkpoints are whole.
    """
    final = checkpoint_folder(root, facts.step)
    part = root / f".{final.name}.part"
    is_first = rank() == 0
    _together(lambda: _make_room(root, part, num_bytes) if is_first else None, root, facts.step)
    try:
        _together(lambda: write(part), root, facts.step)
        summed: dict[str, int] = {}
        _together(lambda: summed.update(_share_of_checksums(part)), root, facts.step)
        whole = replace(facts, checksums={k: v for one in gathered(summed) for k, v in one.items()})
        _together(lambda: _finish(part, final, whole) if is_first else None, root, facts.step)
    except ResourceError:
        if is_first:
            shutil.rmtree(part, ignore_errors=True)
        raise
    if is_first:
        for old in list_checkpoints(root)[: -max(1, keep_last)]:
            _remove(old)
    wait_for_all()
    return final


def state_bytes(model: nn.Module) -> int:
    """Count what weights and AdamW's state of them take on the disk."""
    return sum(
        p.numel() * (p.element_size() + (2 * p.element_size() if p.requires_grad else 0))
        for p in model.parameters()
    )


def random_state() -> dict[str, Any]:
    """Take down the state of every generator of random numbers."""
    name, keys, *rest = np.random.get_state()
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore_random_state(state: Mapping[str, Any]) -> None:
    """Set every generator of random numbers as it was."""
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def random_file(folder: Path) -> Path:
    """Name the file of this rank's random numbers."""
    return folder / f"random-{rank()}.pt"


def _named(root: Path) -> list[Path]:
    """List what is called a checkpoint, oldest first."""
    if not root.is_dir():
        return []
    return sorted(path for path in root.iterdir() if _NAME.fullmatch(path.name))


def _together(act: Callable[[], object], root: Path, step: int) -> None:
    """Act on every rank, and fail on every rank where one fails."""
    fault = None
    try:
        act()
    except (OSError, RuntimeError, HourLlavaError) as error:
        fault = " ".join(str(error).split())
    faults = [other for other in gathered(fault) if other is not None]
    if faults:
        last = last_checkpoint(root)
        kept = f"{last} is whole" if last else "there is no earlier one"
        raise ResourceError(
            f"the checkpoint of step {step} cannot be written: {faults[0]}; {kept}: free some "
            "space and go on with --resume"
        )


def _make_room(root: Path, part: Path, num_bytes: int) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for stale in root.glob(".step-*"):
        _remove(stale)
    free = shutil.disk_usage(root).free
    if free < num_bytes:
        raise ResourceError(
            f"{root} has {free / _GIGABYTE:.3g} GB free, {num_bytes / _GIGABYTE:.3g} GB are needed"
        )
    part.mkdir()


def _finish(part: Path, final: Path, facts: CheckpointFacts) -> None:
    text = json.dumps(asdict(facts), indent=1)
    (part / FACTS).write_text(text + "\n", encoding="utf-8")
    for path in [*part.rglob("*"), part]:
        _sync(path)
    if final.exists():  # of a run that went on from an earlier step
        _remove(final)
    part.rename(final)
    _sync(final.parent)


def _share_of_checksums(folder: Path) -> dict[str, int]:
    """Sum up this rank's share of a folder's files, by their paths in it."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    own = paths[rank() :: num_processes()]
    return {path.relative_to(folder).as_posix(): _checksum(path) for path in own}


def _checksum(path: Path) -> int:
    found = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            found = zlib.crc32(block, found)
    return found


def _instead_of(folder: Path) -> str:
    """Say what a run can go on from, where a checkpoint is damaged."""
    earlier = [path for path in list_checkpoints(folder.parent) if path.name < folder.name]
    then = f"goes on from {earlier[-1].name}" if earlier else "begins anew: there is no earlier one"
    return f"remove {folder}, and --resume {then}"


def _remove(folder: Path) -> None:
    """Remove a checkpoint; its name goes first, so that no half of it is taken for a whole."""
    gone = folder.with_name(f".{folder.name.strip('.')}.old")
    if folder != gone:
        shutil.rmtree(gone, ignore_errors=True)
        folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
