"""Small pictures of a video: kept in its memory, and shown beside an answer.

A memory keeps a bounded number of them. Evidence often lasts a second, so a picture is taken from
the video itself where that is at hand, and from the memory otherwise.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from hour_llava.errors import VideoError
from hour_llava.video import read_frames

MAX_KEPT = 1200
_KEPT_SIZE = (160, 120)
_QUALITY = 60
_MAX_BYTES = 10_000  # of pure noise; MarathonWorld takes 2 kB a thumbnail


def thumbnail_stride(num_frames: int) -> int:
    """Return which frames are kept as thumbnails: every n-th, so that at most 1,200 are."""
    return -(-num_frames // MAX_KEPT) if num_frames else 1


def thumbnails_expected(num_frames: int) -> tuple[int, int]:
    """Return how many thumbnails a memory keeps, and how many bytes they take at most together."""
    number = -(-num_frames // thumbnail_stride(num_frames))
    return number, number * _MAX_BYTES


def encode_thumbnail(rgb: np.ndarray) -> bytes:
    """Return a JPEG of at most 160 x 120 pixels (about 2 kB)."""
    image = Image.fromarray(rgb)
    image.thumbnail(_KEPT_SIZE)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


def nearest_images(
    thumbnails: Sequence[tuple[float, bytes]], seconds: Sequence[float]
) -> list[tuple[float, np.ndarray]]:
    """Return the kept thumbnails nearest to some times, each once, with their own times."""
    if not thumbnails:
        return []
    kept = np.array([time for time, _ in thumbnails])
    indices = sorted({int(np.abs(kept - second).argmin()) for second in seconds})
    return [(float(kept[index]), _decode(thumbnails[index][1])) for index in indices]


def images_of_video(
    path: Path, seconds: Sequence[float], *, fps: float
) -> list[tuple[float, np.ndarray]]:
    """Return the frames that a video shows at some times; none where it cannot be read."""
    images: list[tuple[float, np.ndarray]] = []
    try:
        for second in seconds:
            start = second + 0.001  # the float of an exact time may lie a hair before it
            end = start + 0.5 / fps
            with read_frames(path, fps=fps, start_seconds=start, end_seconds=end) as reader:
                images += [(second, frame.rgb) for frame in reader][:1]
    except VideoError:
        return []
    return images


def _decode(jpeg: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(jpeg)) as image:
        return np.asarray(image.convert("RGB"))
