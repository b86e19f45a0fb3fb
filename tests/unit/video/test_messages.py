"""What parent and child say survives the journey."""

from __future__ import annotations

import json

from hour_llava.schema import DamagedSpan, Sampling, VideoInfo
from hour_llava.video.messages import Request, info_from_json, info_to_json


def test_a_request_survives_even_with_a_path_that_is_no_text():
    sampling = Sampling(fps=1 / 3, end_seconds=7.5)
    request = Request(
        path="/tmp/\udcff odd\nname.mp4", sampling=sampling, first_index=3, threads=None, ring=5
    )
    assert Request.from_json(request.to_json()) == request


def test_infos_keep_every_bit_of_their_floats():
    info = VideoInfo(
        path="a.mp4",
        container="mov",
        codec="h264",
        pixel_format="yuv420p",
        width=4,
        height=2,
        rotation_degrees=90,
        duration_seconds=1001 / 30000,
        start_seconds=0.1 + 0.2,
        num_packets=1,
        num_keyframes=1,
        average_fps=30000 / 1001,
        is_variable_frame_rate=False,
        has_audio=True,
        content_digest="0f",
        damage=(DamagedSpan(start_seconds=0.1, end_seconds=1 / 3, reason="decoder: lost frames"),),
    )
    assert info_from_json(json.loads(json.dumps(info_to_json(info)))) == info
