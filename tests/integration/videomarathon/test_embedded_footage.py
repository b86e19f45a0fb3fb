"""The embedded backend on ordinary footage: what it claims is so, by the recipe of the footage."""

from __future__ import annotations

import asyncio
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from hour_llava.tasks import TOPICS
from hour_llava.videomarathon.backends.embedded import EmbeddedBackend
from hour_llava.videomarathon.backends.measures import colour_runs, measure, motion_runs
from hour_llava.videomarathon.records import (
    Aspects,
    ClipCaption,
    Event,
    QAPair,
    Record,
    SetAside,
    Span,
    Video,
)
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
)

RGB = {
    "red": (200, 30, 30),
    "green": (40, 170, 60),
    "blue": (30, 60, 200),
    "yellow": (220, 210, 40),
    "white": (245, 245, 245),
    "black": (8, 8, 8),
}
SHOTS = (("blue", 37), ("red", 21), ("black", 44), ("green", 30), ("blue", 26), ("white", 22))
"""Colour and seconds; the third shot stands still, in all others a bar moves."""
STILL = 2
SECONDS = sum(seconds for _, seconds in SHOTS)
STARTS = [sum(s for _, s in SHOTS[:i]) for i in range(len(SHOTS))]


def _picture(second: float) -> np.ndarray:
    number = max(i for i, start in enumerate(STARTS) if start <= second)
    shade = np.linspace(0.9, 1.1, 96)[None, :, None]
    rgb = np.clip(np.array(RGB[SHOTS[number][0]]) * shade, 0, 255)
    rgb = np.broadcast_to(rgb, (54, 96, 3)).astype(np.uint8).copy()
    if number != STILL:
        x = int(second * 12) % 80
        rgb[:, x : x + 16] = 128
    return rgb


def _write(path: Path, codec: str = "libx264", fps: int = 4) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = 96, 54, "yuv420p"
        stream.time_base = Fraction(1, fps)
        for index in range(SECONDS * fps):
            frame = av.VideoFrame.from_ndarray(_picture(index / fps), format="rgb24")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def _video(file: Path, seconds: int) -> Video:
    return Video(
        id="00000000000000aa",
        path=file.name,
        duration_ms=seconds * 1000,
        width=96,
        height=54,
        average_fps=4,
        has_audio=False,
        content_digest="d",
        backend="embedded",
    )


async def _build(file: Path, video: Video) -> dict[str, list[Record]]:
    settings, backend = BuildSettings(source="."), EmbeddedBackend(file.parent)

    async def ask(request: Request) -> Reply:
        return await backend.answer(request)

    async def frames(video: Video, start_ms: int, end_ms: int) -> Any:
        raise AssertionError("it reads its own pictures")

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
        if isinstance(out[module.STAGE.name][0], SetAside):
            return out
    out["qa"] = []
    for topic in TOPICS:
        for form in ("oe", "mc"):
            out["qa"] += await run(qa.STAGE, f"{video.id}:{topic.lower()}:{form}", out)
    return out


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Record]]:
    file = _write(tmp_path_factory.mktemp("footage") / "a.mp4")
    return asyncio.run(_build(file, _video(file, SECONDS)))


def _share(span: Span, colour: str) -> float:
    """Return which part of a stretch is of a shot of a colour."""
    shown = 0
    for start, (name, seconds) in zip(STARTS, SHOTS, strict=True):
        shot = Span(start_ms=start * 1000, end_ms=(start + seconds) * 1000)
        shown += span.overlap_ms(shot) if name == colour else 0
    return shown / span.duration_ms


def test_every_cut_that_is_told_is_there_and_all_are_told(built: dict[str, list[Record]]) -> None:
    told: set[int] = set()
    for caption in built["captions"]:
        assert isinstance(caption, ClipCaption)
        for minutes, seconds in re.findall(r"(\d+):(\d\d)", caption.aspects.temporality):
            told.add(int(minutes) * 60 + int(seconds))
    assert told == set(STARTS[1:])


def test_colours_that_are_told_fill_the_picture(built: dict[str, list[Record]]) -> None:
    num_told = 0
    for caption in built["captions"]:
        assert isinstance(caption, ClipCaption)
        for colour in re.findall(r"mostly (\w+)", caption.aspects.scene):
            num_told += 1
            assert _share(caption.span, colour) >= 0.5, caption
    assert num_told >= 5


def test_stillness_is_told_where_nothing_moves(built: dict[str, list[Record]]) -> None:
    start = STARTS[STILL] * 1000
    still = Span(start_ms=start, end_ms=start + SHOTS[STILL][1] * 1000)
    for caption in built["captions"]:
        assert isinstance(caption, ClipCaption)
        aspects: Aspects = caption.aspects
        shared = caption.span.overlap_ms(still)
        if shared == caption.span.duration_ms:
            assert aspects.action == "The picture hardly moves."
        if shared == 0:
            assert "hardly" not in aspects.action


def test_no_things_are_claimed(built: dict[str, list[Record]]) -> None:
    for caption in built["captions"]:
        assert isinstance(caption, ClipCaption)
        assert caption.aspects.object == "Which things are to be seen is not measured."
        assert caption.is_usable


def test_events_are_the_shots_with_names_of_their_own(built: dict[str, list[Record]]) -> None:
    found = [e for e in built["event_captions"] if isinstance(e, Event)]
    assert [round(e.span.start_ms / 1000) for e in found] == STARTS
    assert found[-1].span.end_ms == SECONDS * 1000
    assert [e.title for e in found][:2] == ["The first mostly blue part", "The mostly red part"]
    assert len({e.title for e in found}) == len(found)


def test_questions_are_of_computed_tasks_and_marked(built: dict[str, list[Record]]) -> None:
    rows = [row for row in built["qa"] if isinstance(row, QAPair)]
    assert {row.provenance.backend for row in rows} == {"embedded"}
    tasks = {row.task for row in rows}
    assert {"duration_perception", "temporal_gap_estimation", "temporal_order"} <= tasks
    assert {"object_existence", "action_localization", "event_sequence"} <= tasks
    assert all(row.claim for row in rows if row.task != "overall_summarization")


def _when(title: str) -> tuple[int, int]:
    """Find the shot that a part's title names, by the recipe."""
    colour = next(name for name in RGB if name in title)
    shots = [i for i, (name, _) in enumerate(SHOTS) if name == colour]
    number = shots[1] if "second" in title else shots[0]
    return STARTS[number], STARTS[number] + SHOTS[number][1]


def _seconds(text: str) -> int:
    units = {"minute": 60, "second": 1}
    return sum(int(n) * units[u] for n, u in re.findall(r"(\d+) (minute|second)", text))


def test_every_answer_is_right_by_the_recipe(built: dict[str, list[Record]]) -> None:
    for row in built["qa"]:
        assert isinstance(row, QAPair)
        if row.claim is None:
            continue
        titles = re.findall(r'"([^"]+)"', row.question)
        match row.claim.claim:
            case "duration":
                start, end = _when(titles[0])
                assert abs(_seconds(row.answer) - (end - start)) <= 1, row
            case "gap":
                (_, end), (start, _) = sorted(map(_when, titles))
                assert abs(_seconds(row.answer) - (start - end)) <= 1, row
            case "order":
                ordered = sorted(titles, key=_when)
                assert row.answer in (ordered[0], ", then ".join(ordered)), row
            case "existence":
                colour = row.claim.term.split()[-1]  # type: ignore[union-attr]
                assert row.answer == ("Yes" if colour in {c for c, _ in SHOTS} else "No"), row
            case "localization":
                clock = [int(m) * 60 + int(s) for m, s in re.findall(r"(\d+):(\d\d)", row.answer)]
                start = STARTS[STILL]
                assert clock[0] == pytest.approx(start, abs=2)
                assert clock[1] == pytest.approx(start + SHOTS[STILL][1], abs=2)


def test_a_world_video_without_its_truth_is_measured_rightly(tmp_path: Path) -> None:
    from hour_llava.world.timeline import make_timeline
    from hour_llava.world.video_file import write_video

    timeline = make_timeline(180, 1)
    write_video(timeline, tmp_path / "w.mp4", fps=4, width=160, height=90, codec="mpeg4")
    measures = measure(str(tmp_path / "w.mp4"), 180_000)
    scenes = {scene.start_seconds for scene in timeline.scenes[1:]}
    assert {round(cut / 1000) for cut in measures.cuts()} <= scenes
    assert len(measures.light_T) == 2 * 180


def test_footage_without_any_change_is_set_aside(tmp_path: Path) -> None:
    file = tmp_path / "plain.mp4"
    with av.open(str(file), "w") as container:
        stream = container.add_stream("mpeg4", rate=2)
        stream.width, stream.height, stream.pix_fmt = 64, 36, "yuv420p"
        stream.time_base = Fraction(1, 2)
        for index in range(180 * 2):
            frame = av.VideoFrame.from_ndarray(np.full((36, 64, 3), 90, np.uint8), format="rgb24")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    (row,) = asyncio.run(_build(file, _video(file, 180)))["events"]
    assert isinstance(row, SetAside)
    assert row.reason == "too_few_events"


def test_fades_are_no_cuts_and_still_part_the_video(tmp_path: Path) -> None:
    file = tmp_path / "fade.mp4"
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=4)
        stream.width, stream.height, stream.pix_fmt = 64, 36, "yuv420p"
        stream.time_base = Fraction(1, 4)
        blue, red = np.array(RGB["blue"]), np.array(RGB["red"])
        for index in range(60 * 4):
            mix = min(max((index / 4 - 20) / 20, 0), 1)
            colour = (blue * (1 - mix) + red * mix).astype(np.uint8)
            rgb = np.broadcast_to(colour, (36, 64, 3)).copy()
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    measures = measure(str(file), 60_000)
    assert measures.cuts() == []
    labels = [run.label for run in colour_runs(measures, 5)]
    assert labels[0] == "blue"
    assert labels[-1] == "red"
    assert all(run.num_ticks >= 10 for run in motion_runs(measures, 5))
