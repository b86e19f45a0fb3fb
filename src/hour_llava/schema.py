"""Frozen records that every layer shares. All times are seconds on the video's own clock."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameSpan:
    """A stretch of video, from `start_seconds` up to, not including, `end_seconds`."""

    start_seconds: float
    end_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """A stretch of video that MemAug read for a question; `score` is its share of the reading."""

    start_seconds: float
    end_seconds: float
    score: float


@dataclass(frozen=True, kw_only=True, slots=True)
class DamagedSpan:
    """A stretch whose frames may be wrong or missing, and what the decoder said about it."""

    start_seconds: float
    end_seconds: float
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """Which frames are read: `fps` a second, between two times (None: the video's own ends)."""

    fps: float = 1.0
    start_seconds: float | None = None
    end_seconds: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoInfo:
    """What a file holds, measured on its packets, never taken from its headers.

    `duration_seconds` runs from the first presented frame to the end of the last one;
    `content_digest` names the video stream's bytes, whatever container they are in.
    """

    path: str
    container: str
    codec: str
    pixel_format: str
    width: int
    height: int
    rotation_degrees: int
    duration_seconds: float
    start_seconds: float
    num_packets: int
    num_keyframes: int
    average_fps: float
    is_variable_frame_rate: bool
    has_audio: bool
    content_digest: str
    damage: tuple[DamagedSpan, ...] = ()
