"""What a build holds, read once and sorted by video: seal, browse and inspect all start here.

    read_content(build) -> Content(videos: VideoContent..., set_aside)
    VideoContent: one video with its clips, captions, events, global caption and rows

A video belongs to the demonstration as soon as any of its records was made by `embedded` or by the
mock endpoint: a question worded by a real model over a mocked caption is no training data either.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from hour_llava.errors import BuildError
from hour_llava.tasks import FORMATS, TASKS
from hour_llava.videomarathon.records import (
    DEMONSTRATION_BACKENDS,
    Backend,
    Clip,
    ClipCaption,
    Event,
    GlobalCaption,
    QAPair,
    Record,
    SetAside,
    Video,
)
from hour_llava.videomarathon.settings import BuildSettings

Kind = Literal["training", "demonstration"]
KINDS: tuple[Kind, ...] = ("training", "demonstration")

DEMONSTRATION_NOTE = (
    "DEMONSTRATION, not training data: made from measured facts or by a mock endpoint"
)
"""Stands in every file of such a release."""

LAST_ROW_STAGE = "balance"
_ROW_STAGES = (LAST_ROW_STAGE, "dedup", "verify", "qa")
_TASK_ORDER = {task.slug: number for number, task in enumerate(TASKS)}


class BuildRows(Protocol):
    """As much of a build as a release needs: folders, settings, and rows by stage."""

    @property
    def folder(self) -> Path: ...

    @property
    def settings(self) -> BuildSettings: ...

    @property
    def source(self) -> Path: ...

    def rows(self, stage: str) -> Iterator[Record]: ...


@dataclass(frozen=True, kw_only=True)
class VideoContent:
    """All that a build knows of one video, in order of time; rows in the order of the tasks."""

    video: Video
    clips: tuple[Clip, ...] = ()
    captions: tuple[ClipCaption, ...] = ()
    events: tuple[Event, ...] = ()
    global_caption: GlobalCaption | None = None
    rows: tuple[QAPair, ...] = ()

    @property
    def backends(self) -> frozenset[Backend]:
        """Return who made any of its records."""
        made: list[ClipCaption | Event | GlobalCaption | QAPair] = [
            *self.captions,
            *self.events,
            *self.rows,
        ]
        if self.global_caption is not None:
            made.append(self.global_caption)
        return frozenset(record.provenance.backend for record in made)

    @property
    def kind(self) -> Kind:
        """Say to which release it belongs."""
        is_mocked = bool(self.backends & DEMONSTRATION_BACKENDS)
        is_embedded = self.video.backend in DEMONSTRATION_BACKENDS
        return "demonstration" if is_mocked or is_embedded else "training"

    @property
    def accepted(self) -> tuple[QAPair, ...]:
        """Return the rows that passed every rule."""
        return tuple(row for row in self.rows if row.status == "accepted")


@dataclass(frozen=True, kw_only=True)
class Content:
    """A build's videos by id, what was set aside, and the stage its rows were taken from."""

    videos: tuple[VideoContent, ...]
    set_aside: tuple[SetAside, ...]
    row_stage: str | None

    def of_kind(self, kind: Kind) -> tuple[VideoContent, ...]:
        """Return the videos of one of the two releases; those set aside are in neither."""
        dropped = {item.video_id for item in self.set_aside}
        return tuple(
            item for item in self.videos if item.kind == kind and item.video.id not in dropped
        )


def read_content(build: BuildRows) -> Content:
    """Read a build, finished or not; rows come from the last stage that has any.

    Raises:
        BuildError: it holds no video yet.
        RecordError: a part is broken or of a newer version.
    """
    ingested = [*build.rows("ingest")]
    videos = sorted(_only(Video, ingested), key=lambda video: video.id)
    set_aside = [*_only(SetAside, ingested), *_only(SetAside, build.rows("events"))]
    if not videos and not set_aside:
        raise BuildError(
            f"the build {build.folder} holds no video yet; run `hour-llava synth run "
            f"{build.folder}` first"
        )
    clips = _by_video(_only(Clip, build.rows("clips")))
    captions = _by_video(_only(ClipCaption, build.rows("caption_check")))
    events = _by_video(_only(Event, build.rows("event_captions")))
    narratives = _by_video(_only(GlobalCaption, build.rows("global_caption")))
    stage, all_rows = _latest_rows(build)
    rows = _by_video(all_rows)
    return Content(
        videos=tuple(
            VideoContent(
                video=video,
                clips=tuple(sorted(clips[video.id], key=lambda clip: clip.index)),
                captions=tuple(sorted(captions[video.id], key=_place)),
                events=tuple(sorted(events[video.id], key=lambda event: event.index)),
                global_caption=next(iter(narratives[video.id]), None),
                rows=tuple(sorted(rows[video.id], key=row_order)),
            )
            for video in videos
        ),
        set_aside=tuple(sorted(set_aside, key=lambda item: (item.path, item.stage))),
        row_stage=stage,
    )


def row_order(row: QAPair) -> tuple[str, int, int, str]:
    """Return what rows are sorted by: video, the paper's order of tasks, format, id."""
    return (row.video_id, _TASK_ORDER[row.task], FORMATS.index(row.format), row.id)


def question_type(row: QAPair) -> str:
    """Return the published column: topic first, "mc" or "oe" last."""
    return f"{TASKS[_TASK_ORDER[row.task]].topic.lower()}/{row.task}/{row.format}"


_R = TypeVar("_R", bound=Record)
_OfVideo = TypeVar("_OfVideo", Clip, ClipCaption, Event, GlobalCaption, QAPair)


def _only(kind: type[_R], records: Iterable[Record]) -> list[_R]:
    return [record for record in records if isinstance(record, kind)]


def _by_video(records: Sequence[_OfVideo]) -> defaultdict[str, list[_OfVideo]]:
    found: defaultdict[str, list[_OfVideo]] = defaultdict(list)
    for record in records:
        found[record.video_id].append(record)
    return found


def _place(caption: ClipCaption) -> tuple[int, int]:
    return caption.span.start_ms, caption.span.end_ms


def _latest_rows(build: BuildRows) -> tuple[str | None, list[QAPair]]:
    for stage in _ROW_STAGES:
        rows = _only(QAPair, build.rows(stage))
        if rows:
            return stage, rows
    return None, []
