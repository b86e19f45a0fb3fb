"""What is done and what is to do, worked out from the names of part files; nothing is kept twice.

A unit is done when a part stands under the stage's present fingerprint whose `inputs` are the
present contents of what it reads. So an edited prompt, a replaced video or a retried caption
repeats exactly the units that depend on it, and equal results stop the repetition there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hour_llava.errors import BuildError
from hour_llava.tasks import TOPICS
from hour_llava.videomarathon.parts import Failure, Part, PartStore, Scan
from hour_llava.videomarathon.pipeline import MAY_SET_ASIDE
from hour_llava.videomarathon.records import Record, SetAside, Video, digest
from hour_llava.videomarathon.stage import Stage

if TYPE_CHECKING:
    from hour_llava.videomarathon.build import Build

VIDEO_SUFFIXES: frozenset[str] = frozenset(
    f".{ending}"
    for ending in (
        *("3gp", "avi", "flv", "m2ts", "m4v", "mkv", "mov", "mp4"),
        *("mpeg", "mpg", "mts", "ogv", "ts", "vob", "webm", "wmv"),
    )
)
MAX_MISSING_CLIPS = 0.1
"""A video goes on without quarantined captions up to this share of its clips."""

Reads = tuple[tuple[str, Part], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """One unit: its id, the digest of what it reads, and the parts that it reads, by stage.

    `file` is given at ingest only: path, truth and backend.
    """

    unit: str
    inputs: str
    reads: Reads = ()
    video_id: str | None = None
    file: tuple[tuple[str, str | None], ...] = ()


@dataclass(kw_only=True)
class StageState:
    """A stage's units: all that can be known now, those done, failed, and videos held up."""

    stage: Stage
    store: PartStore
    work: list[Work]
    scan: Scan
    num_blocked: int = 0
    parts: dict[str, Part] = field(default_factory=dict[str, Part])
    failures: dict[str, Failure] = field(default_factory=dict[str, Failure])

    def __post_init__(self) -> None:
        for one in self.work:
            key = (one.unit, one.inputs)
            if key in self.scan.parts:
                self.parts[one.unit] = self.scan.parts[key]
            elif key in self.scan.failures:
                self.failures[one.unit] = self.store.read_failure(one.unit, one.inputs)

    def note(self, outcome: Part | Failure) -> None:
        """Take in what a unit came to just now."""
        if isinstance(outcome, Part):
            self.parts[outcome.unit] = outcome
            self.failures.pop(outcome.unit, None)
        else:
            self.failures[outcome.unit] = outcome

    def todo(self) -> list[Work]:
        """List units that are neither done nor quarantined; a transient failure is tried anew."""
        return [
            w for w in self.work if w.unit not in self.parts and not self.is_quarantined(w.unit)
        ]

    def quarantined(self) -> list[str]:
        """Name units whose failure is for good: their content or their input."""
        return [unit for unit in self.failures if self.is_quarantined(unit)]

    def is_quarantined(self, unit: str) -> bool:
        """Say whether only `synth retry` gives a unit another chance."""
        failure = self.failures.get(unit)
        return failure is not None and failure.failure in ("content", "input")


class NoVideosError(BuildError):
    """The source folder is away or holds no video."""


class State:
    """The state of a build, stage by stage, each worked out once.

    `source_fault` says that the source folder is away, where what ingest found there in earlier
    runs stands in for it: a finished build can be looked at without its videos.
    """

    def __init__(self, build: Build) -> None:
        self.build = build
        self._known: dict[str, StageState] = {}
        self._videos: dict[str, tuple[Video, Part]] | None = None
        self._duplicates: list[SetAside] = []
        self._clips: dict[str, list[str]] = {}
        self._set_aside: dict[str, set[str]] = {}
        self.source_fault = ""

    def of(self, name: str) -> StageState:
        """Work out a stage from what stands before it."""
        if name not in self._known:
            stage = self.build.stage(name)
            store = self.build.store(name)
            work, num_blocked = self._work(stage)
            self._known[name] = StageState(
                stage=stage, store=store, work=work, scan=store.scan(), num_blocked=num_blocked
            )
        return self._known[name]

    def knows(self, name: str) -> bool:
        """Say whether a stage was worked out."""
        return name in self._known

    def rows(self, name: str) -> Iterator[Record]:
        """Read a stage's rows, sorted by unit; see `Build.rows`."""
        state = self.of(name)
        if name == "ingest":
            self.videos()
            aside = {one.path: one for one in self._duplicates}
            for unit in sorted(state.parts):
                for record in state.store.read(state.parts[unit]):
                    yield aside.get(record.path, record) if isinstance(record, Video) else record
            return
        for unit in sorted(state.parts):
            yield from state.store.read(state.parts[unit])

    def videos(self) -> dict[str, tuple[Video, Part]]:
        """Return the videos that ingest let in, by id, in order of their paths."""
        if self._videos is None:
            ingest = self.of("ingest")
            found: list[tuple[Video, Part]] = []
            for part in ingest.parts.values():
                found += [(r, part) for r in ingest.store.read(part) if isinstance(r, Video)]
            self._videos, self._duplicates = _without_duplicates(found)
        return self._videos

    def alive(self, name: str) -> dict[str, tuple[Video, Part]]:
        """Return the videos that no stage before `name` has set aside."""
        gone: set[str] = set()
        for stage in self.build.stages:
            if stage.name == name:
                break
            if stage.name in MAY_SET_ASIDE and stage.unit == "video":
                gone |= self._set_aside_by(stage.name)
        return {key: value for key, value in self.videos().items() if key not in gone}

    def _set_aside_by(self, name: str) -> set[str]:
        if name not in self._set_aside:
            state = self.of(name)
            self._set_aside[name] = {
                unit
                for unit, part in state.parts.items()
                if any(isinstance(record, SetAside) for record in state.store.read(part))
            }
        return self._set_aside[name]

    def clips(self, video_id: str) -> list[str]:
        """Return the ids of a video's clips; none where they are not laid yet."""
        if video_id not in self._clips:
            state = self.of("clips")
            part = state.parts.get(video_id)
            if part is None:
                return []
            self._clips[video_id] = state.store.read_ids(part)
        return self._clips[video_id]

    def _work(self, stage: Stage) -> tuple[list[Work], int]:
        if stage.unit == "file":
            return self._file_work(), 0
        if stage.unit == "build":
            return self._build_work(stage)
        work: list[Work] = []
        num_blocked = 0
        for video_id, (_, ingest) in self.alive(stage.name).items():
            found = self._video_work(stage, video_id, ingest)
            work += found or []
            num_blocked += found is None
        return work, num_blocked

    def _file_work(self) -> list[Work]:
        settings = self.build.settings
        try:
            files = list(list_files(self.build.source, without=self.build.folder))
        except NoVideosError as fault:
            known = self._known_files()
            if not known:
                raise
            self.source_fault = str(fault)
            return known
        work: list[Work] = []
        for file, path, truth in files:
            backend = _backend(settings.backend, truth, settings.has_endpoint)
            facts = {"path": path, "truth": truth and os.fspath(truth), "backend": backend}
            name = os.fsencode(path)
            inputs = digest(name, _stamp(file), _stamp(truth) if truth else "", backend)[:12]
            work.append(Work(unit=digest(name), inputs=inputs, file=tuple(facts.items())))
        return work

    def _known_files(self) -> list[Work]:
        """Return the files that ingest has seen; of one that changed, as it was seen last."""
        store = self.build.store("ingest")
        newest: dict[str, Part] = {}
        for part in sorted(store.scan().parts.values(), key=store.written_at):
            newest[part.unit] = part
        return [Work(unit=part.unit, inputs=part.inputs) for part in newest.values()]

    def _build_work(self, stage: Stage) -> tuple[list[Work], int]:
        reads: list[tuple[str, Part]] = []
        num_blocked = 0
        for need in stage.needs:
            state = self.of(need)
            num_blocked += state.num_blocked + len(state.todo())
            reads += [(need, state.parts[unit]) for unit in sorted(state.parts)]
        if not reads:
            return [], num_blocked
        return [Work(unit="all", inputs=_inputs(reads), reads=tuple(reads))], num_blocked

    def _video_work(self, stage: Stage, video_id: str, ingest: Part) -> list[Work] | None:
        reads: list[tuple[str, Part]] = []
        for need in stage.needs:
            found = [ingest] if need == "ingest" else self._parts_of(need, video_id)
            if found is None:
                return None
            reads += [(need, part) for part in found]
        if stage.unit == "clip":
            # A clip's id says all of it: what else it reads is its video.
            units, inputs = self.clips(video_id), digest(ingest.content)[:12]
        else:
            units = [video_id] if stage.unit == "video" else topic_units(video_id)
            inputs = _inputs(reads)
        all_reads = tuple(reads)
        return [
            Work(unit=unit, inputs=inputs, reads=all_reads, video_id=video_id) for unit in units
        ]

    def _parts_of(self, need: str, video_id: str) -> list[Part] | None:
        """Return a stage's parts of a video, or None while it cannot go on."""
        state = self.of(need)
        if state.stage.unit == "video":
            part = state.parts.get(video_id)
            return None if part is None else [part]
        if state.stage.unit == "clip":
            units = self.clips(video_id)
            allowed = int(len(units) * MAX_MISSING_CLIPS)
        else:
            units = topic_units(video_id)
            allowed = len(units) - 1
        found = [state.parts[unit] for unit in units if unit in state.parts]
        missing = [unit for unit in units if unit not in state.parts]
        if len(missing) > allowed or not all(map(state.is_quarantined, missing)):
            return None
        return found


def topic_units(video_id: str) -> list[str]:
    """Name the twelve units of a video's questions: topic and format."""
    return [f"{video_id}:{topic.lower()}:{form}" for topic in TOPICS for form in ("oe", "mc")]


def list_files(source: Path, *, without: Path) -> Iterator[tuple[Path, str, Path | None]]:
    """List (file, path relative to the source folder, truth file or None), sorted by path.

    Raises:
        NoVideosError: the source is no folder or holds no video file.
        BuildError: it cannot be read.
    """
    if not source.is_dir():
        raise NoVideosError(f"{source}: no folder of videos; correct `source` in build.toml")
    found: list[Path] = []
    for folder, folders, names in os.walk(source, onerror=_refuse):
        place = Path(folder)
        folders[:] = sorted(f for f in folders if not f.startswith(".") and place / f != without)
        found += [
            place / name
            for name in names
            if not name.startswith(".") and Path(name).suffix.lower() in VIDEO_SUFFIXES
        ]
    if not found:
        raise NoVideosError(
            f"{source}: holds no video (looked for {', '.join(sorted(VIDEO_SUFFIXES))}); correct "
            "`source` in build.toml"
        )
    for file in sorted(found, key=lambda one: one.relative_to(source).as_posix()):
        yield file, file.relative_to(source).as_posix(), _truth_beside(file)


def _refuse(error: OSError) -> None:
    raise BuildError(f"{error.filename}: cannot be read ({error.strerror}); let it be read")


def _truth_beside(file: Path) -> Path | None:
    beside = file.with_name(f"{file.stem}.truth.json")
    if beside.is_file():
        return beside
    world = file.with_name("truth.json")
    return world if file.name == "video.mp4" and world.is_file() else None


def _backend(choice: str, truth: Path | None, has_endpoint: bool) -> str:
    if choice == "auto":
        return "truth" if truth else "endpoint" if has_endpoint else "embedded"
    if choice == "truth" and truth is None:
        return "endpoint" if has_endpoint else "embedded"
    return choice


def _stamp(file: Path) -> str:
    try:
        stat = file.stat()
    except OSError as error:
        return f"unreadable {error.errno}"
    return f"{stat.st_size} {stat.st_mtime_ns}"


def _inputs(reads: Sequence[tuple[str, Part]]) -> str:
    return digest(*(f"{stage} {part.unit} {part.content}" for stage, part in reads))[:12]


def _without_duplicates(
    found: Sequence[tuple[Video, Part]],
) -> tuple[dict[str, tuple[Video, Part]], list[SetAside]]:
    kept: dict[str, tuple[Video, Part]] = {}
    aside: list[SetAside] = []
    # a copy with a truth file comes first; then the path decides
    for video, part in sorted(found, key=lambda one: (one[0].truth_path is None, one[0].path)):
        first = kept.setdefault(video.id, (video, part))[0]
        if first.path != video.path:
            aside.append(
                SetAside(
                    stage="ingest",
                    path=video.path,  # and no video_id: the content's id is the kept one's
                    reason="duplicate",
                    detail=f"the same video as {first.path}, which is kept",
                )
            )
    return kept, aside


def file_facts(work: Work) -> Mapping[str, str | None]:
    """Return path, truth and backend of a file's unit."""
    return dict(work.file)
