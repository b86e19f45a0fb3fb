"""Every odd kind of file gives the right frames at the right times, in one process and in two."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import av
import numpy as np
import pytest

from hour_llava.video import read_frames

READABLE = """
    h264_mp4 hevc_mp4 vp9_webm vp8_hidden_frames_webm av1_mkv av1_mp4 mpeg4_avi mpeg2_ts mjpeg_avi
    wmv_asf flv gif ffv1_mkv variable_rate_mp4 variable_rate_mkv holes_mp4 late_mpegts
    wrapping_mpegts offset_mkv ntsc_film_mp4 ntsc_fast_mp4 trimmed_by_edit_list_mp4 two_edits_mp4
    delayed_by_edit_list_mp4 lying_durations_mp4 equal_times_mkv raw_h264 raw_hevc
    h264_b_frames_avi open_gop_h264_mp4 open_gop_hevc_mkv cut_open_gop_ts intra_refresh_ts
    one_key_frame_in_ten_minutes single_frame_mp4 picture_png fragmented_mp4 interlaced_ts
    two_video_streams_mkv rotated_90_mp4 rotated_180_mp4 rotated_270_mp4 mirrored_mp4
    ten_bit_hevc_mp4 ten_bit_h264_mkv full_chroma_mp4 odd_size_mkv odd_size_subsampled_avi
    wide_pixels_mp4 size_change_ts video_with_cover_art_mp4
""".split()  # noqa: SIM905

Corpus, Code = Any, Callable[[np.ndarray], int]


IN_A_CHILD = ["h264_mp4", "rotated_90_mp4", "raw_h264", "odd_size_mkv", "single_frame_mp4"]
# Whose frames a plain decode gives in order and one a packet, to be compared bit for bit.
PLANNED = """
    h264_mp4 hevc_mp4 vp9_webm av1_mkv av1_mp4 mpeg4_avi mpeg2_ts wmv_asf ffv1_mkv flv
    open_gop_h264_mp4 open_gop_hevc_mkv intra_refresh_ts interlaced_ts ten_bit_hevc_mp4
    ten_bit_h264_mkv full_chroma_mp4 raw_h264 variable_rate_mp4 fragmented_mp4
    odd_size_subsampled_avi
""".split()  # noqa: SIM905


def check(corpus: Corpus, code_of: Code, kind: str, fps: float, *, isolated: bool) -> None:
    clip = corpus[kind]
    expected = clip.expected(fps)

    with read_frames(clip.path, fps=fps, isolated=isolated) as reader:
        frames = [(f.index, code_of(f.rgb), f.pts_seconds, f.is_damaged) for f in reader]
        shape = (reader.info.height, reader.info.width)

    assert reader.num_frames == len(expected)
    assert [f[0] for f in frames] == list(range(len(expected)))
    assert [f[1] for f in frames] == [code for code, _ in expected]
    assert [f[2] for f in frames] == pytest.approx([float(t) for _, t in expected], abs=1e-3)
    assert not any(f[3] for f in frames) and not reader.damage
    assert shape[0] * 2 == pytest.approx(shape[1], abs=12)


@pytest.mark.parametrize("kind", READABLE)
@pytest.mark.parametrize("fps", [1.0, 3.7])
def test_frames_and_times_are_exact(corpus: Corpus, code_of: Code, kind: str, fps: float) -> None:
    check(corpus, code_of, kind, fps, isolated=False)


@pytest.mark.parametrize("kind", IN_A_CHILD)
def test_a_child_gives_the_same(corpus: Corpus, code_of: Code, kind: str) -> None:
    check(corpus, code_of, kind, 1.0, isolated=True)


@pytest.mark.slow
@pytest.mark.parametrize("kind", READABLE)
@pytest.mark.parametrize("fps", [0.4, 1.0, 25.0])
def test_a_child_gives_the_same_for_every_kind(
    corpus: Corpus, code_of: Code, kind: str, fps: float
) -> None:
    check(corpus, code_of, kind, fps, isolated=True)


@pytest.mark.parametrize("kind", PLANNED)
def test_planned_decode_equals_full_decode_bit_for_bit(corpus: Corpus, kind: str) -> None:
    clip = corpus[kind]
    with av.open(str(clip.path)) as container:
        full = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(full) == len(clip.codes)
    place = {code: number for number, code in enumerate(clip.codes)}

    for fps, threads in ((1.0, None), (0.4, 1), (3.7, 3)):
        with read_frames(clip.path, fps=fps, threads=threads, isolated=False) as reader:
            for frame, (code, _) in zip(reader, clip.expected(fps), strict=True):
                assert np.array_equal(frame.rgb, full[place[code]]), (fps, frame.index)
        assert not reader.damage
