"""`hour-llava probe`: what a video file is, measured on its packets."""

from __future__ import annotations

import json as json_format
from dataclasses import asdict
from typing import Annotated

import tyro

from hour_llava.commands.terminal import printable
from hour_llava.schema import VideoInfo
from hour_llava.video import probe as probe_video


def probe(
    video: Annotated[str, tyro.conf.arg(metavar="VIDEO")],
    /,
    *,
    json: bool = False,
) -> None:
    """Say what a video file is: codec, size, rotation, times, key frames, damage, digest.

    Measured on the packets, never taken from headers; nothing but the first frame is decoded.

    Args:
        video: the video
        json: print one JSON object
    """
    info = probe_video(video)
    print(json_format.dumps(asdict(info), indent=2) if json else "\n".join(_lines(info)))


def _lines(info: VideoInfo) -> list[str]:
    kind = "variable" if info.is_variable_frame_rate else "constant"
    rows = [
        ("file", info.path),
        ("container", info.container),
        ("codec", f"{info.codec}, {info.pixel_format}"),
        ("size", f"{info.width} x {info.height}"),
        ("rotation", f"{info.rotation_degrees} degrees clockwise, applied"),
        ("duration", f"{info.duration_seconds:.3f} s"),
        ("starts at", f"{info.start_seconds:.3f} s of the file's own clock"),
        ("frames", f"{info.num_packets:,} packets, {info.average_fps:.3f} a second, {kind} rate"),
        ("key frames", f"{info.num_keyframes:,}"),
        ("audio", "yes" if info.has_audio else "no"),
        ("digest", info.content_digest),
    ]
    rows += [
        ("damage", f"{span.start_seconds:.2f} s to {span.end_seconds:.2f} s: {span.reason}")
        for span in info.damage
    ] or [("damage", "none in the packets")]
    return [f"{name:<11}{printable(value)}" for name, value in rows]
