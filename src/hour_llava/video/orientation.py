"""How a stored picture is turned to be looked at: the display matrix of phones and cameras."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from hour_llava.video.frame import Pixels


@dataclass(frozen=True, slots=True)
class Orientation:
    """Mirror left and right first if asked to, then turn clockwise by quarters."""

    is_mirrored: bool = False
    quarter_turns: int = 0

    @classmethod
    def of(cls, frame: VideoFrame) -> Orientation:
        """Read the display matrix of a frame; angles between quarters are taken to the nearest."""
        # PyAV's stubs know its side data only as a mapping without types.
        side_data: Any = frame.side_data
        try:
            matrix = bytes(side_data[Type.DISPLAYMATRIX])
        except KeyError:
            return cls()
        return cls.of_matrix(np.frombuffer(matrix, "<i4", count=9).reshape(3, 3))

    @classmethod
    def of_matrix(cls, matrix: NDArray[np.int32]) -> Orientation:
        """Read a matrix [[a b u] [c d v] [x y w]] that maps (x, y) to (ax + cy, bx + dy)."""
        a, b, c, d = (float(v) for v in matrix[:2, :2].reshape(-1))
        is_mirrored = a * d - b * c < 0
        if is_mirrored:
            a, b = -a, -b
        return cls(is_mirrored, round(float(np.degrees(np.arctan2(b, a))) / 90) % 4)

    @property
    def clockwise_degrees(self) -> int:
        return 90 * self.quarter_turns

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Give (width, height) after turning."""
        return (height, width) if self.quarter_turns % 2 else (width, height)

    def apply(self, rgb_HWC: Pixels) -> Pixels:
        """Turn a picture; a view of the same pixels."""
        mirrored = rgb_HWC[:, ::-1] if self.is_mirrored else rgb_HWC
        return np.rot90(mirrored, -self.quarter_turns)
