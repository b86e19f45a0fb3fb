"""Runs stages by hand: units of records in memory, and whoever is to answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import BaseModel

from hour_llava.tasks import TOPICS
from hour_llava.videomarathon.records import (
    Aspects,
    ClipCaption,
    Event,
    GlobalCaption,
    Provenance,
    Record,
    Span,
    Video,
    clip_id,
    event_id,
)
from hour_llava.videomarathon.settings import BuildSettings
from hour_llava.videomarathon.stage import Reply, Request, Stage, Tools, Unit
from hour_llava.videomarathon.stages import (
    caption_check,
    captions,
    clips,
    event_captions,
    events,
    global_caption,
    qa,
)

Answer = Callable[[Request], Any]
CHAIN = (caption_check, events, event_captions, global_caption)


@dataclass(kw_only=True)
class Bench:
    """Runs one stage on one unit; `requests` are all that was asked, `answer` gives payloads."""

    settings: BuildSettings = field(default_factory=lambda: BuildSettings(source="."))
    requests: list[Request] = field(default_factory=list)
    num_pictures: int = 3
    retries: int = 0

    def run(
        self,
        stage: Stage,
        unit_id: str,
        inputs: Mapping[str, Sequence[Record]],
        answer: Answer | None = None,
        **parameters: Any,
    ) -> list[Record]:
        """Run a stage; an answer is a payload, its JSON value, or an awaitable Reply."""

        async def ask(request: Request) -> Reply:
            self.requests.append(request)
            assert answer is not None, f"{stage.name} asked"
            given = answer(request)
            if isinstance(given, Awaitable):
                return await given
            if not isinstance(given, BaseModel):
                given = request.schema.model_validate(given)
            key = f"key{len(self.requests)}"
            return Reply(payload=given, backend="endpoint", model="model", call_key=key)

        async def frames(video: Video, start_ms: int, end_ms: int) -> Sequence[tuple[int, bytes]]:
            return [(start_ms + i * 1000, b"jpeg %d" % i) for i in range(self.num_pictures)]

        tools = Tools(ask=ask, frames=frames, retries=self.retries)
        unit = Unit(id=unit_id, inputs=inputs)
        values = {**stage.parameters(self.settings), **parameters}
        return asyncio.run(stage.run(unit, values, tools))

    def build(self, video: Video, answer: Answer) -> dict[str, list[Record]]:
        """Run every stage of a video from clips to qa."""
        out: dict[str, list[Record]] = {"ingest": [video]}
        out["clips"] = self.run(clips.STAGE, video.id, out)
        out["captions"] = []
        for clip in out["clips"]:
            given = {"ingest": [video], "clips": [clip]}
            out["captions"] += self.run(captions.STAGE, str(getattr(clip, "id", "")), given, answer)
        for module in CHAIN:
            out[module.STAGE.name] = self.run(module.STAGE, video.id, out, answer)
        out["qa"] = []
        for topic in TOPICS:
            for form in ("oe", "mc"):
                unit_id = f"{video.id}:{topic.lower()}:{form}"
                out["qa"] += self.run(qa.STAGE, unit_id, out, answer)
        return out


SOURCE = Provenance(stage="test", stage_version=1, backend="endpoint", model="model")


@dataclass(kw_only=True)
class Small:
    """A video of three minutes in nine clips of twenty seconds and three events."""

    video: Video
    captions: list[ClipCaption]
    events: list[Event]
    global_caption: GlobalCaption

    @property
    def inputs(self) -> dict[str, list[Any]]:
        """Return what the qa stage reads."""
        return {
            "ingest": [self.video],
            "captions": self.captions,
            "caption_check": self.captions,
            "events": self.events,
            "event_captions": self.events,
            "global_caption": [self.global_caption],
        }


def make_video(video_id: str = "0123456789abcdef", **fields: Any) -> Video:
    values = {
        "id": video_id,
        "path": "a.mp4",
        "duration_ms": 180_000,
        "width": 320,
        "height": 180,
        "average_fps": 25.0,
        "has_audio": False,
        "content_digest": video_id,
        "backend": "endpoint",
        **fields,
    }
    return Video.model_validate(values)


ACTIONS = (
    *("slicing an onion", "washing a pan", "stirring the soup", "feeding a dog"),
    *("painting the fence", "reading a letter", "planting a tree", "closing the gate"),
    "lighting a candle",
)


def make_small() -> Small:
    video = make_video()
    captions = [
        ClipCaption(
            clip_id=clip_id(video.id, span),
            video_id=video.id,
            span=span,
            aspects=Aspects(
                temporality=f"At first it is calm, then stage {i} begins.",
                spatiality=f"The woman stands to the left of thing {i}.",
                object="A woman in a red coat. " + ("A dog lies there." if i in (1, 6) else "."),
                action=f"The woman is {ACTIONS[i]}. She looks up.",
                scene=f"A yard with wall {i}.",
                summary=f"The woman is {ACTIONS[i]} in the yard.",
            ),
            provenance=SOURCE,
        )
        for i in range(9)
        for span in [Span(start_ms=i * 20_000, end_ms=(i + 1) * 20_000)]
    ]
    titles = ("Cooking in the yard", "Work at the fence", "The evening light")
    events = [
        Event(
            id=event_id(video.id, i),
            video_id=video.id,
            index=i,
            span=Span(start_ms=i * 60_000, end_ms=(i + 1) * 60_000),
            title=title,
            clip_ids=tuple(c.clip_id for c in captions[3 * i : 3 * i + 3]),
            narrative=f"{title} takes its time. The woman goes on.",
            provenance=SOURCE,
        )
        for i, title in enumerate(titles)
    ]
    whole = GlobalCaption(
        video_id=video.id,
        text=f"{titles[0]}, then {titles[1].lower()}, then {titles[2].lower()}.",
        event_ids=tuple(e.id for e in events),
        provenance=SOURCE,
    )
    return Small(video=video, captions=captions, events=events, global_caption=whole)


@pytest.fixture
def bench() -> Bench:
    """Return a bench with the default settings."""
    return Bench()


@pytest.fixture
def small() -> Small:
    """Return the records of a small video that a model described."""
    return make_small()


@pytest.fixture(scope="session")
def video_of() -> Callable[..., Video]:
    """Return the maker of Video records."""
    return make_video
