"""Where memories are kept between questions and processes, and who may write them.

A memory is found again by what it depends on: the bytes of the video stream, the sampling, and the
vision tower. A renamed video hits, a changed one with the same name misses.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import filelock
import platformdirs

from hour_llava.errors import ResourceError
from hour_llava.schema import Sampling

KEY_VERSION = 1
_SECONDS_BEFORE_SAYING_SO = 1.0


def cache_folder() -> Path:
    """Return the folder of remembered videos: HOUR_LLAVA_CACHE, or the platform's user cache."""
    chosen = os.environ.get("HOUR_LLAVA_CACHE")
    root = Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("hour-llava")
    return root / "memories"


def memory_key(*, content_digest: str, sampling: Sampling, tower_digest: str) -> str:
    """Return the name of a memory: a digest of the digests of all that it depends on."""
    parts = {
        "version": KEY_VERSION,
        "content": content_digest,
        "sampling": asdict(sampling),
        "tower": tower_digest,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def prepare_folder(folder: Path) -> None:
    """Make a folder for memories.

    Raises:
        ResourceError: it cannot be made or written; the message names it and HOUR_LLAVA_CACHE.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError(
            f"cannot make the cache folder {folder}: {error.strerror}; "
            "set HOUR_LLAVA_CACHE to a folder that can be written, or add --no-cache"
        ) from error


def is_there(file: Path) -> bool:
    """Say whether the cache holds a memory.

    Raises:
        ResourceError: its folder may not be searched.
    """
    try:
        return file.exists()
    except OSError as error:
        raise ResourceError(
            f"cannot read the cache folder {file.parent}: {error.strerror}; "
            "set HOUR_LLAVA_CACHE to a folder of yours, or add --no-cache"
        ) from error


@contextmanager
def only_one_process(path: Path, *, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold the lock of one memory; the system frees it when a process dies, however it dies.

    Args:
        path: the memory file; the lock stands beside it.
        on_wait: called once when another process holds the lock.
    """
    lock = filelock.FileLock(f"{path}.lock")
    try:
        lock.acquire(timeout=_SECONDS_BEFORE_SAYING_SO)
    except filelock.Timeout:
        on_wait()
        lock.acquire()
    except OSError as error:
        raise ResourceError(
            f"cannot write in the cache folder {path.parent}: {error.strerror}; "
            "set HOUR_LLAVA_CACHE to a folder that can be written, or add --no-cache"
        ) from error
    try:
        yield
    finally:
        lock.release()


def is_memory_file(path: str | Path) -> bool:
    """Say whether a name is that of a memory file; a URL never is."""
    return Path(path).suffix.lower() == ".hlm" and "://" not in str(path)
