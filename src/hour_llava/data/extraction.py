"""Videos to files of features: resumed where it stopped, a share a process, broken videos listed.

Letters: F frames, P tokens a frame, D feature size.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from hour_llava.data.faults import damage_fault
from hour_llava.data.features import (
    CutFeaturesError,
    FeaturesFile,
    FeaturesHeader,
    Storage,
    open_features,
    write_features,
)
from hour_llava.data.manifest import Manifest, features_path, is_file
from hour_llava.errors import DataError, VideoError

VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".mov", ".avi", ".m4v", ".ts")


class Encoder(Protocol):
    """Turns RGB frames of one size into features (n, P, D)."""

    @property
    def batch_frames(self) -> int: ...
    def encode_frames(self, frames: Sequence[np.ndarray]) -> Tensor: ...


@dataclass(frozen=True, kw_only=True)
class Job:
    """A video, and where its features go."""

    video: Path
    target: Path


@dataclass(kw_only=True)
class Extracted:
    """What was done; of a broken video, or of a row that is no sample, its name and why."""

    num_done: int = 0
    num_there: int = 0
    num_frames: int = 0
    num_bytes: int = 0
    broken: list[tuple[str, str]] = field(default_factory=list)
    bad_rows: list[tuple[str, str]] = field(default_factory=list)


def jobs_of_manifest(manifest: Manifest, out: Path) -> tuple[list[Job], list[tuple[str, str]]]:
    """List the videos that a manifest names, each once, and the rows that are no samples.

    Such a row stops nothing, for it stops no training: there another one takes its place.

    Returns:
        The jobs; of each such row its place, and why.
    """
    jobs: dict[str, Job] = {}
    bad_rows: list[tuple[str, str]] = []
    for index in range(len(manifest)):
        try:
            sample = manifest.raw(index)
            video = sample.video if sample.features is None else None
            if video is not None and video not in jobs:
                jobs[video] = Job(video=manifest.root / video, target=features_path(out, video))
        except DataError as error:
            where = manifest.where(index)
            bad_rows.append((where, " ".join(str(error).removeprefix(f"{where}: ").split())))
    return _distinct(list(jobs.values())), bad_rows


def jobs_of_folder(folder: Path, out: Path) -> list[Job]:
    """List the videos in a folder and below, by their suffixes."""
    videos = [f for f in sorted(folder.rglob("*")) if f.suffix.lower() in VIDEO_SUFFIXES]
    return _distinct(
        [Job(video=v, target=features_path(out, str(v.relative_to(folder)))) for v in videos]
    )


def _distinct(jobs: list[Job]) -> list[Job]:
    """Refuse two videos whose features would be one file."""
    seen: dict[Path, Path] = {}
    for job in jobs:
        other = seen.setdefault(job.target, job.video)
        if other != job.video:
            raise DataError(
                f"{job.video} and {other} would both be {job.target}: give the videos one root"
            )
    return sorted(jobs, key=lambda job: str(job.target))


def extract(
    jobs: Iterable[Job],
    encoder: Encoder,
    *,
    tower: str,
    broken_list: Path,
    fps: float = 1.0,
    storage: Storage = "bf16",
    overwrite: bool = False,
    bad_rows: Sequence[tuple[str, str]] = (),
    on_frames: Callable[[int, int], None] = lambda done, total: None,
) -> Extracted:
    """Extract the features of videos, one file each.

    Args:
        jobs: The videos of this process.
        encoder: Its model's.
        tower: `features.tower_digest` of its model.
        broken_list: A JSONL that names what could not be read: `bad_rows`, then videos; absent if
            there is nothing.
        fps: Frames a second.
        storage: How features are kept.
        overwrite: Make those anew that are there from another video, tower or rate.
        bad_rows: Of `jobs_of_manifest`, this process's share.
        on_frames: Told how many frames of the current video are done, of how many.

    Raises:
        DataError: features of another video or tower are there, or a file that cannot be read or is
            none of ours, and `overwrite` is not set.
    """
    done = Extracted(bad_rows=list(bad_rows))
    broken_list.unlink(missing_ok=True)
    for where, reason in bad_rows:
        _append(broken_list, {"row": where, "error": reason})
    for job in jobs:
        if _is_there(job, tower=tower, fps=fps, storage=storage, overwrite=overwrite):
            done.num_there += 1
            continue
        try:
            done.num_frames += _extract_one(job, encoder, tower, fps, storage, on_frames)
        except (VideoError, DataError) as error:
            done.broken.append((str(job.video), " ".join(str(error).split())))
            _append(broken_list, {"video": str(job.video), "error": done.broken[-1][1]})
            continue
        done.num_done += 1
        done.num_bytes += job.target.stat().st_size
    return done


def _is_there(job: Job, *, tower: str, fps: float, storage: Storage, overwrite: bool) -> bool:
    if not job.target.is_file():
        return False
    try:
        found = open_features(job.target)
    except CutFeaturesError:
        return False
    except DataError as error:
        if overwrite:
            return False
        raise DataError(f"{error}; or replace it with --overwrite") from error
    same = (found.header.tower_digest, found.header.fps, found.storage) == (tower, fps, storage)
    if not same and not overwrite:
        raise DataError(
            f"{job.target} is there from tower {found.header.tower_digest} at {found.header.fps:g} "
            f"frames a second in {found.storage}, asked are {tower}, {fps:g} and {storage}: name "
            "another --out, or replace it with --overwrite"
        )
    return same and _is_of(job, found, overwrite=overwrite)


def _is_of(job: Job, found: FeaturesFile, *, overwrite: bool) -> bool:
    """Say whether features are of a job's video.

    Raises:
        DataError: they are of another one, and `overwrite` is not set.
    """
    try:
        content = other_content(job.video, found)
    except VideoError:  # extracting it tells why
        return False
    if content and not overwrite:
        raise DataError(
            f"{job.target} is there from {found.header.video} with the content "
            f"{found.header.content_digest:.12}, {job.video} has {content:.12}: give the videos "
            "one root, name another --out, or replace it with --overwrite"
        )
    return not content


def other_content(video: Path, found: FeaturesFile) -> str:
    """Name a video's content where features are of another one; nothing where they are its own.

    The video is read (a few CPU seconds an hour of it) only where paths and dates leave a doubt.

    Raises:
        VideoError: it cannot be read.
    """
    from hour_llava.video import probe

    made_of = found.header.content_digest
    if not made_of or _is_untouched(video, found):
        return ""
    content = probe(video).content_digest
    return "" if content == made_of else content


def taken_fault(video: str | None, found: FeaturesFile) -> str:
    """Say that features are of another video which is still at its own path; else nothing.

    Two manifests may call two videos by one path. Where the video that the features name is gone,
    it was moved, and nothing is read: this is asked of every sample that is trained on. Nor is
    anything where both have as many bytes.
    """
    made_of = found.header.video
    if video is None or not made_of or video == made_of:
        return ""
    own, other = Path(video), Path(made_of)
    if not (is_file(own) and is_file(other)):
        return ""
    if own.stat().st_size == other.stat().st_size:  # itself, or a copy
        return ""
    try:
        is_other = bool(other_content(own, found))
    except (VideoError, ImportError):  # broken, or no decoder here: its features are there
        return ""
    return f"{found.path} is of {made_of}, not of {video}" if is_other else ""


def _is_untouched(video: Path, found: FeaturesFile) -> bool:
    """Say whether a video is the file that was read, and has not been touched since.

    One that has been deleted, to save room, has left its features behind.
    """
    if str(video.resolve()) != found.header.video:
        return False
    try:
        state = video.stat()
    except OSError:
        return True
    return max(state.st_mtime_ns, state.st_ctime_ns) < found.path.stat().st_mtime_ns


def _extract_one(
    job: Job,
    encoder: Encoder,
    tower: str,
    fps: float,
    storage: Storage,
    on_frames: Callable[[int, int], None],
) -> int:
    from hour_llava.video import read_frames

    parts: list[Tensor] = []
    times: list[float] = []
    with read_frames(job.video, fps=fps) as reader:
        frames = iter(reader)
        on_frames(0, reader.num_frames)
        while batch := list(islice(frames, encoder.batch_frames)):
            parts.append(encoder.encode_frames([frame.rgb for frame in batch]))
            times += [frame.pts_seconds for frame in batch]
            on_frames(len(times), reader.num_frames)
        header = FeaturesHeader(
            tower_digest=tower,
            duration_seconds=reader.info.duration_seconds,
            fps=fps,
            video=str(job.video.resolve()),
            content_digest=reader.info.content_digest,
        )
        fault = damage_fault(str(job.video), reader.damage, reader.info.duration_seconds)
    if fault:
        raise DataError(fault)
    features = torch.cat(parts) if parts else torch.empty(0, 1, 1)
    seconds = torch.tensor(times, dtype=torch.float64)
    write_features(job.target, features, seconds, header, storage=storage)
    return len(times)


def _append(path: Path, row: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")


def share(jobs: Sequence[Job], number: int, count: int) -> Iterator[Job]:
    """Give the jobs of process `number` of `count`: every one belongs to one process."""
    return iter(jobs[number::count])
