"""Pictures of clips: the same bytes in one pass or one by one, each second at its place."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from hour_llava.errors import VideoError
from hour_llava.videomarathon.frames import FrameServer, seconds_in
from hour_llava.videomarathon.records import Video

SECONDS = 43


@pytest.fixture(scope="module")
def footage(kit: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("footage")
    kit.write_footage(folder / "a.mp4", seconds=SECONDS, seed=4)
    (folder / "broken.mp4").write_bytes(b"no video")
    return folder


def video(path: str) -> Video:
    return Video(
        id=path,
        path=path,
        duration_ms=SECONDS * 1000,
        width=96,
        height=64,
        average_fps=4.0,
        has_audio=False,
        content_digest="d",
        backend="endpoint",
    )


def serve(
    source: Path, cache: Path, spans: list[tuple[int, int]], *, name: str = "a.mp4", expected: int
) -> list[Any]:
    async def work() -> list[Any]:
        server = FrameServer(source, cache, side=48, num_decoders=1)
        server.expect({name: expected})
        calls = (server(video(name), start, end) for start, end in spans)
        found = await asyncio.gather(*calls, return_exceptions=True)
        await server.close()
        return list(found)

    return asyncio.run(work())


SPANS = [(0, 10_000), (5_000, 15_000), (10_000, 20_000), (20_000, 30_500), (30_000, 43_000)]


def test_one_pass_and_single_windows_give_the_same_bytes(footage: Path, tmp_path: Path) -> None:
    in_one = serve(footage, tmp_path / "cache", SPANS, expected=len(SPANS))
    singly = serve(footage, tmp_path / "cache", SPANS, expected=0)
    assert in_one == singly
    for (start, end), pictures in zip(SPANS, in_one, strict=True):
        assert [ms for ms, _ in pictures] == list(range(start, end, 1000))
    assert not list((tmp_path / "cache").iterdir())  # nothing stays


def test_pictures_are_jpeg_of_the_asked_size(footage: Path, tmp_path: Path) -> None:
    (pictures,) = serve(footage, tmp_path / "cache", [(0, 2000)], expected=1)
    image = Image.open(io.BytesIO(pictures[0][1]))
    assert (image.format, image.size) == ("JPEG", (48, 32))


@pytest.mark.parametrize("expected", [0, 9])
def test_a_file_that_is_no_video_any_more_is_an_error_for_each_clip(
    footage: Path, tmp_path: Path, expected: int
) -> None:
    spans = [(0, 10_000), (10_000, 20_000)]
    found = serve(footage, tmp_path / "c", spans, name="broken.mp4", expected=expected)
    assert len(found) == 2
    assert all(isinstance(one, VideoError) for one in found)


def test_seconds_of_a_stretch() -> None:
    assert seconds_in(0, 30_000) == (0, 29)
    assert seconds_in(20_000, 50_001) == (20, 50)
    assert seconds_in(1_200, 1_700) == (1, 1)  # none begins there: the one that shows then
