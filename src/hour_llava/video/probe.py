"""What a video file is, from its packets alone and one decoded frame."""

from __future__ import annotations

import os

from hour_llava.schema import Sampling, VideoInfo
from hour_llava.video.isolation import ChildDecode
from hour_llava.video.messages import Request


def probe(path: str | os.PathLike[str], *, timeout_seconds: float = 10.0) -> VideoInfo:
    """Measure a video in a watched child process.

    `damage` names what shows without decoding: packets marked as corrupt, a file cut short.

    Raises:
        VideoError: See `hour_llava.errors`.

    Cost: a few CPU seconds an hour of video.
    """
    request = Request(path=os.fspath(path), sampling=Sampling(), first_index=0, threads=1, ring=-1)
    with ChildDecode(request, timeout_seconds=timeout_seconds, wants_frames=False) as child:
        return child.info
