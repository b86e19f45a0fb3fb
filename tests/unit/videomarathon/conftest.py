"""Builds made of records in memory: what a release, a page and an inspection are made from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hour_llava.tasks import TASKS
from hour_llava.videomarathon.records import (
    Aspects,
    Backend,
    Claim,
    ClaimItem,
    Clip,
    ClipCaption,
    Event,
    Evidence,
    GlobalCaption,
    Provenance,
    QAPair,
    Record,
    SetAside,
    Span,
    Verdict,
    Video,
    clip_id,
    event_id,
    qa_id,
)
from hour_llava.videomarathon.settings import BuildSettings

HOSTILE = '</script><script>window.hacked=1</script><!-- --> "quoted" \u2028 <image> 名前'


@dataclass(kw_only=True)
class MemoryBuild:
    """A build whose stages are lists."""

    folder: Path
    source: Path
    settings: BuildSettings
    stages: dict[str, list[Record]] = field(default_factory=dict)

    def rows(self, stage: str) -> Iterator[Record]:
        yield from self.stages.get(stage, [])

    def add(self, stage: str, *records: Record) -> None:
        self.stages.setdefault(stage, []).extend(records)


def _add_video(
    build: MemoryBuild,
    number: int,
    backend: Backend,
    *,
    minutes: int = 3,
    licence: str | None = "CC-BY-4.0",
    path: str | None = None,
    words: str = "a red kite",
    rows_per_task: int = 1,
) -> str:
    """Add a video with clips, events, a narrative and rows of all tasks; the last is rejected."""
    video_id, duration_ms = f"{number:016x}", minutes * 60_000
    by = Provenance(
        stage="captions", stage_version=1, backend=backend, model="m", call_keys=(f"k{number}",)
    )
    build.add(
        "ingest",
        Video(
            id=video_id,
            path=path or f"sub folder/video {number}.mp4",
            source="MarathonWorld" if backend == "truth" else "local",
            licence=licence,
            duration_ms=duration_ms,
            width=320,
            height=180,
            average_fps=6.0,
            has_audio=False,
            content_digest=f"{number:032x}",
            backend="endpoint" if backend == "mock" else backend,
            truth_path=f"/tmp/machine/{number}.truth.json" if backend == "truth" else None,
        ),
    )
    spans = [
        Span(start_ms=at, end_ms=min(at + 30_000, duration_ms))
        for at in range(0, duration_ms - 10_000, 20_000)
    ]
    for index, span in enumerate(spans):
        name = clip_id(video_id, span)
        build.add("clips", Clip(id=name, video_id=video_id, index=index, span=span))
        aspects = {
            aspect: f"{aspect} of {words} in stretch {index}" for aspect in Aspects.model_fields
        }
        build.add(
            "caption_check",
            ClipCaption(
                clip_id=name,
                video_id=video_id,
                span=span,
                aspects=Aspects(**aspects),
                provenance=by,
                verdicts=(Verdict(rule="refusal", outcome="pass"),),
            ),
        )
    length = duration_ms // 4
    events = [
        Event(
            id=event_id(video_id, index),
            video_id=video_id,
            index=index,
            span=Span(start_ms=index * length, end_ms=(index + 1) * length),
            title=f"event {index} of {words}",
            clip_ids=(clip_id(video_id, spans[0]),),
            narrative=f"What happens to {words} in part {index}.",
            provenance=by,
        )
        for index in range(4)
    ]
    build.add("event_captions", *events)
    build.add(
        "global_caption",
        GlobalCaption(
            video_id=video_id,
            text=f"A video of {words}.",
            event_ids=tuple(event.id for event in events),
            provenance=by,
        ),
    )
    rows = [
        _row(video_id, task.slug, task.form, format_, f"{words} {copy}", spans, events, by)
        for copy in range(rows_per_task)
        for task in TASKS
        for format_ in task.formats
    ]
    rejected = rows[-1].model_copy(
        update={
            "status": "rejected",
            "reasons": ("blind",),
            "verdicts": (Verdict(rule="blind", outcome="fail", detail="3 of 4"),),
        }
    )
    build.add("balance", *rows[:-1], rejected)
    return video_id


def _row(
    video_id: str,
    task: str,
    form: Any,
    format_: Any,
    words: str,
    spans: list[Span],
    events: list[Event],
    by: Provenance,
) -> QAPair:
    question = f"What about {words} in {task} ({format_})?"
    first, last = spans[0], spans[-1]
    aspect = "object"
    return QAPair(
        id=qa_id(video_id, task, format_, question),
        video_id=video_id,
        task=task,
        format=format_,
        form=form,
        question=question,
        answer="right answer",
        options=("wrong", "right answer", "other", "none") if format_ == "mc" else None,
        evidence=(
            Evidence(
                span=first,
                quote=f"{aspect} of {words[:-2]}",
                clip_id=clip_id(video_id, first),
                aspect=aspect,
            ),
            Evidence(span=last, quote="What happens", event_id=events[-1].id),
        ),
        claim=Claim(
            claim="duration",
            value=str(events[0].span.duration_ms),
            items=(ClaimItem(label=events[0].title, span=events[0].span, event_id=events[0].id),),
        )
        if task == "duration_perception"
        else None,
        provenance=by.model_copy(update={"stage": "qa", "call_keys": (f"qa-{video_id}",)}),
        status="accepted",
        verdicts=(Verdict(rule="quote", outcome="pass", detail="verbatim"),),
    )


@pytest.fixture
def make_memory_build(tmp_path: Path) -> Callable[..., MemoryBuild]:
    def make(*backends: Backend, folder: str = "build", **options: Any) -> MemoryBuild:
        build = MemoryBuild(
            folder=tmp_path / folder,
            source=tmp_path / "videos",
            settings=BuildSettings(source="../videos", name="kites"),
        )
        build.folder.mkdir()
        for number, backend in enumerate(backends, start=1):
            _add_video(build, number, backend, **options)
        build.add(
            "ingest",
            SetAside(stage="ingest", path="radio.mp4", reason="no_video", detail="audio only"),
        )
        return build

    return make


@pytest.fixture
def add_memory_video() -> Callable[..., str]:
    return _add_video


@pytest.fixture
def hostile() -> str:
    return HOSTILE
