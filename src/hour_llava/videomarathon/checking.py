"""`synth check`: is a build, or a release, what it claims to be? The first fault ends it.

    a build      every part readable, ids unique, links whole, accepted rows still pass the rules
    sealed       a build's releases hold all of its accepted rows, and no others
    a release    checksums, records, evidence and options of every row, the training JSON, the kind

Nothing is believed that can be looked at again: rules run anew, quotes are searched, sums compared.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from hour_llava.errors import BuildError
from hour_llava.videomarathon.build import Build
from hour_llava.videomarathon.checks.rule import Rule
from hour_llava.videomarathon.checks.table import RULES
from hour_llava.videomarathon.checks.tables import Tables
from hour_llava.videomarathon.records import (
    DEMONSTRATION_BACKENDS,
    Clip,
    ClipCaption,
    Event,
    GlobalCaption,
    QAPair,
    Record,
    SetAside,
    Video,
    qa_id,
)
from hour_llava.videomarathon.release.llava import read_samples
from hour_llava.videomarathon.release.manifest import verify_manifest
from hour_llava.videomarathon.release.seal import make_drafts

MECHANICAL_RULES: tuple[Rule, ...] = tuple(
    rule
    for rule in RULES
    if rule.name
    in ("well_formed", "one_right_option", "options_differ", "evidence_cited", "quote_found")
    or rule.name in ("span_inside", "claim_recomputed", "answer_says_claim")
)
"""What must hold of every accepted row, whoever checked it before."""

_PASSED_ON = ("captions", "events", "qa", "verify", "dedup")
"""Stages whose records live on in later ones."""

_ROW_STAGES = ("balance", "dedup", "verify", "qa")


class _Settings(Protocol):
    @property
    def stride_ms(self) -> int: ...


class CheckedBuild(Protocol):
    """As much of a build as is looked at."""

    @property
    def settings(self) -> _Settings: ...

    def rows(self, stage: str) -> Iterator[Record]: ...


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """What was found in order."""

    kind: str
    num_videos: int
    num_captions: int
    num_events: int
    num_rows: int
    num_accepted: int
    num_files: int = 0


@dataclass(frozen=True, kw_only=True)
class _Content:
    """All records that are to be looked at together."""

    videos: Mapping[str, Video]
    captions: tuple[ClipCaption, ...]
    events: tuple[Event, ...]
    narratives: Mapping[str, GlobalCaption]
    rows: tuple[QAPair, ...]
    stride_ms: int


def check_build(build: CheckedBuild) -> CheckReport:
    """Look at a build, finished or not.

    Raises:
        BuildError: the first fault: which record, what is wrong, what to do.
    """
    ingested = list(build.rows("ingest"))
    videos = {record.id: record for record in ingested if isinstance(record, Video)}
    if not videos and not any(isinstance(record, SetAside) for record in ingested):
        raise BuildError("the build holds no video yet; run `hour-llava synth run` first")
    for stage in _PASSED_ON:
        for _ in build.rows(stage):  # reading is the check: a damaged part is named
            pass
    clips = [record for record in build.rows("clips") if isinstance(record, Clip)]
    for clip in clips:
        _inside(clip.id, clip.video_id, clip.span.end_ms, videos)
    rows: list[QAPair] = []
    for stage in _ROW_STAGES:
        rows = [record for record in build.rows(stage) if isinstance(record, QAPair)]
        if rows:
            break
    told = [c for c in build.rows("caption_check") if isinstance(c, ClipCaption)]
    narratives = [g for g in build.rows("global_caption") if isinstance(g, GlobalCaption)]
    content = _Content(
        videos=videos,
        captions=tuple(told),
        events=tuple(e for e in build.rows("event_captions") if isinstance(e, Event)),
        narratives={record.video_id: record for record in narratives},
        rows=tuple(rows),
        stride_ms=build.settings.stride_ms,
    )
    _check_content(content)
    return _report("build", content)


def _report(kind: str, content: _Content, num_files: int = 0) -> CheckReport:
    return CheckReport(
        kind=kind,
        num_videos=len(content.videos),
        num_captions=len(content.captions),
        num_events=len(content.events),
        num_rows=len(content.rows),
        num_accepted=sum(row.status == "accepted" for row in content.rows),
        num_files=num_files,
    )


def _inside(name: str, video_id: str, end_ms: int, videos: Mapping[str, Video]) -> None:
    video = videos.get(video_id)
    if video is None:
        raise BuildError(f"{name} is of the video {video_id}, which is not there; run the build")
    if end_ms > video.duration_ms:
        raise BuildError(
            f"{name} ends at {end_ms} ms of {video.duration_ms} ms ({video.path}); run the build"
        )


def _unique(kind: str, ids: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in ids:
        if name in seen:
            raise BuildError(f"two {kind} are called {name}; run the build again")
        seen.add(name)


def _check_content(content: _Content) -> None:
    _unique("clip captions", (caption.clip_id for caption in content.captions))
    _unique("events", (event.id for event in content.events))
    _unique("rows", (row.id for row in content.rows))
    for caption in content.captions:
        _inside(
            f"the caption {caption.clip_id}", caption.video_id, caption.span.end_ms, content.videos
        )
    for event in content.events:
        _inside(f"the event {event.id}", event.video_id, event.span.end_ms, content.videos)
    tables = {video: _tables(content, video) for video in content.videos}
    for row in content.rows:
        if row.video_id not in tables:
            raise BuildError(f"row {row.id} is of the video {row.video_id}, which is not there")
        _check_row(row, tables[row.video_id])


def _tables(content: _Content, video_id: str) -> Tables:
    captions = [c for c in content.captions if c.video_id == video_id and c.is_usable]
    events = [e for e in content.events if e.video_id == video_id]
    return Tables(
        video=content.videos[video_id],
        captions=tuple(sorted(captions, key=lambda c: (c.span.start_ms, c.span.end_ms))),
        events=tuple(sorted(events, key=lambda e: e.index)),
        global_caption=content.narratives.get(video_id),
        stride_ms=content.stride_ms,
    )


def _check_row(row: QAPair, tables: Tables) -> None:
    """Hold one row against its tables; only accepted ones must be right."""
    if row.id != qa_id(row.video_id, row.task, row.format, row.question):
        raise BuildError(
            f"row {row.id}: its id is not that of its question; it was changed by hand"
        )
    if row.status in ("rejected", "quarantined") and not row.reasons:
        raise BuildError(f"row {row.id} is {row.status} without a reason; run the build again")
    if row.status != "accepted":
        return
    for verdict in row.verdicts:
        is_shortened = verdict.rule == "long_form" and row.form == "short"
        if verdict.outcome == "fail" and not is_shortened:
            raise BuildError(f"row {row.id} is accepted and fails {verdict.rule}: {verdict.detail}")
    for rule in MECHANICAL_RULES:
        verdict = rule.verdict(row, tables) if rule.applies_to(row) else None
        if verdict is not None and verdict.outcome == "fail":
            raise BuildError(
                f'row {row.id} ("{row.question}") fails {rule.name}: {verdict.detail}; it was '
                "changed after its check, or checked by another release: run the build again"
            )


def check_release(folder: Path) -> CheckReport:
    """Look at a sealed release.

    Raises:
        BuildError: the first fault: which file or row, what is wrong.
        RecordError: a training JSON is none.
    """
    num_files = verify_manifest(folder)
    described = _read_json(folder / "release.json")
    kind = str(described.get("kind"))
    content = _read_release(folder)
    _check_content(content)
    _check_kind(folder, kind, content)
    _check_samples(folder, content)
    return _report(f"{kind} release", content, num_files)


def check_sealed(build: Build) -> None:
    """Hold a build's accepted rows against those of its releases, id by id.

    Raises:
        BuildError: an accepted row would be in no release, or a release that stands holds other
            rows than the build has now.
    """
    drafts = make_drafts(build)
    due = {
        kind: {row.id for item in draft.videos for row in item.accepted}
        for kind, draft in drafts.items()
    }
    accepted = {
        r.id for r in build.rows("balance") if isinstance(r, QAPair) and r.status == "accepted"
    }
    if lost := sorted(accepted - set().union(*due.values())):
        raise BuildError(
            f"{build.folder}: {len(lost):,} accepted rows would be in no release ({lost[0]} is the "
            "first); please report this"
        )
    for folder in sealed_in(build.folder):
        kind = str(_read_json(folder / "release.json").get("kind"))
        held = {str(raw["id"]) for raw in _table(folder, "data")}
        wanted = due.get(kind, set())
        if held != wanted:
            raise BuildError(
                f"{folder}: lacks {len(wanted - held):,} of the build's {len(wanted):,} accepted "
                f"rows and holds {len(held - wanted):,} that it no longer accepts; "
                f"`hour-llava synth export {build.folder} --name "
                f"{folder.name.removesuffix('-demonstration')}` writes it anew"
            )


def sealed_in(build_folder: Path) -> list[Path]:
    """List a build's releases; what a killed run was still writing is none."""
    found = sorted((build_folder / "release").glob("*/release.json"))
    return [file.parent for file in found if not file.parent.name.startswith(".")]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BuildError(f"{path} cannot be read ({error}); seal the release again") from error
    return dict(found)


def _check_kind(folder: Path, kind: str, content: _Content) -> None:
    """Rows of `embedded` and of the mock are never training data."""
    if kind != "training":
        return
    for row in content.rows:
        if row.provenance.backend in DEMONSTRATION_BACKENDS:
            raise BuildError(
                f"{folder}: row {row.id} was made by {row.provenance.backend} and stands in "
                "training data; seal the release again"
            )


def _check_samples(folder: Path, content: _Content) -> None:
    """Hold the training JSON against the rows: the same videos, every row once."""
    paths = {video.path for video in content.videos.values()}
    num_questions = 0
    for file in sorted((folder / "llava").glob("*.json")):
        for sample in read_samples(file):
            num_questions += len(sample.conversations) // 2
            if sample.video not in paths:
                raise BuildError(f"{file}: sample {sample.id} names {sample.video}, no video of it")
    if num_questions != len(content.rows):
        raise BuildError(
            f"{folder / 'llava'} holds {num_questions} questions and data/ {len(content.rows)} "
            "rows; seal the release again"
        )


def _read_release(folder: Path) -> _Content:
    videos = {row["video_id"]: _video(row) for row in _table(folder, "videos")}
    captions = [_caption(row) for row in _table(folder, "clip_captions")]
    rows: list[QAPair] = []
    for raw in _table(folder, "data"):
        rows.append(_row(raw))
    narratives = {
        row["video_id"]: _narrative(row)
        for row in _table(folder, "videos")
        if row["global_caption"] is not None
    }
    return _Content(
        videos=videos,
        captions=tuple(captions),
        events=tuple(_event(row) for row in _table(folder, "events")),
        narratives=narratives,
        rows=tuple(rows),
        stride_ms=_stride_of(captions),
    )


def _table(folder: Path, name: str) -> list[dict[str, Any]]:
    """Read all shards of a table as plain values."""
    from importlib import import_module

    parquet: Any = import_module("pyarrow.parquet")  # heavy, and without types
    found: list[dict[str, Any]] = []
    for file in sorted((folder / name).glob("*.parquet")):
        try:
            found += parquet.read_table(file).to_pylist()
        except (OSError, ValueError) as error:  # pyarrow's own errors are both
            raise BuildError(f"{file} cannot be read ({error}); seal the release again") from error
    return found


def _row(raw: Mapping[str, Any]) -> QAPair:
    fields = {name: raw[name] for name in QAPair.model_fields if name in raw}
    try:
        row = QAPair.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise BuildError(f"row {raw.get('id')}: {place}: {first['msg']}") from error
    wanted = f"/{row.task}/{row.format}"
    if not str(raw["question_type"]).endswith(wanted):
        raise BuildError(f"row {row.id}: question_type {raw['question_type']!r}, not ...{wanted}")
    if row.options is not None and raw["answer_letter"] != chr(65 + row.options.index(row.answer)):
        raise BuildError(
            f"row {row.id}: answer_letter {raw['answer_letter']!r} is not the answer's"
        )
    return row


def _video(raw: Mapping[str, Any]) -> Video:
    names = {"path": "video", "id": "video_id", "url": "URL", "source": "data_source"}
    fields = {
        name: raw[names.get(name, name)]
        for name in Video.model_fields
        if names.get(name, name) in raw
    }
    return Video.model_validate(fields)


def _caption(raw: Mapping[str, Any]) -> ClipCaption:
    aspects = ("temporality", "spatiality", "object", "action", "scene", "summary")
    fields = {name: raw[name] for name in ClipCaption.model_fields if name in raw}
    return ClipCaption.model_validate(
        {**fields, "span": _span(raw), "aspects": {name: raw[name] for name in aspects}}
    )


def _event(raw: Mapping[str, Any]) -> Event:
    fields = {name: raw[name] for name in Event.model_fields if name in raw}
    number = int(str(raw["event_id"]).rpartition("e")[2])
    return Event.model_validate(
        {**fields, "id": raw["event_id"], "index": number, "span": _span(raw)}
    )


def _narrative(raw: Mapping[str, Any]) -> GlobalCaption:
    source = {"stage": "global_caption", "stage_version": 1, "backend": raw["backend"]}
    return GlobalCaption.model_validate(
        {
            "video_id": raw["video_id"],
            "text": raw["global_caption"],
            "event_ids": (),
            "provenance": source,
        }
    )


def _span(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {"start_ms": raw["start_ms"], "end_ms": raw["end_ms"]}


def _stride_of(captions: Iterable[ClipCaption]) -> int:
    """Return the time between the starts of two clips: how exact a model's times are.

    The least, for a clip between them may have no caption.
    """
    by_video: dict[str, list[int]] = {}
    for caption in captions:
        by_video.setdefault(caption.video_id, []).append(caption.span.start_ms)
    gaps = [b - a for starts in by_video.values() for a, b in pairwise(sorted(set(starts)))]
    return min(gaps, default=20_000)
