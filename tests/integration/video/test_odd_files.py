"""Every odd kind of file gives the right frames at the right times, in one process and in two."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest

from hour_llava.video import read_frames

if TYPE_CHECKING:
    from conftest import Corpus

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

Code = Callable[[np.ndarray], int]


@pytest.mark.parametrize("kind", READABLE)
@pytest.mark.parametrize("fps", [1.0, 3.7])
def test_frames_and_times_are_exact(corpus: Corpus, code_of: Code, kind: str, fps: float) -> None:
    clip = corpus[kind]
    expected = clip.expected(fps)

    with read_frames(clip.path, fps=fps, isolated=False) as reader:
        frames = [(f.index, code_of(f.rgb), f.pts_seconds, f.is_damaged) for f in reader]

    assert reader.num_frames == len(expected)
    assert [f[0] for f in frames] == list(range(len(expected)))
    assert [f[1] for f in frames] == [code for code, _ in expected]
    assert [f[2] for f in frames] == pytest.approx([float(t) for _, t in expected], abs=1e-3)
    assert not any(f[3] for f in frames) and not reader.damage
