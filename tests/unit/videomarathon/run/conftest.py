"""A build with small stages of our own: files -> videos -> clips -> captions -> one list."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from hour_llava.videomarathon.build import Build
from hour_llava.videomarathon.records import (
    Aspects,
    Clip,
    ClipCaption,
    Provenance,
    Record,
    SetAside,
    Span,
    Video,
    clip_id,
    digest,
)
from hour_llava.videomarathon.runner import RunReport, run_build
from hour_llava.videomarathon.stage import Stage, Tools, Unit
from hour_llava.videomarathon.stages.ingest import printable

NUM_CLIPS = 10


async def ingest(unit: Unit, parameters: Any, tools: Tools) -> list[Record]:
    content = Path(parameters["file"]).read_text()
    path = printable(parameters["path"])
    if not content:
        return [SetAside(stage="ingest", path=path, reason="empty", detail="0 bytes")]
    return [
        Video(
            id=digest(content),
            path=path,
            duration_ms=NUM_CLIPS * 1000,
            width=2,
            height=2,
            average_fps=1.0,
            has_audio=False,
            content_digest=digest(content),
            backend=parameters["backend"],
        )
    ]


async def clips(unit: Unit, parameters: Any, tools: Tools) -> list[Record]:
    spans = [Span(start_ms=1000 * i, end_ms=1000 * i + 1000) for i in range(NUM_CLIPS)]
    return [
        Clip(id=clip_id(unit.id, span), video_id=unit.id, index=i, span=span)
        for i, span in enumerate(spans)
    ]


class Script:
    """Says what happens at a clip: a function of the unit's id that may raise."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.act: Callable[[str], str | None] = lambda unit: None
        self.prefix = "seen"

    async def captions(self, unit: Unit, parameters: Any, tools: Tools) -> list[Record]:
        self.ran.append(unit.id)
        word = self.act(unit.id) or f"{parameters['prefix']} {unit.id}"
        (clip,) = unit.inputs["clips"]
        assert isinstance(clip, Clip)
        names = ("temporality", "spatiality", "object", "action", "scene", "summary")
        return [
            ClipCaption(
                clip_id=clip.id,
                video_id=clip.video_id,
                span=clip.span,
                aspects=Aspects(**dict.fromkeys(names, word)),
                provenance=Provenance(stage="captions", stage_version=1, backend="embedded"),
            )
        ]

    async def check(self, unit: Unit, parameters: Any, tools: Tools) -> list[Record]:
        self.ran.append(f"check {unit.id}")
        return list(unit.inputs["captions"])

    async def gather(self, unit: Unit, parameters: Any, tools: Tools) -> list[Record]:
        self.ran.append("gather")
        return list(unit.inputs["caption_check"])

    def stages(self) -> tuple[Stage, ...]:
        def none(settings: Any) -> dict[str, Any]:
            return {}

        def prefix(settings: Any) -> dict[str, Any]:
            return {"prefix": self.prefix}

        return (
            Stage(name="ingest", version=1, unit="file", needs=(), parameters=none, run=ingest),
            Stage(
                name="clips", version=1, unit="video", needs=("ingest",), parameters=none, run=clips
            ),
            Stage(
                name="captions",
                version=1,
                unit="clip",
                needs=("ingest", "clips"),
                parameters=prefix,
                run=self.captions,
            ),
            Stage(
                name="caption_check",
                version=1,
                unit="video",
                needs=("ingest", "captions"),
                parameters=none,
                run=self.check,
            ),
            Stage(
                name="gather",
                version=1,
                unit="build",
                needs=("caption_check",),
                parameters=none,
                run=self.gather,
            ),
        )


class Notes:
    """A watcher that keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.units: list[tuple[str, Any]] = []

    def begin(self, stage: str, *, num_units: int, num_done: int) -> None: ...

    def unit(self, stage: str, outcome: Any, spent: Any) -> None:
        self.units.append((stage, outcome))

    def end(self, stage: str, state: Any) -> None: ...

    def say(self, text: str) -> None:
        self.said.append(text)


class Bench:
    """A build folder with its script, opened anew for every run."""

    def __init__(self, folder: Path) -> None:
        self.source, self.folder = folder / "videos", folder / "build"
        self.source.mkdir()
        self.folder.mkdir()
        (self.folder / "build.toml").write_text('source = "../videos"\n')
        self.script = Script()
        self.notes = Notes()

    def videos(self, *contents: str) -> None:
        for number, content in enumerate(contents):
            (self.source / f"{number}.mp4").write_text(content)

    def open(self) -> Build:
        return Build.open(self.folder, stages=self.script.stages())

    def run(self, **changes: Any) -> RunReport:
        self.script.ran.clear()
        return run_build(self.open(), self.notes, with_release=False, **changes)

    def captions(self) -> Sequence[str]:
        rows = self.open().rows("captions")
        return [row.aspects.summary for row in rows if isinstance(row, ClipCaption)]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Return an empty build with a source folder without videos."""
    return Bench(tmp_path)
