"""log.jsonl: one JSON object a line, one line a step, whatever was killed in between."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from hour_llava.errors import ResourceError
from hour_llava.train.watching.lines import Line
from hour_llava.train.watching.terminal import say

LOG = "log.jsonl"


class JsonlLog:
    """Writes lines to a file, each in one go; a resumed run first cuts what came after its step.

    Args:
        path: of the file; made with its folder where missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO | None = None

    def begin(self, run: Line) -> None:
        """Cut the file to the run's step, say which steps before it are missing, and open it.

        Raises:
            ResourceError: it cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            kept: set[int] = set()
            if self.path.is_file():
                kept = _cut(self.path, int(run["step"]))
            _tell_of_gaps(self.path, kept, int(run["step"]))
            self._file = self.path.open("ab", buffering=0)
        except OSError as error:
            raise _as_resource_error(self.path, error) from error
        self.take(run)

    def take(self, line: Line) -> None:
        """Append a line.

        Raises:
            ResourceError: the disk is full.
        """
        assert self._file is not None, "a log is begun before it takes lines"
        text = json.dumps({name: _plain(value) for name, value in line.items()})
        data = text.encode() + b"\n"
        try:
            written = self._file.write(data)
            if written != len(data):
                raise OSError(28, "No space left on device")
        except OSError as error:
            raise _as_resource_error(self.path, error) from error

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None


def read_log(path: Path) -> Iterator[dict[str, Any]]:
    """Read the lines of a log; a torn last one, of a killed run, is left out."""
    with path.open("rb") as file:
        for raw in file:
            line = _parsed(raw)
            if line is not None:
                yield line


def _cut(path: Path, step: int) -> set[int]:
    """Keep the lines up to a step, and name their steps; the file is replaced whole, or not."""
    kept: set[int] = set()
    partial = path.with_name(path.name + ".partial")
    with path.open("rb") as old, partial.open("wb") as new:
        for raw in old:
            line = _parsed(raw)
            if line is not None and line.get("step", 0) <= step and line.get("kind") != "end":
                new.write(raw)
                if line.get("kind") == "step":
                    kept.add(line["step"])
        new.flush()
        os.fsync(new.fileno())
    partial.replace(path)
    return kept


def _tell_of_gaps(path: Path, kept: set[int], step: int) -> None:
    """Say in a line which steps before a checkpoint a log lacks: cut, or not taken along."""
    missing = [number for number in range(1, step + 1) if number not in kept]
    if missing:
        say(
            f"{path} lacks {len(missing):,} of the {step:,} steps before the "
            f"checkpoint, the first is step {missing[0]:,}; the run goes on, its curves have a gap"
        )


def _parsed(raw: bytes) -> dict[str, Any] | None:
    if not raw.endswith(b"\n"):
        return None
    try:
        line = json.loads(raw)
    except ValueError:
        return None
    return line if isinstance(line, dict) else None


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinity: their names stand for them."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _as_resource_error(path: Path, error: OSError) -> ResourceError:
    return ResourceError(
        f"the log {path} cannot be written ({error.strerror or error}); make room and go on with "
        "--resume: nothing before the last checkpoint is lost"
    )
