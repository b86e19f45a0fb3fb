"""Writing a memory file frame by frame, so that a killed process loses a minute, not an hour.

`NAME.hlm.partial` receives the features; `NAME.hlm.partial.journal` gets one line a commit, written
after the commit's features have reached the disk. Resuming reads the journal, cuts the partial file
to what was committed and goes on. A finished file appears under its own name at once or not at all.
"""

from __future__ import annotations

import base64
import errno
import json
import os
import shutil
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import torch
from torch import Tensor

from hour_llava.errors import ResourceError
from hour_llava.memory.file import (
    DATA_START,
    DTYPE_NAMES,
    Thumbnails,
    digest_data,
    digest_times,
    header_block,
    tail_tensors,
)
from hour_llava.memory.header import MemoryHeader, checksum
from hour_llava.schema import DamagedSpan

JOURNAL_VERSION = 1
# A frame's time as JSON text, and what stands around a thumbnail there and in the finished file.
TIME_TEXT_BYTES, THUMBNAIL_EXTRA_BYTES = 24, 64
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class MemoryFileWriter:
    """Streams frames into a memory file; resumes what an earlier process left unfinished.

    Args:
        path: the finished file's name.
        header: what the memory is of; duration and damage may follow in `finish`.
        tokens_per_frame: P of the features.
        feature_size: D of the features.
        dtype: of the stored features.
        num_frames_expected: where known, the disk is asked for room before anything is written.
        thumbnails_expected: (number, bytes of all) of the thumbnails that will come with them.
        commit_every: frames between commits.
        resume: whether an unfinished file of the same identity is continued.
        suffix: of the unfinished file.

    Raises:
        ResourceError: the disk is (or would be) full; needed and free bytes are named.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        header: MemoryHeader,
        tokens_per_frame: int,
        feature_size: int,
        dtype: torch.dtype = torch.bfloat16,
        num_frames_expected: int | None = None,
        thumbnails_expected: tuple[int, int] = (0, 0),
        commit_every: int = 64,
        resume: bool = True,
        suffix: str = ".partial",
    ) -> None:
        if dtype not in DTYPE_NAMES:
            raise ValueError(f"features of {dtype} cannot be stored, {list(DTYPE_NAMES)} can")
        self.path = Path(path)
        self.partial_path = self.path.with_name(f"{self.path.name}{suffix}")
        self.journal_path = self.path.with_name(f"{self.path.name}{suffix}.journal")
        self.header, self.dtype = header, dtype
        self.shape = (tokens_per_frame, feature_size)
        self.bytes_per_frame = tokens_per_frame * feature_size * dtype.itemsize
        self.commit_every = commit_every
        self.num_frames_expected = num_frames_expected
        self.thumbnails_expected = thumbnails_expected
        self._is_resumable = resume
        self._journal_end = 0
        self._times: list[float] = []
        self._thumbnails: list[tuple[float, bytes]] = []
        self._pending: list[tuple[Tensor, list[float]]] = []
        self._pending_thumbnails: list[tuple[float, bytes]] = []
        if resume:
            self._resume()
        try:
            self._open()
        except BaseException:
            if not self._times:
                self._delete()
            raise

    def _open(self) -> None:
        with self._disk():
            self._require_room()
            self._file: BinaryIO = self.partial_path.open("r+b" if self._times else "wb")
            self._journal: BinaryIO = self.journal_path.open("r+b" if self._times else "wb")
            self._rewind()

    @property
    def num_frames(self) -> int:
        """Count the frames taken so far; at the start, those an earlier process had committed."""
        return len(self._times) + sum(len(times) for _, times in self._pending)

    def add(
        self, features_FPD: Tensor, times_F: Sequence[float], thumbnails: Thumbnails = ()
    ) -> None:
        """Take frames in order of time; every `commit_every` frames they are made durable."""
        if tuple(features_FPD.shape[1:]) != self.shape or len(features_FPD) != len(times_F):
            raise ValueError(
                f"features {tuple(features_FPD.shape)} with {len(times_F)} times do not fit "
                f"a memory of {self.shape} a frame"
            )
        self._pending.append((features_FPD.detach().to("cpu", self.dtype), list(times_F)))
        self._pending_thumbnails += thumbnails
        if sum(len(times) for _, times in self._pending) >= self.commit_every:
            self.commit()

    def commit(self) -> None:
        """Make the frames taken so far durable."""
        if not self._pending:
            return
        features = torch.cat([part for part, _ in self._pending]).contiguous()
        times = [float(t) for _, part in self._pending for t in part]
        raw = features.view(torch.uint8).numpy().tobytes()
        line = {
            "times": times,
            "crc": zlib.crc32(raw),
            "thumbnails": [
                [s, base64.b64encode(image).decode()] for s, image in self._pending_thumbnails
            ],
        }
        # Taken off first: interrupted in here, a second commit must not write them once more.
        thumbnails, self._pending, self._pending_thumbnails = self._pending_thumbnails, [], []
        with self._disk(waiting=len(times)):
            self._file.write(raw)
            _sync(self._file)
            self._write_line(line)
        self._times += times
        self._thumbnails += thumbnails

    def finish(
        self,
        *,
        duration_seconds: float | None = None,
        damage: tuple[DamagedSpan, ...] | None = None,
    ) -> Path:
        """Complete the file and give it its name, in one step that cannot be seen half done."""
        self.commit()
        if not self._times:
            raise ValueError(f"{self.path}: a memory needs at least 1 frame, 0 were added")
        header = self.header
        if duration_seconds is not None:
            header = replace(header, duration_seconds=float(duration_seconds))
        if damage is not None:
            header = replace(header, damage=tuple(damage))
        times_F = torch.tensor(self._times, dtype=torch.float64)
        features_bytes = len(times_F) * self.bytes_per_frame
        tail = tail_tensors(times_F, tuple(self._thumbnails), features_bytes)
        with self._disk():
            self._file.write(b"".join(raw for *_, raw in tail))
            self._file.flush()
            block = header_block(
                header,
                (len(times_F), *self.shape),
                self.dtype,
                tail,
                times_digest=digest_times(times_F),
                data_digest=digest_data(self.partial_path),
            )
            self._file.seek(0)
            self._file.write(block)
            _sync(self._file)
            self.close()
            self.partial_path.replace(self.path)
            _sync_folder(self.path.parent)
        self.journal_path.unlink(missing_ok=True)
        return self.path

    def close(self) -> None:
        """Stop; what was committed stays on disk and is resumed by the next writer."""
        self._file.close()
        self._journal.close()

    def discard(self) -> None:
        """Stop, and delete what was written."""
        self.close()
        self._delete()

    def __enter__(self) -> MemoryFileWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if not self._file.closed:
            if kind is None or not issubclass(kind, ResourceError):
                self.commit()
            self.close()

    def _delete(self) -> None:
        with suppress(FileNotFoundError, NotADirectoryError):
            self.partial_path.unlink()
            self.journal_path.unlink()

    def _identity(self) -> dict[str, Any]:
        layout = {"shape": list(self.shape), "dtype": DTYPE_NAMES[self.dtype]}
        return self.header.identity() | layout | {"journal": JOURNAL_VERSION}

    def _resume(self) -> None:
        """Take over the commits whose line and features are whole."""
        try:
            lines = self.journal_path.read_bytes().split(b"\n")
            partial = self.partial_path.open("rb")
        except OSError:
            return
        with partial:
            first = _parse_line(lines[0])
            if first is None or first.get("identity") != self._identity():
                return
            self._journal_end = len(lines[0]) + 1
            partial.seek(DATA_START)
            for line in lines[1:-1]:  # what follows the last line feed is torn, or nothing
                commit = _parse_line(line)
                if commit is None:
                    return
                raw = partial.read(len(commit["times"]) * self.bytes_per_frame)
                if zlib.crc32(raw) != commit["crc"]:
                    return
                self._journal_end += len(line) + 1
                self._times += commit["times"]
                images = commit["thumbnails"]
                self._thumbnails += [(s, base64.b64decode(image)) for s, image in images]

    def _rewind(self) -> None:
        """Cut both files to what was taken over, or begin them."""
        if not self._times:
            self._file.write(bytes(DATA_START))
            self._write_line({"identity": self._identity()})
            return
        for file, end in (
            (self._file, DATA_START + len(self._times) * self.bytes_per_frame),
            (self._journal, self._journal_end),
        ):
            file.truncate(end)
            file.seek(end)

    def _write_line(self, content: dict[str, Any]) -> None:
        line = json.dumps(content | {"sum": checksum(content)}, separators=(",", ":"))
        self._journal.write(line.encode() + b"\n")
        _sync(self._journal)

    def _require_room(self) -> None:
        if self.num_frames_expected is None:
            return
        needed = self._bytes_to_come(self.num_frames_expected)
        free = shutil.disk_usage(self.path.parent).free
        if needed > free:
            raise self._full(needed, free)

    def _bytes_to_come(self, num_frames: int) -> int:
        """Count what the disk has still to take: the journal stays until the file is whole.

        Thumbnails are written twice, to the journal as text of 4/3 their size.
        """
        left = max(0, num_frames - len(self._times))
        number, size = self.thumbnails_expected
        held = sum(len(image) for _, image in self._thumbnails)
        size_left, number_left = max(0, size - held), max(0, number - len(self._thumbnails))
        journal = left * TIME_TEXT_BYTES + size_left * 4 // 3 + number_left * THUMBNAIL_EXTRA_BYTES
        tail = max(num_frames, len(self._times)) * 8 + max(size, held) + 16 * number
        return left * self.bytes_per_frame + journal + tail + 2 * DATA_START

    def _full(self, needed: int, free: int) -> ResourceError:
        remedy = "name a file on another disk"
        if self._is_resumable:
            remedy = "set HOUR_LLAVA_CACHE to another disk: what is written will be resumed"
        return ResourceError(
            f"{self.path}: the disk is full: {needed:,} bytes are needed, {free:,} are free; "
            f"free some, or {remedy}"
        )

    @contextmanager
    def _disk(self, waiting: int = 0) -> Iterator[None]:
        """Turn what the disk refuses into one clear line."""
        try:
            yield
        except OSError as error:
            if error.errno not in FULL_DISK:
                raise ResourceError(
                    f"{self.path}: cannot be written: {error.strerror}; choose another folder"
                ) from error
            total = max(self.num_frames_expected or 0, len(self._times) + waiting)
            needed = self._bytes_to_come(total)
            raise self._full(needed, shutil.disk_usage(self.path.parent).free) from error


def _parse_line(line: bytes) -> dict[str, Any] | None:
    """Read a journal line; None where it is torn or changed."""
    try:
        content = json.loads(line)
        claimed = content.pop("sum")
        return content if checksum(content) == claimed else None
    except (ValueError, KeyError, AttributeError, TypeError):
        return None


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make a rename durable (folders cannot be synced on every system)."""
    try:
        fd = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(fd)
    except OSError:
        pass
    finally:
        os.close(fd)
