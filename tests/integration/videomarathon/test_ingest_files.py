"""ingest on real files: what is a video, what is set aside and why."""

from __future__ import annotations

import asyncio
import os
import wave
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from hour_llava.videomarathon.records import SetAside, Video, from_json, to_json
from hour_llava.videomarathon.settings import BuildSettings
from hour_llava.videomarathon.stage import Tools, Unit
from hour_llava.videomarathon.stages import ingest

Ingest = Callable[..., Video | SetAside]


def _write(path: Path, times: list[int], *, turned: int = 0) -> Path:
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 10)
        if turned:
            stream.set_display_rotation(-turned)
        for time in times:
            grey = np.full((32, 64, 3), time % 200, np.uint8)
            frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def six_seconds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write(tmp_path_factory.mktemp("six") / "six.mp4", list(range(60)))


@pytest.fixture
def read(tmp_path: Path) -> Ingest:
    """Return a function that ingests a file with limits of 3 to 30 seconds."""

    async def frames(video: Video, start_ms: int, end_ms: int) -> Any:
        raise AssertionError("ingest looks at no pictures")

    async def ask(request: Any) -> Any:
        raise AssertionError("ingest asks nobody")

    def run(file: Path, **more: Any) -> Video | SetAside:
        settings = BuildSettings(source=".", min_minutes=0.05, max_minutes=0.5, licence="CC0")
        values = {
            **ingest.STAGE.parameters(settings),
            "file": str(file),
            "path": file.name,
            "truth": None,
            "backend": "embedded",
            **more,
        }
        tools = Tools(ask=ask, frames=frames)
        (row,) = asyncio.run(ingest.STAGE.run(Unit(id="u", inputs={}), values, tools))
        assert isinstance(row, Video | SetAside)
        assert from_json(to_json(row)) == row
        return row

    return run


def test_a_video_is_measured_and_named_by_its_content(read: Ingest, six_seconds: Path) -> None:
    row = read(six_seconds)
    assert isinstance(row, Video)
    assert (row.duration_ms, row.width, row.height) == (6000, 64, 32)
    assert (row.average_fps, row.has_audio, row.licence) == (10.0, False, "CC0")
    assert row.backend == "embedded"
    assert read(six_seconds) == row


@pytest.mark.parametrize(
    "name",
    ["two words.mp4", "quote\"'s.mp4", "new\nline.mp4", "影片 видео.mp4", "-rf.mp4", "$x.mp4"],
)
def test_any_name_is_read(read: Ingest, six_seconds: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(six_seconds.read_bytes())
    row = read(tmp_path / name)
    assert isinstance(row, Video)
    assert row.path == name
    assert row.id == read(six_seconds).id  # type: ignore[union-attr]


def test_a_name_that_is_not_utf8_is_set_aside(
    read: Ingest, six_seconds: Path, tmp_path: Path
) -> None:
    name = os.fsdecode(b"na\xefve.mp4")
    (tmp_path / name).write_bytes(six_seconds.read_bytes())
    row = read(tmp_path / name)
    assert isinstance(row, SetAside)
    assert (row.reason, row.path) == ("unreadable", "na\\udcefve.mp4")


def _bad_files(folder: Path, good: Path) -> dict[str, tuple[Path, str]]:
    empty, words, cut, sound = (folder / n for n in ("e.mp4", "w.mp4", "c.mp4", "s.wav"))
    empty.write_bytes(b"")
    words.write_text("no video " * 200)
    data = good.read_bytes()
    cut.write_bytes(data[: data.index(b"mdat") + 100])
    with wave.open(str(sound), "wb") as file:
        file.setparams((1, 2, 8000, 8000, "NONE", ""))
        file.writeframes(bytes(16000))
    return {
        "missing": (folder / "nowhere.mp4", "unreadable"),
        "empty": (empty, "empty"),
        "text": (words, "no_video"),
        "cut off": (cut, "unreadable"),
        "sound only": (sound, "no_video"),
        "folder": (folder, "unreadable"),
    }


@pytest.mark.parametrize("kind", ["missing", "empty", "text", "cut off", "sound only", "folder"])
def test_what_is_no_video_is_a_row_with_its_reason(
    read: Ingest, six_seconds: Path, tmp_path: Path, kind: str
) -> None:
    file, reason = _bad_files(tmp_path, six_seconds)[kind]
    row = read(file)
    assert isinstance(row, SetAside)
    assert (row.stage, row.reason, row.path) == ("ingest", reason, file.name)
    assert str(tmp_path) not in row.detail or kind == "folder"
    assert "\n" not in row.detail


def test_lengths_outside_the_limits_are_set_aside_with_both_numbers(
    read: Ingest, tmp_path: Path
) -> None:
    one = read(_write(tmp_path / "one.mp4", [0]))
    long = read(_write(tmp_path / "long.mp4", [0, 10, 18_000]))
    assert isinstance(one, SetAside)
    assert isinstance(long, SetAside)
    assert (one.reason, one.detail) == ("too_short", "lasts 100 ms, at least 3 seconds is asked")
    assert long.reason == "too_long"
    assert long.detail.endswith("at most 30 seconds is asked")


def test_a_second_of_tolerance_on_both_ends(read: Ingest, tmp_path: Path) -> None:
    assert isinstance(read(_write(tmp_path / "a.mp4", list(range(21)))), Video)
    assert isinstance(read(_write(tmp_path / "b.mp4", list(range(309)))), Video)
    assert isinstance(read(_write(tmp_path / "c.mp4", list(range(19)))), SetAside)


def test_rotated_and_variable_rate_videos_are_videos(read: Ingest, tmp_path: Path) -> None:
    rotated = read(_write(tmp_path / "r.mp4", list(range(60)), turned=90))
    variable = read(_write(tmp_path / "v.mp4", [0, 1, 2, 20, 21, 40, 59]))
    assert isinstance(rotated, Video)
    assert isinstance(variable, Video)
    assert variable.duration_ms == pytest.approx(6000, abs=200)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with twenty seconds of the world, its truth, and a truth of another seed."""
    from hour_llava.world.timeline import make_timeline
    from hour_llava.world.video_file import write_video

    folder = tmp_path_factory.mktemp("world")
    timeline = make_timeline(20, 3)
    write_video(timeline, folder / "video.mp4", fps=4, width=160, height=90)
    write_video(timeline, folder / "again.mp4", fps=5, width=96, height=64, codec="mpeg4")
    (folder / "truth.json").write_text(timeline.to_json())
    (folder / "other.json").write_text(make_timeline(20, 4).to_json())
    (folder / "longer.json").write_text(make_timeline(25, 3).to_json())
    (folder / "broken.json").write_text('{"format": "marathon_world"')
    return folder


@pytest.mark.parametrize("name", ["video.mp4", "again.mp4"])
def test_a_truth_file_fits_its_video_also_re_encoded(read: Ingest, world: Path, name: str) -> None:
    row = read(world / name, truth=str(world / "truth.json"), backend="truth")
    assert isinstance(row, Video)
    assert (row.backend, row.truth_path) == ("truth", "truth.json")
    assert row.truth_digest


@pytest.mark.parametrize(
    ("truth", "why"),
    [
        ("other.json", "other pictures"),
        ("longer.json", "tells of 25 s, the video lasts 20 s"),
        ("broken.json", "not a MarathonWorld timeline"),
        ("none.json", "cannot be read"),
    ],
)
def test_a_truth_file_of_another_video_is_refused(
    read: Ingest, world: Path, truth: str, why: str
) -> None:
    row = read(world / "video.mp4", truth=str(world / truth), backend="truth")
    assert isinstance(row, SetAside)
    assert row.reason == "bad_truth"
    assert why in row.detail
    assert str(world) not in row.detail
