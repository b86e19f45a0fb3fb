"""The node's cache: files of features copied from slow storage to a local disk, read there.

    FOLDER/<key>.safetensors         a whole copy; the key is of the source's path, size and time
    FOLDER/.<key>.safetensors.part   a copy under way, as large as it will be
    FOLDER/.lock-00 ..               who copies; the system frees a lock when its process dies

Each of a video's samples reads the same file: over the network once, from then on here. Any number
of processes may share a folder. The least recently used copies leave when the next would not fit;
files of other names are nobody's copies, and are neither counted nor removed. A cache that cannot
help is none: then the source itself is read.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import filelock

from hour_llava.data.manifest import FEATURES_SUFFIX
from hour_llava.errors import ResourceError

_NUM_LOCKS = 64  # a file's lock is shared with one in 64 others: no lock file is ever removed
_ALL = "all"
_GIGABYTE = 1e9
_KEY, _SUFFIX = "[0-9a-f]{32}", re.escape(FEATURES_SUFFIX)
_OWN = re.compile(rf"(?P<dot>\.)?(?P<key>{_KEY}){_SUFFIX}(?(dot)\.part)")
"""Names that the cache gives: whoever names it a folder with other files keeps those."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class NodeCache:
    """Copies of files in a local folder; nothing of it is held in memory.

    Args:
        folder: On a fast disk of this machine.
        max_bytes: The copies together are never larger.
    """

    folder: Path
    max_bytes: int

    @classmethod
    def open(cls, folder: Path, *, gigabytes: float) -> NodeCache:
        """Make the folder.

        Raises:
            ResourceError: it cannot be written.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / f".lock-{_ALL}").open("a"):
                pass
        except OSError as error:
            raise ResourceError(
                f"the cache {folder} cannot be written: {error.strerror}; give --data.cache a "
                "folder on a local disk, or none"
            ) from error
        return cls(folder=folder, max_bytes=int(gigabytes * _GIGABYTE))

    def local(self, source: str | Path) -> Path:
        """Give a whole local copy of a file, made now if need be; else the file itself.

        A copy may leave the cache before it is opened, where the cache is smaller than what is
        read at a time: read the source then, after `forget`.
        """
        source = Path(source)
        try:
            copy, size = self._copy_of(source)
            if self._is_there(copy, size):
                return copy
            if size > self.max_bytes:
                return source
            with self._locked(copy.stem):
                if not self._is_there(copy, size):  # another process may just have made it
                    self._make(source, copy, size)
            return copy
        except OSError as error:  # the source is missing, the disk is full, ..
            logger.warning("%s is not cached: %s", source, error)
            return source

    def forget(self, source: str | Path) -> None:
        """Remove a copy, because it is damaged."""
        with suppress(OSError):
            self._copy_of(Path(source))[0].unlink()

    def num_bytes(self) -> int:
        """Count what the cache holds, copies under way included."""
        with self._locked(_ALL):  # else what leaves and what comes meanwhile are both counted
            return sum(size for _, size, _ in self._entries())

    def _copy_of(self, source: Path) -> tuple[Path, int]:
        """Name a file's copy; a file that changes gets another one."""
        found = source.stat()
        text = f"{source.resolve()}\n{found.st_size}\n{found.st_mtime_ns}"
        key = hashlib.sha256(text.encode()).hexdigest()[:32]
        return self.folder / f"{key}{FEATURES_SUFFIX}", found.st_size

    def _is_there(self, copy: Path, size: int) -> bool:
        """Find a whole copy, and mark it as used now."""
        try:
            if copy.stat().st_size != size:
                return False
            os.utime(copy)
        except FileNotFoundError:
            return False
        return True

    def _make(self, source: Path, copy: Path, size: int) -> None:
        part = copy.with_name(f".{copy.name}.part")
        try:
            with self._locked(_ALL):
                self._make_room(size, held=_lock_of(copy.stem))
                with part.open("wb") as file:
                    file.truncate(size)  # the others see what it will take
            with source.open("rb") as wanted, part.open("r+b") as file:
                shutil.copyfileobj(wanted, file, 1 << 22)
                if file.tell() != size:
                    raise OSError(f"it changed while it was copied: {file.tell()} of {size} bytes")
                file.flush()
                os.fsync(file.fileno())
            with self._locked(_ALL):  # a listing may miss what is renamed meanwhile
                part.replace(copy)
        except BaseException:
            part.unlink(missing_ok=True)
            raise

    def _make_room(self, size: int, *, held: str) -> None:
        """Remove what died half-made, then the least recently used copies, until `size` fits.

        Args:
            held: the lock under which the next copy is made: no other copy of that lock is.
        """
        entries = list(self._entries())
        for path, part_bytes, _ in entries:
            own = _OWN.fullmatch(path.name)
            if own is None or own["dot"] is None:
                continue
            if _lock_of(own["key"]) == held or self._is_abandoned(own["key"]):
                path.unlink(missing_ok=True)
                entries = [entry for entry in entries if entry[0] != path]
                logger.info("removed %s (%d bytes), half-made", path, part_bytes)
        total = sum(found for _, found, _ in entries)
        free = shutil.disk_usage(self.folder).free
        copies = sorted((used, path, n) for path, n, used in entries if path.suffix != ".part")
        for _, path, num_bytes in copies:
            if total + size <= self.max_bytes and size <= free:
                return
            path.unlink(missing_ok=True)  # whoever reads it keeps it until it is closed
            total, free = total - num_bytes, free + num_bytes
        if total + size > self.max_bytes or size > free:
            raise OSError(f"{size} bytes do not fit beside copies that are under way")

    def _is_abandoned(self, key: str) -> bool:
        """Say whether nobody makes this copy any more."""
        lock = self._lock(key)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            return False
        lock.release()
        return True

    def _entries(self) -> Iterator[tuple[Path, int, float]]:
        """Give path, size and last use of copies, whole or under way; all are locked meanwhile."""
        for entry in os.scandir(self.folder):
            if not _OWN.fullmatch(entry.name) or not entry.is_file(follow_symlinks=False):
                continue
            with suppress(FileNotFoundError):
                found = entry.stat()
                yield Path(entry.path), found.st_size, found.st_mtime

    def _lock(self, key: str) -> filelock.BaseFileLock:
        return filelock.FileLock(self.folder / f".lock-{_lock_of(key)}", is_singleton=False)

    @contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        with self._lock(key):
            yield


def _lock_of(key: str) -> str:
    """Name the lock under which a copy is made; some keys share one."""
    return key if key == _ALL else f"{int(key, 16) % _NUM_LOCKS:02d}"
