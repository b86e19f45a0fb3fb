"""Part files: the records of one unit in one file, committed whole or not at all.

    stages/<stage>/<fingerprint>/<hh>/<unit>.<inputs>.<content>.jsonl.zst
    stages/<stage>/<fingerprint>/<hh>/<unit>.<inputs>.err.json

`inputs` names what the unit read, `content` what it wrote, so that a listing of names alone says
what is done. A part is written beside its place, synced and renamed: after a `kill -9` or a power
cut it is there whole or missing, and a missing one is made again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import cast
from urllib.parse import quote, unquote

import zstandard

from hour_llava.errors import BuildError, RecordError
from hour_llava.videomarathon.records import Record, from_json, to_json
from hour_llava.videomarathon.stage import FailureClass

_PART, _FAILURE, _TMP = ".jsonl.zst", ".err.json", ".tmp"


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A committed unit: which, from what, with what content."""

    unit: str
    inputs: str
    content: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """A unit that failed for good; `rounds` counts how often `synth retry` gave it a new chance."""

    unit: str
    inputs: str
    failure: FailureClass
    message: str
    rounds: int = 0


@dataclass(frozen=True, kw_only=True)
class Scan:
    """What stands in a stage's folder, by (unit, inputs)."""

    parts: dict[tuple[str, str], Part] = field(default_factory=dict[tuple[str, str], Part])
    failures: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    leftovers: list[Path] = field(default_factory=list[Path])


@dataclass(frozen=True, kw_only=True)
class PartStore:
    """The part files of one stage under one fingerprint."""

    folder: Path
    stage: str
    fingerprint: str

    @classmethod
    def of(cls, build_folder: Path, stage: str, fingerprint: str) -> PartStore:
        """Name the parts of a stage; nothing is touched."""
        place = build_folder / "stages" / stage / fingerprint
        return cls(folder=place, stage=stage, fingerprint=fingerprint)

    def commit(self, unit: str, inputs: str, records: Sequence[Record]) -> Part:
        """Write a unit's records durably; a failure noted earlier goes.

        Raises:
            OSError: the disk is full or may not be written; nothing is left half-written.
        """
        lines = "".join(to_json(record) + "\n" for record in records).encode()
        content = hashlib.sha256(lines).hexdigest()[:12]
        part = Part(unit=unit, inputs=inputs, content=content)
        _write_durably(self._part_path(part), zstandard.ZstdCompressor(level=3).compress(lines))
        self._failure_path(unit, inputs).unlink(missing_ok=True)
        return part

    def commit_failure(self, failure: Failure) -> None:
        """Note that a unit failed, durably."""
        text = json.dumps({"stage": self.stage, **asdict(failure)}, indent=1, ensure_ascii=False)
        _write_durably(self._failure_path(failure.unit, failure.inputs), text.encode() + b"\n")

    def read(self, part: Part) -> list[Record]:
        """Read a unit's records.

        Raises:
            BuildError: the file is gone, damaged or no longer what its name says.
        """
        try:
            return [from_json(line) for line in self._lines(part)]
        except RecordError as error:
            raise self._unreadable(part, error) from error

    def read_ids(self, part: Part) -> list[str]:
        """Read the records' ids alone: ten times as fast.

        Raises:
            BuildError: as `read`.
        """
        try:
            return [json.loads(line)["id"] for line in self._lines(part)]
        except (ValueError, KeyError) as error:
            raise self._unreadable(part, error) from error

    def _lines(self, part: Part) -> list[bytes]:
        try:
            lines = zstandard.ZstdDecompressor().decompress(self._part_path(part).read_bytes())
        except (OSError, zstandard.ZstdError) as error:
            raise self._unreadable(part, error) from error
        if hashlib.sha256(lines).hexdigest()[:12] != part.content:
            raise self._unreadable(part, "not the content that its name says")
        return lines.splitlines()

    def _unreadable(self, part: Part, reason: object) -> BuildError:
        return BuildError(
            f"{self._part_path(part)}: cannot be read ({reason}); delete the file: the next run "
            "makes it again"
        )

    def written_at(self, part: Part) -> tuple[int, str]:
        """Return when a part was written, and its content where two were written at once."""
        try:
            return self._part_path(part).stat().st_mtime_ns, part.content
        except OSError:
            return 0, part.content

    def read_failure(self, unit: str, inputs: str) -> Failure:
        """Read why a unit failed."""
        path = self._failure_path(unit, inputs)
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            return Failure(
                unit=unit,
                inputs=inputs,
                failure=cast(FailureClass, values["failure"]),
                message=str(values["message"]),
                rounds=int(values["rounds"]),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BuildError(f"{path}: cannot be read ({error}); delete the file") from error

    def clear_failure(self, unit: str, inputs: str) -> None:
        """Forget a failure: the next run tries the unit again."""
        self._failure_path(unit, inputs).unlink(missing_ok=True)

    def scan(self) -> Scan:
        """List names only; of several contents of a unit the first counts, always the same.

        Cost: 100,000 parts in about half a second.
        """
        found = Scan()
        for folder in _subfolders(self.folder):
            with os.scandir(folder) as entries:
                names = sorted(entry.name for entry in entries)
            for name in names:
                self._take(found, folder, name)
        return found

    def _take(self, found: Scan, folder: str, name: str) -> None:
        if name.endswith(_PART):
            unit, inputs, content = name.removesuffix(_PART).split(".")
            unit = _unquoted(unit)
            part = Part(unit=unit, inputs=inputs, content=content)
            found.parts.setdefault((unit, inputs), part)
        elif name.endswith(_FAILURE):
            unit, inputs = name.removesuffix(_FAILURE).split(".")
            found.failures.add((_unquoted(unit), inputs))
        elif name.endswith(_TMP):
            found.leftovers.append(Path(folder, name))

    def _part_path(self, part: Part) -> Path:
        return self._place(part.unit, f".{part.inputs}.{part.content}{_PART}")

    def _failure_path(self, unit: str, inputs: str) -> Path:
        return self._place(unit, f".{inputs}{_FAILURE}")

    def _place(self, unit: str, ending: str) -> Path:
        safe = quote(unit, safe="").replace(".", "%2E")
        shard = hashlib.sha256(unit.encode()).hexdigest()[:2]
        return self.folder / shard / (safe + ending)


def _unquoted(name: str) -> str:
    """Undo `quote`; nearly all names hold colons alone, and a hundred thousand take their time."""
    name = name.replace("%3A", ":")
    return unquote(name) if "%" in name else name


def _subfolders(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.path for entry in entries if entry.is_dir())
    except FileNotFoundError:
        return []


def _write_durably(path: Path, data: bytes) -> None:
    """Write beside the place, sync, rename, sync the folder."""
    is_new = not path.parent.is_dir()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}{_TMP}")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)
    if is_new:
        _sync_folder(path.parent.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
