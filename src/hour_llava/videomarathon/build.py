"""A build folder: its settings, its rows, and the lock that only one run may hold.

build.toml                             the settings
prompts/<name>-<sha>.txt               what was asked, kept
calls/<writer>.sqlite                  every reply of a model, stored before it is read
stages/<stage>/<fingerprint>/...       the rows (parts.py)
cache/                                 pictures on their way to a captioner; may be deleted
release/<name>/                        what is handed on
"""

from __future__ import annotations

import os
import socket
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from hour_llava.errors import BuildError
from hour_llava.videomarathon import prompts
from hour_llava.videomarathon.parts import PartStore
from hour_llava.videomarathon.pipeline import fingerprint, pipeline
from hour_llava.videomarathon.records import Record
from hour_llava.videomarathon.settings import FILE, BuildSettings, parse_settings, read_settings
from hour_llava.videomarathon.stage import Stage


@dataclass(frozen=True, kw_only=True)
class Build:
    """An opened build; reading it needs no lock."""

    folder: Path
    settings: BuildSettings
    stages: tuple[Stage, ...]

    @classmethod
    def open(cls, folder: str | Path, *, stages: Sequence[Stage] | None = None) -> Build:
        """Read the settings of a build folder.

        Args:
            folder: Made by `create`.
            stages: Others than the pipeline's, for tests.

        Raises:
            BuildError: no build is there, or its settings are wrong.
        """
        place = Path(folder).absolute()
        try:
            is_other = place.exists() and not place.is_dir()
        except OSError as error:
            raise BuildError(f"{folder}: cannot be read ({error.strerror}); repair it") from error
        if is_other:
            raise BuildError(f"{folder}: a file, not a build folder; choose another path")
        chosen = pipeline() if stages is None else tuple(stages)
        return cls(folder=place, settings=read_settings(place), stages=chosen)

    @classmethod
    def create(cls, folder: str | Path, toml: str) -> Build:
        """Make a build folder with this build.toml.

        Raises:
            BuildError: a build is there already, the settings are wrong, or nothing can be written.
        """
        import tomllib

        place = Path(folder).absolute()
        parse_settings(tomllib.loads(toml), place=FILE)
        if (place / FILE).exists():
            raise BuildError(f"{folder}: a build is there already; edit {place / FILE} or run it")
        try:
            place.mkdir(parents=True, exist_ok=True)
            (place / FILE).write_text(toml, encoding="utf-8")
        except OSError as error:
            raise BuildError(f"{folder}: cannot be written ({error}); choose another") from error
        return cls.open(place)

    @property
    def source(self) -> Path:
        """Return the folder of videos."""
        return (self.folder / Path(self.settings.source).expanduser()).absolute()

    def stage(self, name: str) -> Stage:
        """Find a stage by its name."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        names = ", ".join(stage.name for stage in self.stages)
        raise BuildError(f"no stage {name!r}; they are {names}")

    def store(self, name: str) -> PartStore:
        """Return the parts of a stage under its present fingerprint."""
        digest = fingerprint(self.stage(name), self.settings)
        return PartStore.of(self.folder, name, digest)

    def rows(self, stage: str) -> Iterator[Record]:
        """Read all current rows of a stage, sorted by unit.

        Of exact duplicates one is a Video (one with truth, else the first by path), the others
        are SetAside.
        """
        from hour_llava.videomarathon.state import State

        yield from State(self).rows(stage)

    @contextmanager
    def lock(self) -> Generator[None]:
        """Hold the folder for one run; a crashed run's lock is free at once.

        Raises:
            BuildError: another run holds it (names its pid), or the folder cannot be written.
        """
        owner = self.folder / "run.pid"
        lock = FileLock(self.folder / "run.lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise BuildError(
                f"{self.folder}: another run works here ({_read_owner(owner)}); wait for it or "
                "stop it, then run again"
            ) from None
        except OSError as error:
            raise BuildError(
                f"{self.folder}: cannot be written ({error.strerror or error}); a run needs a "
                "folder of its own that it may write"
            ) from error
        try:
            _note_owner(owner)
            yield
        finally:
            with suppress(OSError):
                owner.unlink(missing_ok=True)
            lock.release()

    def keep_prompts(self) -> None:
        """Copy the prompts that the stages use into the build, by digest."""
        place = self.folder / "prompts"
        place.mkdir(exist_ok=True)
        for stage in self.stages:
            for name in stage.prompts:
                prompt = prompts.load(name)
                (place / f"{name}-{prompt.sha}.txt").write_text(prompt.text, encoding="utf-8")


def _note_owner(file: Path) -> None:
    try:
        file.write_text(f"pid {os.getpid()} on {socket.gethostname()}\n")
    except OSError as error:
        raise BuildError(
            f"{file}: cannot be written ({error.strerror or error}); a run needs a folder of its "
            "own that it may write and a disk with room"
        ) from error


def _read_owner(file: Path) -> str:
    try:
        return file.read_text().strip() or "it has only just begun"
    except OSError:
        return "it has only just begun"
