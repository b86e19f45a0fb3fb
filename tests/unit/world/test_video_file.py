from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from hour_llava.errors import HourLlavaError
from hour_llava.world.render import COLOUR_RGB, Renderer
from hour_llava.world.timeline import Timeline, make_timeline, pose_at
from hour_llava.world.video_file import write_video


def test_the_mp4_is_ordinary_h264_of_the_exact_length(minute: Timeline, minute_mp4: Path):
    with av.open(str(minute_mp4)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert (stream.width, stream.height) == (320, 180)
        assert stream.codec_context.pix_fmt == "yuv420p"
        times = [frame.time for frame in container.decode(stream)]
    assert np.allclose(times, np.arange(360) / 6)


def test_the_mp4_says_nothing_of_the_truth(minute_mp4: Path):
    with av.open(str(minute_mp4)) as container:
        assert set(container.metadata) <= {"major_brand", "minor_version", "compatible_brands"}
        metadata = container.streams.video[0].metadata
        assert set(metadata) <= {"language", "handler_name", "vendor_id"}
        assert metadata["handler_name"] == "VideoHandler"
    content = minute_mp4.read_bytes().lower()
    words = (b"marathon", b"timeline", b"truth", b"scene_", b"absent", b"hour-llava", b"mushroom")
    assert not any(word in content for word in words)


def test_decoded_frames_show_each_needle_in_its_colour(
    minute: Timeline, minute_mp4: Path, decode_ticks: Callable[[Path], dict[int, np.ndarray]]
):
    renderer, decoded = Renderer(), decode_ticks(minute_mp4)
    assert sorted(decoded) == list(range(60))
    num_checked = 0
    for needle in minute.needles:
        rest = tuple(a for a in minute.appearances if a is not needle)
        other = replace(minute, appearances=rest)
        for second in range(needle.start_seconds, needle.end_seconds):
            if needle.colour is None or needle.ringed or pose_at(needle, second) is None:
                continue
            changed = renderer.render(minute, second) != renderer.render(other, second)
            middle = np.median(decoded[second][changed.any(axis=-1)], axis=0)
            assert np.abs(middle - COLOUR_RGB[needle.colour]).max() < 40
            num_checked += 1
    assert num_checked >= 6


def test_decoded_frames_are_the_rendered_ones(
    minute: Timeline, minute_mp4: Path, decode_ticks: Callable[[Path], dict[int, np.ndarray]]
):
    renderer = Renderer()
    for second, frame in decode_ticks(minute_mp4).items():
        error = np.abs(frame.astype(int) - renderer.render(minute, second).astype(int))
        assert error.mean() < 8


def test_progress_ends_at_all_frames(tmp_path: Path):
    clip = make_timeline(14, 1)
    calls: list[tuple[int, int]] = []
    write_video(clip, tmp_path / "a.mp4", progress=lambda done, of: calls.append((done, of)))
    assert calls[-1] == (84, 84)
    assert calls == sorted(calls)


@pytest.mark.parametrize("codec", ["mpeg4", "libvpx-vp9"])
def test_other_codecs_sizes_and_rates(
    tmp_path: Path,
    codec: str,
    decode_ticks: Callable[[Path], dict[int, np.ndarray]],
):
    clip = make_timeline(14, 1)
    write_video(clip, tmp_path / "a.mp4", codec=codec, fps=10, width=256, height=144)
    decoded = decode_ticks(tmp_path / "a.mp4")
    assert sorted(decoded) == list(range(14))
    assert decoded[0].shape == (144, 256, 3)


def test_a_failed_write_leaves_nothing(tmp_path: Path, minute: Timeline):
    def fail(done: int, of: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_video(minute, tmp_path / "a.mp4", progress=fail)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [(321, 180), (0, 0), (320, 16)])
def test_sizes_that_cannot_be_encoded_are_refused(
    tmp_path: Path, minute: Timeline, size: tuple[int, int]
):
    with pytest.raises(HourLlavaError, match="even numbers"):
        write_video(minute, tmp_path / "a.mp4", width=size[0], height=size[1])


def test_an_unknown_codec_is_one_clear_error(tmp_path: Path, minute: Timeline):
    with pytest.raises(HourLlavaError, match="no encoder 'theora9'"):
        write_video(minute, tmp_path / "a.mp4", codec="theora9")
    assert list(tmp_path.iterdir()) == []
