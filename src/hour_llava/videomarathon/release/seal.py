"""Sealing: a build's accepted rows become one release of training data and one demonstration.

    <name>                 rows of the backends truth and endpoint
    <name>-demonstration   rows of embedded and mock, called a demonstration in every file

A release is written beside its place and moved there whole. It holds no clock value, no latency and
no path of this machine: equal rows give equal bytes, whoever ran the build. One that already stands
for the same rows is left alone.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hour_llava.errors import BuildError
from hour_llava.videomarathon.records import Record, to_json
from hour_llava.videomarathon.release.card import CardFacts, write_card, write_table_1
from hour_llava.videomarathon.release.chapters import make_chapters
from hour_llava.videomarathon.release.content import (
    DEMONSTRATION_NOTE,
    KINDS,
    LAST_ROW_STAGE,
    BuildRows,
    Content,
    Kind,
    VideoContent,
    read_content,
)
from hour_llava.videomarathon.release.llava import make_samples, write_samples
from hour_llava.videomarathon.release.manifest import NAME as MANIFEST
from hour_llava.videomarathon.release.manifest import write_manifest
from hour_llava.videomarathon.release.media import LeftOut, copy_videos
from hour_llava.videomarathon.release.parquet import write_tables
from hour_llava.videomarathon.release.plots import draw_plots
from hour_llava.videomarathon.release.splits import SPLITS, split_of
from hour_llava.videomarathon.release.webvtt import write_chapters, write_clips
from hour_llava.videomarathon.settings import BuildSettings
from hour_llava.videomarathon.stats import BuildStats, count

VERSION = 2
"""Raised when the same rows would give other bytes."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_DESCRIPTION = "release.json"


@dataclass(frozen=True, kw_only=True)
class Sealed:
    """One release as it stands: `is_new` is False if it already stood there for the same rows."""

    name: str
    kind: Kind
    folder: Path
    num_rows: int
    num_videos: int
    is_new: bool
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SealReport:
    """What sealing came to: no release, one, or two."""

    releases: tuple[Sealed, ...]

    @property
    def is_new(self) -> bool:
        """Say whether anything was written."""
        return any(release.is_new for release in self.releases)


@dataclass(frozen=True, kw_only=True)
class Draft:
    """One release before it is written: its name, its kind, its videos by split, its figures."""

    name: str
    kind: Kind
    videos: tuple[VideoContent, ...]
    videos_by_split: Mapping[str, tuple[VideoContent, ...]]
    stats: BuildStats
    inputs: str
    language: str
    source: Path | None = None

    @property
    def note(self) -> str:
        """Return what every file of a demonstration says, or nothing."""
        return DEMONSTRATION_NOTE if self.kind == "demonstration" else ""

    @property
    def num_rows(self) -> int:
        """Return the number of its questions."""
        return sum(len(content.accepted) for content in self.videos)


def seal(
    build: BuildRows,
    name: str | None = None,
    *,
    out: Path | None = None,
    with_videos: bool = False,
) -> SealReport:
    """Write the releases of a build.

    Args:
        build: A build whose stages have run.
        name: Of the release; the settings' name without it.
        out: The folder that holds the releases; the build's `release` folder without it.
        with_videos: Copy the videos whose licence allows it.

    Raises:
        BuildError: the build is empty, the name is no folder's name, rows have not been through
            all stages, a release of other videos has the name, or the release cannot be written;
            what stood there before still stands.
    """
    from filelock import FileLock

    is_shared = out is not None
    root = build.folder / "release" if out is None else out
    content = read_content(build)
    drafts = _drafts(build, content, name, with_videos=with_videos)
    is_finished = content.row_stage == LAST_ROW_STAGE
    if not is_finished and any(draft.num_rows for draft in drafts.values()):
        raise BuildError(
            f"{build.folder}: its rows have come as far as {content.row_stage}, and a release has "
            f"those that {LAST_ROW_STAGE} chose; `hour-llava synth run {build.folder}` goes on"
        )
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / ".seal.lock"):
            releases = [
                _place(draft, root, is_shared=is_shared)
                for draft in drafts.values()
                if draft.num_rows
            ]
            for draft in drafts.values():
                if not draft.num_rows and is_finished and not is_shared:
                    _remove_stale(root / draft.name)
    except OSError as error:
        remedy = "make room" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "make it writable"
        raise BuildError(
            f"cannot write the release into {root}: {error.strerror or error}; {remedy}, then "
            f"`hour-llava synth export {build.folder}`"
        ) from error
    return SealReport(releases=tuple(releases))


def make_drafts(
    build: BuildRows, name: str | None = None, *, with_videos: bool = False
) -> dict[Kind, Draft]:
    """Sort a build's content into what would become its two releases.

    Raises:
        BuildError: the build is empty, or the name is no folder's name.
    """
    return _drafts(build, read_content(build), name, with_videos=with_videos)


def _drafts(
    build: BuildRows, content: Content, name: str | None, *, with_videos: bool
) -> dict[Kind, Draft]:
    name = name or build.settings.name
    if not _NAME.fullmatch(name):
        raise BuildError(
            f"{name!r} cannot name a release; take letters, digits, dots, dashes and underscores"
        )
    names: dict[Kind, str] = {"training": name, "demonstration": f"{name}-demonstration"}
    source = build.source if with_videos else None
    return {
        kind: _draft(content, kind, name=names[kind], settings=build.settings, source=source)
        for kind in KINDS
    }


def _draft(
    content: Content, kind: Kind, *, name: str, settings: BuildSettings, source: Path | None
) -> Draft:
    """Take the videos of a kind that have an accepted row; the figures count all its rows."""
    candidates = content.of_kind(kind)
    videos = tuple(item for item in candidates if item.accepted)
    by_split: dict[str, list[VideoContent]] = {split: [] for split in SPLITS}
    for item in videos:
        by_split[split_of(item.video.id, settings.splits)].append(item)
    stats = count(
        videos=[item.video for item in videos],
        set_aside=content.set_aside,
        captions=[caption for item in videos for caption in item.captions],
        events=[event for item in videos for event in item.events],
        rows=[row for item in candidates for row in item.rows],
        name=name,
    )
    described = [VERSION, name, kind, settings.language, settings.splits.model_dump()]
    return Draft(
        name=name,
        kind=kind,
        videos=videos,
        videos_by_split={split: tuple(items) for split, items in by_split.items()},
        stats=stats,
        inputs=_hash_inputs([*described, source is not None], _records(candidates, content)),
        language=settings.language,
        source=source,
    )


def _records(videos: Sequence[VideoContent], content: Content) -> Iterable[Record]:
    for item in videos:
        # where the truth lay on this machine is no part of a release
        video = item.video.model_copy(update={"truth_path": None})
        yield from (video, *item.clips, *item.captions, *item.events, *item.rows)
        if item.global_caption is not None:
            yield item.global_caption
    yield from content.set_aside


def _hash_inputs(described: Sequence[object], records: Iterable[Record]) -> str:
    sha = hashlib.sha256(json.dumps(described).encode())
    for record in records:
        sha.update(b"\n" + to_json(record).encode())
    return sha.hexdigest()


def _place(draft: Draft, root: Path, *, is_shared: bool) -> Sealed:
    """Put one release in its place, unless it stands there already."""
    folder, partial = root / draft.name, root / f".{draft.name}.partial"
    left_out: tuple[LeftOut, ...] = ()
    shutil.rmtree(partial, ignore_errors=True)  # what a killed run was writing
    is_new = not _stands(folder, draft.inputs)
    if is_new:
        if folder.exists() and not (folder / _DESCRIPTION).is_file():
            raise BuildError(f"{folder} exists and is no release; move it, or choose another name")
        if is_shared and not _shares_a_video(folder, draft):
            raise BuildError(
                f"{folder} is a release of other videos; name this one with --name, or remove it"
            )
        try:
            left_out = write_release(draft, partial)
            _sync(partial)
            _swap(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return Sealed(
        name=draft.name,
        kind=draft.kind,
        folder=folder,
        num_rows=draft.num_rows,
        num_videos=len(draft.videos),
        is_new=is_new,
        left_out=left_out,
    )


def write_release(draft: Draft, folder: Path) -> tuple[LeftOut, ...]:
    """Write all files of a release into a new folder; the manifest is the last.

    Returns:
        The videos whose pixels were left out, if pixels were asked for.
    """
    folder.mkdir(parents=True)
    title = f"{draft.name} ({draft.note})" if draft.note else draft.name
    metadata = {"release": draft.name, "kind": draft.kind, "version": str(VERSION)}
    if draft.note:
        metadata["note"] = draft.note
    counts = write_tables(folder, draft.videos_by_split, metadata)
    for split, videos in draft.videos_by_split.items():
        samples = [sample for item in videos for sample in make_samples(item, draft.note or None)]
        if samples:
            write_samples(folder / "llava" / f"{split}.json", samples)
    _write_times(draft, folder)
    draw_plots(folder / "plots", draft.stats, title=title)
    _write_json(folder / "stats.json", {**metadata, **draft.stats.as_dict()})
    table_1 = f"{draft.note}\n\n{write_table_1(draft.stats.table_1)}\n".lstrip()
    (folder / "table_1.md").write_text(table_1, encoding="utf-8")
    (folder / "README.md").write_text(write_card(card_facts(draft, counts)), encoding="utf-8")
    left_out: tuple[LeftOut, ...] = ()
    if draft.source is not None:
        left_out = copy_videos(
            draft.source, folder / "media", [item.video for item in draft.videos]
        )
    _write_json(folder / _DESCRIPTION, _describe(draft, metadata, counts, left_out))
    write_manifest(folder, draft.note)
    return left_out


def card_facts(draft: Draft, counts: Mapping[str, Mapping[str, int]]) -> CardFacts:
    """Return what the dataset card of a draft is written from."""
    return CardFacts(
        title=draft.name,
        kind=draft.kind,
        videos=draft.videos,
        stats=draft.stats,
        counts=counts,
        language=draft.language,
    )


def _describe(
    draft: Draft,
    metadata: Mapping[str, str],
    counts: Mapping[str, Mapping[str, int]],
    left_out: Sequence[LeftOut],
) -> dict[str, Any]:
    return {
        **metadata,
        "inputs": draft.inputs,
        "rows": counts,
        "videos": {
            split: [item.video.id for item in videos]
            for split, videos in draft.videos_by_split.items()
        },
        "pixels": "copied where the licence allows it" if draft.source else "not asked for",
        "pixels_left_out": {item.video: item.reason for item in left_out},
    }


def _write_times(draft: Draft, folder: Path) -> None:
    """Write WebVTT and YouTube chapters of each video, and why a video has none."""
    for name in ("vtt", "youtube"):
        (folder / name).mkdir()
    refused: dict[str, str] = {"note": draft.note} if draft.note else {}
    for item in draft.videos:
        stem = _file_name(item.video.id)
        chapters = write_chapters(item.events, draft.note)
        _write(folder / "vtt" / f"{stem}.chapters.vtt", chapters)
        _write(folder / "vtt" / f"{stem}.clips.vtt", write_clips(item.captions, draft.note))
        marks = make_chapters(item.events, item.video.duration_ms)
        if marks.refusal is not None:
            refused[item.video.id] = marks.refusal
        else:
            lines = [*([draft.note] if draft.note else []), *marks.lines]
            _write(folder / "youtube" / f"{stem}.txt", "\n".join(lines) + "\n")
    _write_json(folder / "youtube" / "not_written.json", refused)


def _file_name(video_id: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", video_id)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    _write(path, json.dumps(value, ensure_ascii=False, indent=1) + "\n")


def _stands(folder: Path, inputs: str) -> bool:
    """Say whether a whole release for these rows is there already."""
    try:
        described = json.loads((folder / _DESCRIPTION).read_text(encoding="utf-8"))
        listed = (folder / MANIFEST).read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError):
        return False
    names = [line.split("  ", 1)[1] for line in listed if line and line[0] not in "#\\"]
    is_whole = all((folder / name).is_file() for name in names)
    return is_whole and described.get("inputs") == inputs


def _shares_a_video(folder: Path, draft: Draft) -> bool:
    """Say whether a release that stands may be an earlier one of the same build."""
    try:
        described = json.loads((folder / _DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return not folder.exists()
    held = {one for split in described.get("videos", {}).values() for one in split}
    return not held.isdisjoint(item.video.id for item in draft.videos)


def _swap(partial: Path, folder: Path) -> None:
    """Move a whole folder into place; the old one goes when the new one stands."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    try:
        partial.rename(folder)
    except OSError:
        with suppress(OSError):
            old.rename(folder)
        raise
    _sync_file(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def _remove_stale(folder: Path) -> None:
    """Remove a release of ours whose rows the build no longer has."""
    if (folder / _DESCRIPTION).is_file():
        shutil.rmtree(folder)


def _sync(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        _sync_file(path)


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
