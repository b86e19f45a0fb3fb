"""What is no video, or not a whole one, ends in one clear line, or in flagged frames."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from hour_llava.errors import BrokenVideoError, NoVideoStreamError, VideoNotFoundError
from hour_llava.video import probe, read_frames

Corpus, Code = Any, Callable[[np.ndarray], int]


@pytest.mark.parametrize(
    ("kind", "error", "words"),
    [
        ("zero_bytes", BrokenVideoError, "0 bytes"),
        ("text", NoVideoStreamError, "not a video file"),
        ("playlist", NoVideoStreamError, "not a video file"),
        ("picture_folder_listing", NoVideoStreamError, "playlist"),
        ("audio_only", NoVideoStreamError, "audio and no video"),
        ("audio_with_cover_art", NoVideoStreamError, "audio and cover art"),
        ("without_index", BrokenVideoError, "index"),
        ("index_without_data", BrokenVideoError, "no frames"),
        ("noise_in_packets", BrokenVideoError, "60 packets of h264"),
    ],
)
def test_files_that_are_no_video_are_named_with_the_reason(
    corpus: Corpus, kind: str, error: type[Exception], words: str
) -> None:
    path = corpus[kind].path
    with pytest.raises(error, match=words) as caught:
        read_frames(path, isolated=False)
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message and "; " in message


def test_a_child_reports_the_same_error(corpus: Corpus) -> None:
    path = corpus["audio_only"].path
    with pytest.raises(NoVideoStreamError) as ours:
        read_frames(path, isolated=False)
    with pytest.raises(NoVideoStreamError) as the_childs:
        read_frames(path)
    assert str(ours.value) == str(the_childs.value)


def test_paths_that_are_no_file_are_named_with_the_reason(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    cases = {
        tmp_path / "missing.mp4": "does not exist",
        tmp_path: "is a folder",
        tmp_path / "pipe.mp4": "not a regular file",
        "https://example.org/a.mp4": "is a URL",
        Path("https://example.org/a.mp4"): "is a URL",
        "nul\0byte.mp4": "no usable path",
        "": "path is empty",
    }
    for path, words in cases.items():
        with pytest.raises(VideoNotFoundError, match=words):
            read_frames(path, isolated=False)
    with pytest.raises(VideoNotFoundError, match="does not exist"):
        probe(tmp_path / "missing.mp4")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_named(corpus: Corpus, tmp_path: Path) -> None:
    path = tmp_path / "locked.mp4"
    path.write_bytes(corpus["h264_mp4"].path.read_bytes())
    path.chmod(0)
    with pytest.raises(VideoNotFoundError, match="may not be read"):
        read_frames(path)


def test_a_permission_that_is_refused_is_named(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(VideoNotFoundError, match="may not be read"):
        read_frames(corpus["h264_mp4"].path, isolated=False)


@pytest.mark.parametrize("name", ["odd name.mp4", "-dash.mp4", "a:b.mp4", "pat%03d.mp4", "é\n.mp4"])
def test_any_file_name_is_just_a_name(corpus: Corpus, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(corpus["h264_mp4"].path.read_bytes())
    with read_frames(path, fps=0.5, isolated=name.endswith("\n.mp4")) as reader:
        assert len(list(reader)) == 3


@pytest.mark.parametrize("kind", ["cut_off_index_in_front", "cut_off_mkv"])
def test_a_file_that_ends_early_gives_what_is_there_and_says_so(
    corpus: Corpus, code_of: Code, kind: str
) -> None:
    clip = corpus[kind]
    with read_frames(clip.path, isolated=False) as reader:
        frames = list(reader)
    assert len(frames) == reader.num_frames == 4
    assert [code_of(f.rgb) for f in frames if not f.is_damaged] == [0, 10, 20, 30][
        : sum(not f.is_damaged for f in frames)
    ]
    last = reader.damage[-1]
    assert "ends early" in last.reason and last.end_seconds == pytest.approx(6.0, abs=0.3)
    assert probe(clip.path).damage[-1].end_seconds == last.end_seconds


def packets_of(path: Path) -> list[tuple[int, int]]:
    with av.open(str(path)) as container:
        return [(p.pos, p.size) for p in container.demux(video=0) if p.size and p.pos is not None]


def spoil(path: Path, data: bytes, kind: str, rng: random.Random) -> None:
    """Damage a packet in the middle: unwritten, overwritten, or a burst across packets."""
    packets = packets_of(path)
    position, size = packets[rng.randrange(8, len(packets) - 8)]
    spoilt = bytearray(data)
    if kind == "unwritten":
        spoilt[position + 8 : position + size] = bytes(size - 8)
    elif kind == "overwritten":
        spoilt[position : position + size] = rng.randbytes(size)
    else:
        spoilt[position : position + 3 * size] = rng.randbytes(3 * size)
    path.write_bytes(spoilt)


@pytest.mark.parametrize("damage", ["unwritten", "overwritten", "burst"])
@pytest.mark.parametrize("kind", ["h264_mp4", "open_gop_h264_mp4"])
@pytest.mark.parametrize("fps", [1.0, 10.0])
def test_damage_in_the_middle_is_never_silent(
    corpus: Corpus, tmp_path: Path, kind: str, damage: str, fps: float
) -> None:
    clip = corpus[kind]
    with read_frames(clip.path, fps=fps, isolated=False) as reader:
        whole = [(f.pts_seconds, f.rgb) for f in reader]
    path = tmp_path / clip.path.name
    for seed in range(4):
        path.write_bytes(clip.path.read_bytes())
        spoil(path, clip.path.read_bytes(), damage, random.Random(seed))

        with read_frames(path, fps=fps, isolated=False) as reader:
            frames = list(reader)

        assert len(frames) == len(whole)
        for frame, (pts, rgb) in zip(frames, whole, strict=True):
            if not frame.is_damaged:
                assert frame.pts_seconds == pts and np.array_equal(frame.rgb, rgb), frame.index
            else:
                spans = [(s.start_seconds, s.end_seconds) for s in reader.damage]
                assert any(a - 1e-6 <= frame.tick_seconds <= b + 1.0 for a, b in spans)
        assert reader.damage or fps == 1.0


def test_frames_after_the_next_key_frame_are_sound_again(corpus: Corpus, tmp_path: Path) -> None:
    clip = corpus["h264_mp4"]  # key frames at 0, 2.5 and 5 s
    data = bytearray(clip.path.read_bytes())
    position, size = packets_of(clip.path)[27]
    data[position : position + size] = random.Random(1).randbytes(size)
    path = tmp_path / "spoilt.mp4"
    path.write_bytes(data)
    with read_frames(path, fps=10, isolated=False) as reader:
        flags = [frame.is_damaged for frame in reader]
    assert not any(flags[:25]) and any(flags[26:50]) and not any(flags[50:])
    (span,) = reader.damage
    assert 2.5 <= span.start_seconds < 3.2 and span.end_seconds == pytest.approx(5.0)


def test_a_lost_key_frame_costs_its_gop_only(corpus: Corpus, code_of: Code, tmp_path: Path) -> None:
    clip = corpus["h264_mp4"]
    data = bytearray(clip.path.read_bytes())
    position, size = packets_of(clip.path)[25]
    data[position : position + size] = random.Random(1).randbytes(size)
    path = tmp_path / "spoilt.mp4"
    path.write_bytes(data)
    with read_frames(path) as reader:
        frames = list(reader)
    assert [f.is_damaged for f in frames] == [False, False, False, True, True, False]
    assert [code_of(f.rgb) for f in frames if not f.is_damaged] == [0, 10, 20, 50]


@pytest.mark.parametrize("packet", [0, 25, 50])
def test_resuming_in_a_damaged_gop_gives_what_reading_through_gives(
    corpus: Corpus, tmp_path: Path, packet: int
) -> None:
    """Also in the first GOP, which has nothing before it, and in the last."""
    clip = corpus["h264_mp4"]
    data = bytearray(clip.path.read_bytes())
    for position, size in packets_of(clip.path)[packet : packet + 10]:
        data[position : position + size] = random.Random(1).randbytes(size)
    path = tmp_path / "spoilt.mp4"
    path.write_bytes(data)
    with read_frames(path, fps=4, isolated=False) as reader:
        whole = list(reader)
    assert len(whole) == 24 and 4 <= sum(f.is_damaged for f in whole) <= 12
    for first in (0, packet * 4 // 10, packet * 4 // 10 + 1, 23):
        with read_frames(path, fps=4, first_index=first, isolated=False) as reader:
            rest = list(reader)
        for ours, theirs in zip(rest, whole[first:], strict=True):
            assert ours.pts_seconds == theirs.pts_seconds
            assert np.array_equal(ours.rgb, theirs.rgb)


def test_a_picture_that_no_decoder_can_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "drawing.svg"
    path.write_text('<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"></svg>')
    with pytest.raises(NoVideoStreamError, match="no decoder here can read"):
        read_frames(path, isolated=False)


def test_frames_told_apart_by_counting_never_go_back_in_time(
    corpus: Corpus, tmp_path: Path
) -> None:
    clip = corpus["h264_b_frames_avi"]  # key frames at 0, 2.5 and 5 s; no times of their own
    data = bytearray(clip.path.read_bytes())
    for position, size in packets_of(clip.path)[8:24]:
        data[position : position + size] = bytes(size)
    path = tmp_path / "spoilt.avi"
    path.write_bytes(data)
    with read_frames(path, fps=10, isolated=False) as reader:
        frames = list(reader)
    times = [frame.pts_seconds for frame in frames]
    assert len(times) == 60 and times == sorted(times)
    assert frames[-1].is_damaged and reader.damage
