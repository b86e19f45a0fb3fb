"""Video files to RGB frames with exact times; torch-free, and safe against hostile files."""

from __future__ import annotations

from hour_llava.video.probe import probe
from hour_llava.video.reader import FrameReader, VideoFrame, read_frames

__all__ = ["FrameReader", "VideoFrame", "probe", "read_frames"]
