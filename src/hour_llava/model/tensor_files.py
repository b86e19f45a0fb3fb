"""Checkpoints as files: safetensors read and written tensor by tensor, never unpickled.

A tensor is read straight into the memory it will live in, so a checkpoint of n bytes loads within
about n bytes: a mapped file would be counted a second time.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hour_llava.errors import CheckpointError

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
INDEX_NAME = "model.safetensors.index.json"
SINGLE_NAME = "model.safetensors"
COPY_BYTES = 16 * 2**20


@dataclass(frozen=True, kw_only=True)
class TensorEntry:
    """Where a tensor lies: its file, its first byte there, and its size."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    num_bytes: int

    def read(self) -> Tensor:
        """Read the tensor into fresh memory."""
        tensor = torch.empty(self.shape, dtype=DTYPES[self.dtype])
        view = (
            memoryview(tensor.view(-1).view(torch.uint8).numpy().data) if tensor.numel() else None
        )
        with self.path.open("rb", buffering=0) as file:
            file.seek(self.start)
            done = 0
            while view is not None and done < self.num_bytes:
                count = file.readinto(view[done : done + COPY_BYTES])
                if not count:
                    raise CheckpointError(f"{self.path} ends early: it is truncated; copy it again")
                done += count
        return tensor


def read_header(path: Path) -> dict[str, TensorEntry]:
    """List the tensors of a safetensors file.

    Raises:
        CheckpointError: the file is not safetensors, or truncated.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > size - 8:
                raise ValueError(f"header of {length} bytes in a file of {size}")
            header = json.loads(file.read(length))
        entries = {k: _entry(path, 8 + length, v) for k, v in header.items() if k != "__metadata__"}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file: {error}") from error
    end = max((e.start + e.num_bytes for e in entries.values()), default=8 + length)
    if end > size:
        raise CheckpointError(f"{path} has {size} bytes and should have {end}: copy it again")
    return entries


def _entry(path: Path, offset: int, value: Mapping[str, Any]) -> TensorEntry:
    start, end = value["data_offsets"]
    dtype, shape = value["dtype"], tuple(value["shape"])
    num_bytes = torch.Size(shape).numel() * DTYPES[dtype].itemsize
    if end - start != num_bytes:
        raise ValueError(f"a tensor of shape {shape} has {end - start} bytes, not {num_bytes}")
    return TensorEntry(
        path=path, dtype=dtype, shape=shape, start=offset + start, num_bytes=num_bytes
    )


def read_folder(folder: Path) -> dict[str, TensorEntry]:
    """List the tensors of a checkpoint folder, sharded or not.

    Raises:
        CheckpointError: no safetensors, a shard that is missing, a key in two shards.
    """
    index = folder / INDEX_NAME
    if index.is_file():
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    else:
        names = [SINGLE_NAME]
    entries: dict[str, TensorEntry] = {}
    for name in names:
        path = folder / Path(name).name
        if not path.is_file():
            raise CheckpointError(f"{folder} has no {path.name}: weights come as safetensors files")
        header = read_header(path)
        if twice := entries.keys() & header.keys():
            raise CheckpointError(f"{path} repeats {sorted(twice)[0]} of another shard")
        entries |= header
    return entries


def open_to_others(*paths: Path) -> None:
    """Give files the permissions of any new file beside them.

    safetensors (0.8) makes what it writes its owner's alone, so that nobody else could train on
    shared features or load a shared model.
    """
    for path in paths:
        other = path.with_name(f".{path.name}.mode")
        with suppress(OSError):  # a file system without permissions, a disk that is full by now
            other.touch()
            path.chmod(stat.S_IMODE(other.stat().st_mode))
        other.unlink(missing_ok=True)


def write_folder(folder: Path, entries: Mapping[str, TensorEntry]) -> None:
    """Copy tensors into a folder under new names, shard by shard, byte for byte.

    The shards follow those of the source; memory stays at one block of a copy.
    """
    shards: dict[Path, dict[str, TensorEntry]] = {}
    for key, entry in entries.items():
        shards.setdefault(entry.path, {})[key] = entry
    total = sum(entry.num_bytes for entry in entries.values())
    weight_map: dict[str, str] = {}
    for number, own in enumerate(shards.values(), start=1):
        name = SINGLE_NAME
        if len(shards) > 1:
            name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        _write_file(folder / name, own)
        weight_map |= dict.fromkeys(own, name)
    if len(shards) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
        (folder / INDEX_NAME).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _write_file(path: Path, entries: Mapping[str, TensorEntry]) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for key, entry in entries.items():
        end = offset + entry.num_bytes
        header[key] = {
            "dtype": entry.dtype,
            "shape": list(entry.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for entry in entries.values():
            for block in _blocks(entry):
                file.write(block)


def _blocks(entry: TensorEntry) -> Iterable[bytes]:
    with entry.path.open("rb") as file:
        file.seek(entry.start)
        left = entry.num_bytes
        while left:
            block = file.read(min(left, COPY_BYTES))
            if not block:
                raise CheckpointError(f"{entry.path} ends early: it is truncated; copy it again")
            left -= len(block)
            yield block
