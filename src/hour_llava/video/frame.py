"""The record of one frame that was read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class VideoFrame:
    """What the video shows at a tick: the last frame whose time is not later.

    Times are seconds after the first presented frame. `rgb` is (height, width, 3) uint8, turned
    as it is to be looked at; stored pixels are not stretched to a square shape.
    """

    index: int
    tick_seconds: float
    pts_seconds: float
    rgb: Pixels
    is_damaged: bool
