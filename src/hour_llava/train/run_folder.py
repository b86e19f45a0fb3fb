"""The folder of a run: one run at a time, and a start that fails leaves it as it was found.

OUT/.lock, .lock.holder    who is at work; what a killed run held is free again
"""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from hour_llava.errors import ConfigError
from hour_llava.train.distributed import rank
from hour_llava.train.signals import ending
from hour_llava.train.watching.log import LOG

CONFIG = "config.json"
_LOCK, _HOLDER = ".lock", ".lock.holder"
_OF_A_START = (_LOCK, _HOLDER, "material", ".material.lock", CONFIG, f".{CONFIG}.part")
"""All that stands in a folder before its log; anything else is not ours to remove."""
_SECONDS_TO_LEAVE = 10  # data workers of a killed run live on for some


@contextmanager
def own_folder(out: Path) -> Iterator[None]:
    """Keep other runs out of a folder, made if need be; the first rank does.

    What fails before the log was begun was no run: what it made is removed.

    Raises:
        ConfigError: It cannot be a folder, or is a model's; another run is at work there, which is
            named.
    """
    if rank() > 0:
        yield
        return
    lock, holder = FileLock(out / _LOCK), out / _HOLDER
    _require_no_model(out)
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    is_new = not (out / _LOCK).exists()
    _make(out)
    try:
        lock.acquire(timeout=_SECONDS_TO_LEAVE)
    except Timeout as error:
        who = holder.read_text(encoding="utf-8") if holder.is_file() else "not known"
        raise ConfigError(
            f"another run is at work in {out} ({who}): wait for it, end it, or name another --out"
        ) from error
    try:
        new = [name for name in _OF_A_START if not (out / name).exists()]
        new += [_LOCK, _HOLDER] if is_new else []
        holder.write_text(f"{socket.gethostname()}, process {os.getpid()}", encoding="utf-8")
        with ending(), _left_as_found(out, new):
            yield
    finally:
        lock.release()
        for folder in made:  # those that are empty again
            with suppress(OSError):
                folder.rmdir()


@contextmanager
def _left_as_found(out: Path, new: Sequence[str]) -> Iterator[None]:
    """Remove what is new, and put the settings back, where the log was not begun."""
    log, config = out / LOG, out / CONFIG
    begun = _state(log)
    settings = config.read_bytes() if config.is_file() else None
    try:
        yield
    except BaseException:
        if _state(log) == begun:
            for path in (out / name for name in new):
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
            if settings is not None:
                config.write_bytes(settings)
        raise


def _require_no_model(out: Path) -> None:
    """Refuse a folder whose config.json is not a run's: the run's would take its place."""
    try:
        found = json.loads((out / CONFIG).read_bytes())
    except (FileNotFoundError, NotADirectoryError):  # the latter is told below
        return
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict) or "run" not in found:
        raise ConfigError(
            f"--out {out}: its {CONFIG} is not a run's but, it seems, a model's, and would be "
            "replaced: name another folder"
        )


def _make(out: Path) -> None:
    for path in (out, *out.parents):
        if path.is_symlink() and not path.exists():
            raise ConfigError(
                f"--out {out}: {path} is a link to {path.readlink()}, which is not there; make "
                "that folder, or name another"
            )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(
            f"--out {out} cannot be made a folder ({reason}); name another"
        ) from error


def _state(log: Path) -> tuple[int, int] | None:
    """Say what would change with a file's first new line."""
    if not log.is_file():
        return None
    stat = log.stat()
    return stat.st_size, stat.st_mtime_ns
