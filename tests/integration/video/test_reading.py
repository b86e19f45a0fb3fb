"""Rates, crops, resuming, digests: what callers ask of a sound file."""

from __future__ import annotations

import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from hour_llava.errors import VideoError
from hour_llava.video import probe, read_frames

Corpus, Code = Any, Callable[[np.ndarray], int]


@pytest.mark.parametrize("fps", [0.25, 1 / 3, 1.0, 7.77, 10.0, 23.976, 60.0])
def test_any_rate_shows_the_last_frame_not_later_than_each_tick(
    corpus: Corpus, code_of: Code, fps: float
) -> None:
    clip = corpus["variable_rate_mp4"]
    with read_frames(clip.path, fps=fps, isolated=False) as reader:
        frames = [(code_of(f.rgb), pytest.approx(f.pts_seconds, abs=1e-9)) for f in reader]
    assert [(code, float(time)) for code, time in clip.expected(fps)] == frames


@pytest.mark.parametrize("kind", ["h264_mp4", "open_gop_h264_mp4", "open_gop_hevc_mkv"])
def test_crops_count_ticks_from_their_start(corpus: Corpus, code_of: Code, kind: str) -> None:
    clip = corpus[kind]
    for start, end in ((0.0, 2.0), (1.75, 4.05), (3.3, 100.0), (5.85, 6.0)):
        with read_frames(
            clip.path, fps=4, start_seconds=start, end_seconds=end, isolated=False
        ) as reader:
            frames = [(f.index, f.tick_seconds, code_of(f.rgb), f.is_damaged) for f in reader]
        expected = [
            (i, pytest.approx(start + i / 4), code, False)
            for i, (code, _) in enumerate(clip.expected(4, start, end))
        ]
        assert frames == expected and reader.num_frames == len(expected)


def test_a_crop_outside_the_video_is_refused_with_both_numbers(corpus: Corpus) -> None:
    path = corpus["h264_mp4"].path
    with pytest.raises(VideoError, match="start is 60 s, but the video lasts 6 s"):
        read_frames(path, start_seconds=60)
    with pytest.raises(VideoError, match="end is"):
        read_frames(path, start_seconds=2, end_seconds=1)
    with pytest.raises(VideoError, match="fps is 0"):
        read_frames(path, fps=0)


@pytest.mark.parametrize(
    "kind",
    ["h264_mp4", "open_gop_h264_mp4", "open_gop_hevc_mkv", "late_mpegts", "vp9_webm", "av1_mkv",
     "mpeg2_ts", "mpeg4_avi", "trimmed_by_edit_list_mp4", "two_edits_mp4", "raw_h264", "flv",
     "offset_mkv", "fragmented_mp4", "intra_refresh_ts"],
)  # fmt: skip
def test_resuming_at_any_tick_gives_the_rest_bit_for_bit(corpus: Corpus, kind: str) -> None:
    path = corpus[kind].path
    with read_frames(path, fps=2, isolated=False) as reader:
        whole = list(reader)
    for first in (0, 1, len(whole) // 2, len(whole) - 1, len(whole), len(whole) + 5):
        with read_frames(path, fps=2, first_index=first, isolated=False) as reader:
            rest = list(reader)
        assert reader.num_frames == len(rest) == max(0, len(whole) - first)
        for ours, theirs in zip(rest, whole[first:], strict=True):
            assert (ours.index, ours.pts_seconds) == (theirs.index, theirs.pts_seconds)
            assert np.array_equal(ours.rgb, theirs.rgb) and not ours.is_damaged


def test_resuming_reads_no_packet_before_its_gop(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hour_llava.video import decode

    seen: list[int] = []
    read_packets = decode.PlannedDecode._packets

    def watched(self: Any, *args: Any) -> Any:
        for number, packet in read_packets(self, *args):
            seen.append(args[2])
            yield number, packet

    monkeypatch.setattr(decode.PlannedDecode, "_packets", watched)
    with read_frames(corpus["h264_mp4"].path, first_index=5, isolated=False) as reader:
        assert [f.index for f in reader] == [5]
    assert min(seen) == 50


def remux(source: Path, target: Path, scale: int = 1) -> Path:
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None:
                packet.pts, packet.dts = packet.pts * scale, packet.dts * scale
                packet.stream = stream
                new.mux(packet)
    return target


def test_a_digest_names_what_is_shown_and_when(corpus: Corpus, tmp_path: Path) -> None:
    source = corpus["h264_mp4"].path
    digest = probe(source).content_digest
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(source.read_bytes())

    assert probe(copy).content_digest == digest
    assert probe(remux(source, tmp_path / "remuxed.mkv")).content_digest == digest
    assert probe(remux(source, tmp_path / "slower.mp4", scale=2)).content_digest != digest
    others = ("hevc_mp4", "variable_rate_mp4", "rotated_180_mp4")
    assert len({digest, *(probe(corpus[kind].path).content_digest for kind in others)}) == 4


def test_infos_are_measured_and_not_read_from_headers(corpus: Corpus) -> None:
    info = probe(corpus["lying_durations_mp4"].path)
    assert info.duration_seconds == pytest.approx(6.0)
    assert (info.codec, info.width, info.height) == ("h264", 192, 96)
    assert (info.num_packets, info.num_keyframes) == (60, 3)
    assert info.average_fps == pytest.approx(10.0) and not info.is_variable_frame_rate
    assert not info.has_audio and not info.damage

    assert probe(corpus["h264_mp4"].path).has_audio
    assert probe(corpus["variable_rate_mkv"].path).is_variable_frame_rate
    assert probe(corpus["holes_mp4"].path).is_variable_frame_rate
    assert not probe(corpus["offset_mkv"].path).is_variable_frame_rate
    assert probe(corpus["late_mpegts"].path).start_seconds == pytest.approx(12347, abs=0.5)
    turned = probe(corpus["rotated_90_mp4"].path)
    assert (turned.width, turned.height, turned.rotation_degrees) == (192, 96, 90)
    film = probe(corpus["ntsc_film_mp4"].path)
    assert film.average_fps == pytest.approx(24000 / 1001) and not film.is_variable_frame_rate


def test_colours_follow_the_matrix_the_file_names(tmp_path: Path) -> None:
    """The same YUV values are another RGB colour in BT.709 than in BT.601."""
    colours = {}
    for name, number in (("bt709", 1), ("smpte170m", 6)):
        path = tmp_path / f"{name}.mkv"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("ffv1", rate=1)
            stream.width = stream.height = 64
            stream.pix_fmt = "yuv420p"
            stream.codec_context.colorspace = number
            frame = av.VideoFrame(64, 64, "yuv420p")
            for plane, value in zip(frame.planes, (120, 90, 200), strict=True):
                plane.update(bytes([value]) * plane.buffer_size)
            frame.pts, frame.time_base, frame.colorspace = 0, Fraction(1), number
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        with read_frames(path, isolated=False) as reader:
            (shown,) = reader
        colours[name] = shown.rgb[32, 32].astype(int)
    y, cb, cr = 255 / 219 * (120 - 16), 90 - 128, 200 - 128
    for name, (red, blue) in {"bt709": (1.7927, 2.1124), "smpte170m": (1.596, 2.0172)}.items():
        assert colours[name][0] == pytest.approx(y + red * cr, abs=2)
        assert colours[name][2] == pytest.approx(y + blue * cb, abs=2)


def test_importing_the_reader_loads_neither_torch_nor_a_decoder() -> None:
    import subprocess

    code = "import sys, hour_llava.video; print('torch' in sys.modules, 'av' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "False"]
