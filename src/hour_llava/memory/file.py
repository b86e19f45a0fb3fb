"""The memory file `.hlm`: a safetensors file whose one metadata key holds versioned JSON.

Layout: 8 bytes header length, the JSON header padded with spaces to 64 KiB, then `features`
(F, P, D), `times` (F,), `thumbnail_seconds` (n,), `thumbnail_offsets` (n + 1,), `thumbnails`.
Features stand first at a fixed place, so that a writer can stream them before their number is known
and a reader can take any frames without the rest. Documented in docs/memory_file.md.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hour_llava.errors import MemoryFileError
from hour_llava.memory.header import (
    FORMAT_VERSION,
    MemoryHeader,
    canonical_json,
    checksum,
    header_from_json,
    header_to_json,
)

METADATA_KEY = "hour_llava_memory"
DATA_START = 65_536
MAX_HEADER_BYTES = 100_000_000
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}
REMAKE = "delete it and run `hour-llava remember` again"

Thumbnails = tuple[tuple[float, bytes], ...]
"""(seconds, JPEG bytes) of a few frames, in order of time."""


class FeatureFile:
    """The features of an open memory file, read as asked for; `slice` gives a window on them.

    `read` copies frames out and leaves nothing mapped, so that memory stays bounded; `map` gives
    the whole window as a tensor whose pages the system loads on use.
    """

    def __init__(
        self, path: Path, fd: _OpenFile, shape: tuple[int, int, int], dtype: torch.dtype
    ) -> None:
        self.path, self.shape, self.dtype = path, shape, dtype
        self._fd = fd
        self._first = 0
        self._mapped: Tensor | None = None

    @property
    def bytes_per_frame(self) -> int:
        """Count the bytes of one frame."""
        return self.shape[1] * self.shape[2] * self.dtype.itemsize

    def slice(self, first: int, last: int) -> FeatureFile:
        """Give the window of frames first..last-1 of this window."""
        part = FeatureFile(self.path, self._fd, (last - first, *self.shape[1:]), self.dtype)
        part._first = self._first + first
        return part

    def read(self, first: int, last: int) -> Tensor:
        """Copy frames first..last-1 of this window into a new tensor."""
        out = torch.empty((last - first, *self.shape[1:]), dtype=self.dtype)
        start = DATA_START + (self._first + first) * self.bytes_per_frame
        self._fd.read_into(out.view(torch.uint8).numpy().data.cast("B"), start, self.path)
        return out

    def map(self) -> Tensor:
        """Map this window: a private mapping, to which writes do not reach the file."""
        if self._mapped is not None:
            return self._mapped
        size = DATA_START + (self._first + self.shape[0]) * self.bytes_per_frame
        by_number = Path(f"/dev/fd/{self._fd.number}")
        source = by_number if by_number.exists() else self.path
        storage = torch.UntypedStorage.from_file(str(source), False, size)
        start = (DATA_START + self._first * self.bytes_per_frame) // self.dtype.itemsize
        empty: Any = torch.empty(0, dtype=self.dtype)
        mapped: Tensor = empty.set_(storage, start, self.shape)
        self._mapped = mapped
        return mapped


class _OpenFile:
    """A file descriptor that closes with its last user; a replaced file stays readable."""

    def __init__(self, path: Path) -> None:
        self.number = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)

    def size(self) -> int:
        return os.fstat(self.number).st_size

    def read(self, count: int, offset: int) -> bytes:
        return os.pread(self.number, count, offset)

    def read_into(self, buffer: memoryview, offset: int, path: Path) -> None:
        done = 0
        while done < len(buffer):
            count = os.preadv(self.number, [buffer[done:]], offset + done)
            if count == 0:
                raise MemoryFileError(
                    f"{path}: ended after {offset + done} bytes while being read, "
                    f"{offset + len(buffer)} were expected; it was changed meanwhile: {REMAKE}"
                )
            done += count


@dataclass(frozen=True, kw_only=True)
class MemoryFile:
    """An opened memory file: everything small is read and checked, features wait on disk."""

    path: Path
    header: MemoryHeader
    features: FeatureFile
    times_F: Tensor
    thumbnails: Thumbnails
    data_digest: str

    def verify(self) -> None:
        """Read the whole file and compare its digest.

        Raises:
            MemoryFileError: some byte has changed since it was written; both digests are named.
        """
        found = digest_data(self.path)
        if found != self.data_digest:
            raise MemoryFileError(
                f"{self.path}: corrupt, its data has digest {found}, its header says "
                f"{self.data_digest}: {REMAKE}"
            )


def open_memory_file(path: Path) -> MemoryFile:
    """Open a memory file; only its header, times and thumbnails are read.

    Raises:
        MemoryFileError: missing, foreign, truncated, corrupt or newer; the message names the file,
            what was found and expected, and what to do.
    """
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
            raise OSError(errno.EINVAL, f"it is {kind}")
        opened = _OpenFile(path)
    except OSError as error:
        raise MemoryFileError(
            f"{path}: cannot be opened: {error.strerror or error}; name a file made by "
            "`hour-llava remember`"
        ) from error
    tensors, document = _read_document(path, opened)
    try:
        header = header_from_json(document["header"])
        features = _features(path, opened, tensors["features"])
        reader = _TensorReader(path, opened, tensors)
        times_F = reader.read("times", torch.float64)
        if digest_times(times_F) != document["times_digest"]:
            raise ValueError("its times do not match their digest")
        seconds = reader.read("thumbnail_seconds", torch.float64).tolist()
        offsets = reader.read("thumbnail_offsets", torch.int64).tolist()
        images = reader.raw("thumbnails")
        thumbnails = tuple(
            (second, images[a:b])
            for second, a, b in zip(seconds, offsets[:-1], offsets[1:], strict=True)
        )
        if len(times_F) != features.shape[0]:
            raise ValueError(f"{len(times_F)} times for {features.shape[0]} frames")
        data_digest = str(document["data_digest"])
    except (KeyError, TypeError, ValueError, AttributeError, OSError, OverflowError) as error:
        raise MemoryFileError(f"{path}: corrupt memory file ({error}): {REMAKE}") from error
    return MemoryFile(
        path=path,
        header=header,
        features=features,
        times_F=times_F,
        thumbnails=thumbnails,
        data_digest=data_digest,
    )


def _read_document(path: Path, opened: _OpenFile) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the tensor table and our JSON, refusing what is foreign, newer, cut or changed."""
    size = opened.size()
    foreign = f"{path}: not a memory file (.hlm) of hour-llava"
    if size < 8:
        raise MemoryFileError(f"{foreign}: {size} bytes, a header alone has more: {REMAKE}")
    (header_bytes,) = struct.unpack("<Q", opened.read(8, 0))
    if header_bytes == 0:
        raise MemoryFileError(f"{path}: never finished; run `hour-llava remember` to resume it")
    if header_bytes > MAX_HEADER_BYTES:
        raise MemoryFileError(f"{foreign}: its header would have {header_bytes} bytes of {size}")
    if 8 + header_bytes > size:
        raise MemoryFileError(
            f"{path}: truncated or foreign: {size} bytes, its header alone needs "
            f"{8 + header_bytes}: {REMAKE}"
        )
    try:
        tensors = json.loads(opened.read(header_bytes, 8))
        document = json.loads(tensors.pop("__metadata__")[METADATA_KEY])
        version = document["version"]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise MemoryFileError(f"{foreign} (no {METADATA_KEY} in its header)") from error
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise MemoryFileError(f"{foreign}: its format version is {version!r}: {REMAKE}")
    if version > FORMAT_VERSION:
        raise MemoryFileError(
            f"{path}: memory format version {version}, this hour-llava reads up to "
            f"{FORMAT_VERSION}: upgrade with `pip install -U hour-llava`"
        )
    _check_document(path, tensors, document, size=size, data_start=8 + header_bytes)
    return tensors, document


def _check_document(
    path: Path, tensors: dict[str, Any], document: dict[str, Any], *, size: int, data_start: int
) -> None:
    claimed = document.pop("checksum", None)
    try:
        actual = checksum(document)
        end = max(int(t["data_offsets"][1]) for t in tensors.values())
        agrees = checksum(tensors) == document["tensors_checksum"]
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise MemoryFileError(f"{path}: corrupt header ({error}): {REMAKE}") from error
    if claimed != actual or not agrees or data_start != DATA_START:
        raise MemoryFileError(
            f"{path}: corrupt header: checksum {claimed}, computed {actual}: {REMAKE}"
        )
    if data_start + end != size:
        word = "truncated" if size < data_start + end else "longer than it says"
        raise MemoryFileError(
            f"{path}: {word}: {size} bytes, its header says {data_start + end}: {REMAKE}"
        )


def _features(path: Path, opened: _OpenFile, entry: dict[str, Any]) -> FeatureFile:
    dtype_name, shape, offsets = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    if dtype_name not in DTYPES or len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"features of dtype {dtype_name} and shape {shape}")
    features = FeatureFile(path, opened, (shape[0], shape[1], shape[2]), DTYPES[dtype_name])
    if offsets != [0, shape[0] * features.bytes_per_frame]:
        raise ValueError(f"features of shape {shape} at bytes {offsets}")
    return features


class _TensorReader:
    """Reads the small tensors of a file."""

    def __init__(self, path: Path, opened: _OpenFile, tensors: dict[str, Any]) -> None:
        self.path, self.opened, self.tensors = path, opened, tensors

    def raw(self, name: str) -> bytes:
        first, last = self.tensors[name]["data_offsets"]
        raw = self.opened.read(last - first, DATA_START + first)
        if len(raw) != last - first:
            raise ValueError(f"{name} has {len(raw)} bytes, its header says {last - first}")
        return raw

    def read(self, name: str, dtype: torch.dtype) -> Tensor:
        raw = bytearray(self.raw(name))
        return torch.frombuffer(raw, dtype=dtype) if raw else torch.zeros(0, dtype=dtype)


def digest_times(times_F: Tensor) -> str:
    """Digest the frame times."""
    return hashlib.blake2b(times_F.numpy().tobytes(), digest_size=16).hexdigest()


def digest_data(path: Path) -> str:
    """Digest all that follows the header."""
    with path.open("rb") as file:
        file.seek(DATA_START)
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def tail_tensors(
    times_F: Tensor, thumbnails: Thumbnails, features_bytes: int
) -> list[tuple[str, str, list[int], bytes]]:
    """Give what follows the features: (name, dtype, shape, bytes), aligned to 8 bytes."""
    offsets = [0]
    for _, image in thumbnails:
        offsets.append(offsets[-1] + len(image))
    n, gap = len(thumbnails), -features_bytes % 8
    seconds = struct.pack(f"<{n}d", *(second for second, _ in thumbnails))
    padding = [("padding", "U8", [gap], bytes(gap))] if gap else []
    images = b"".join(image for _, image in thumbnails)
    return [
        *padding,
        ("times", "F64", [len(times_F)], times_F.numpy().tobytes()),
        ("thumbnail_seconds", "F64", [n], seconds),
        ("thumbnail_offsets", "I64", [n + 1], struct.pack(f"<{n + 1}q", *offsets)),
        ("thumbnails", "U8", [len(images)], images),
    ]


def header_block(
    header: MemoryHeader,
    features_shape: Sequence[int],
    dtype: torch.dtype,
    tail: Sequence[tuple[str, str, list[int], bytes]],
    *,
    times_digest: str,
    data_digest: str,
) -> bytes:
    """Write the first 64 KiB of a finished file."""
    end = dtype.itemsize * features_shape[0] * features_shape[1] * features_shape[2]
    tensors: dict[str, Any] = {
        "features": {
            "dtype": DTYPE_NAMES[dtype],
            "shape": list(features_shape),
            "data_offsets": [0, end],
        }
    }
    for name, kind, shape, raw in tail:
        offsets = [end, end + len(raw)]
        tensors[name] = {"dtype": kind, "shape": shape, "data_offsets": offsets}
        end = offsets[1]
    document: dict[str, Any] = {
        "version": FORMAT_VERSION,
        "header": header_to_json(header),
        "times_digest": times_digest,
        "data_digest": data_digest,
        "tensors_checksum": checksum(tensors),
    }
    document["checksum"] = checksum(document)
    metadata = {"__metadata__": {METADATA_KEY: canonical_json(document)}}
    text = json.dumps(metadata | tensors, separators=(",", ":")).encode()
    if len(text) > DATA_START - 8:
        raise MemoryFileError(
            f"the header needs {len(text)} bytes, {DATA_START - 8} are reserved: shorten the path"
        )
    return struct.pack("<Q", DATA_START - 8) + text.ljust(DATA_START - 8)
