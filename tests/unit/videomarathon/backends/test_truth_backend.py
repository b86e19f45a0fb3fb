"""The truth backend from clips to verified rows: every answer computed again from the timeline.

What is recomputed here uses the timeline alone: its scenes and appearances, no captions, no facts.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hour_llava.tasks import TASKS, TOPICS
from hour_llava.videomarathon.backends.truth import TruthBackend
from hour_llava.videomarathon.records import QAPair, Record, Video
from hour_llava.videomarathon.settings import BuildSettings
from hour_llava.videomarathon.stage import Reply, Request, Tools, Unit
from hour_llava.videomarathon.stages import (
    caption_check,
    captions,
    clips,
    event_captions,
    events,
    global_caption,
    qa,
    verify,
)
from hour_llava.world.timeline import Timeline, make_timeline

SECONDS = (180, 600, 3600)
_UNITS = {"hour": 3600, "minute": 60, "second": 1}


async def _build(video: Video, backend: TruthBackend) -> dict[str, list[Record]]:
    settings = BuildSettings(source=".")

    async def ask(request: Request) -> Reply:
        return await backend.answer(request)

    async def frames(video: Video, start_ms: int, end_ms: int) -> Any:
        raise AssertionError("a truth file needs no pictures")

    async def run(stage: Any, unit_id: str, inputs: Any) -> list[Record]:
        tools = Tools(ask=ask, frames=frames)
        return await stage.run(Unit(id=unit_id, inputs=inputs), stage.parameters(settings), tools)

    out: dict[str, list[Record]] = {"ingest": [video]}
    out["clips"] = await run(clips.STAGE, video.id, out)
    out["captions"] = []
    for clip in out["clips"]:
        out["captions"] += await run(captions.STAGE, "", {"ingest": [video], "clips": [clip]})
    for module in (caption_check, events, event_captions, global_caption):
        out[module.STAGE.name] = await run(module.STAGE, video.id, out)
    out["qa"] = []
    for topic in TOPICS:
        for form in ("oe", "mc"):
            out["qa"] += await run(qa.STAGE, f"{video.id}:{topic.lower()}:{form}", out)
    out["verify"] = await run(verify.STAGE, video.id, out)
    return out


class Built:
    """A video of the world, built up to verify."""

    def __init__(self, folder: Path, seconds: int, seed: int) -> None:
        self.timeline = make_timeline(seconds, seed)
        truth = folder / f"{seconds}.truth.json"
        truth.write_text(self.timeline.to_json())
        self.video = Video(
            id=f"{seconds:016x}",
            path="a.mp4",
            duration_ms=seconds * 1000,
            width=320,
            height=180,
            average_fps=6,
            has_audio=False,
            content_digest="d",
            backend="truth",
            truth_path=truth.name,
        )
        self.make = lambda: asyncio.run(_build(self.video, TruthBackend(truth)))
        self.records = self.make()
        self.rows = [row for row in self.records["verify"] if isinstance(row, QAPair)]


@pytest.fixture(scope="module", params=SECONDS)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    return Built(tmp_path_factory.mktemp("truth"), request.param, seed=11)


def test_every_task_has_an_accepted_row_in_every_format(built: Built) -> None:
    accepted = Counter((r.task, r.format) for r in built.rows if r.status == "accepted")
    assert set(accepted) == {(t.slug, form) for t in TASKS for form in t.formats}


def test_nearly_all_rows_are_accepted(built: Built) -> None:
    refused = [(r.task, r.reasons) for r in built.rows if r.status != "accepted"]
    assert len(refused) <= 0.05 * len(built.rows), refused


def test_evidence_lies_inside_the_video_and_is_quoted_verbatim(built: Built) -> None:
    texts: dict[str | None, str] = {None: built.records["global_caption"][0].text}  # type: ignore[union-attr]
    for caption in built.records["caption_check"]:
        texts[caption.clip_id] = " ".join(caption.aspects.model_dump().values())  # type: ignore[union-attr]
    for event in built.records["event_captions"]:
        texts[event.id] = f"{event.title} {event.narrative}"  # type: ignore[union-attr]
    for row in built.rows:
        assert row.evidence or row.answer == "No", row
        for evidence in row.evidence:
            assert evidence.span.end_ms <= built.video.duration_ms
            assert evidence.quote in texts[evidence.clip_id or evidence.event_id]


def test_multiple_choice_has_exactly_one_right_option(built: Built) -> None:
    for row in built.rows:
        if row.format == "mc":
            assert row.options is not None
            assert row.options.count(row.answer) == 1
            assert len({option.casefold() for option in row.options}) in (2, 4)
            right = [o for o in row.options if _is_right(row, o, built.timeline)]
            assert right in ([row.answer], [None]) or not row.claim, row


def test_every_computed_answer_is_right_by_the_timeline(built: Built) -> None:
    computed = [row for row in built.rows if row.claim is not None]
    assert {row.task for row in computed} == {t.slug for t in TASKS if t.is_computed}
    for row in computed:
        assert _is_right(row, row.answer, built.timeline), row


def test_the_same_file_gives_the_same_rows(built: Built) -> None:
    if built.video.duration_ms > 600_000:
        pytest.skip("the shorter ones show it")
    assert built.make() == built.records


def _is_right(row: QAPair, said: str, timeline: Timeline) -> bool:
    """Answer a computed question from scenes and appearances, and compare."""
    assert row.claim is not None or row.format == "mc"
    if row.claim is None:
        return said == row.answer
    spans = {item.label: _seen(item.label, timeline) for item in row.claim.items}
    if row.task == "object_existence":
        found = _seen(str(row.claim.term), timeline) is not None
        return said == ("Yes" if found else "No")
    if row.task in ("duration_perception", "temporal_gap_estimation", "action_localization"):
        first, *others = sorted(span for span in spans.values() if span is not None)
        if row.task == "action_localization":
            return _clock_span(said) == first
        wanted = others[0][0] - first[1] if others else first[1] - first[0]
        return _seconds(said) == wanted
    ordered = sorted(spans, key=lambda label: spans[label] or (-1, -1))
    if row.task == "temporal_order":
        return said == ordered[0]
    return said == ", then ".join(ordered)


def _seen(label: str, timeline: Timeline) -> tuple[int, int] | None:
    """Find what a label names: a part of the video, a deed, a thing."""
    words = label.split()
    if " in the " in label or label.startswith(("A stretch", "Another stretch")):
        return timeline_scene(label, timeline)
    action = next((a for a in ("moves left", "moves right") if label.endswith(a)), words[-1])
    found = [
        (a.start_seconds, a.end_seconds)
        for a in timeline.appearances
        if a.shape in words
        and (a.colour in words or len(words) == 1)
        and (a.action == action or len(words) <= 2)
        and (a.pattern in words or not {"striped", "dotted"} & set(words))
    ]
    return found[0] if found else None


def timeline_scene(title: str, timeline: Timeline) -> tuple[int, int]:
    """Find the scene that an event's title names; with fewer than three the events part them."""
    name = next(
        word for word in reversed(title.split()) if word in {s.name for s in timeline.scenes}
    )
    (scene,) = [s for s in timeline.scenes if s.name == name]
    return scene.start_seconds, scene.end_seconds


def _seconds(text: str) -> int:
    parts = re.findall(r"(\d+) (hour|minute|second)s?", text)
    return sum(int(number) * _UNITS[unit] for number, unit in parts)


def _clock_span(text: str) -> tuple[int, int]:
    start, end = re.fullmatch(r"from ([\d:]+) to ([\d:]+)", text).groups()  # type: ignore[union-attr]
    return _clock(start), _clock(end)


def _clock(text: str) -> int:
    seconds = 0
    for part in text.split(":"):
        seconds = seconds * 60 + int(part)
    return seconds
