"""Frames of any size to the pixels that the tower reads."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


class HourLlavaVideoProcessor:
    """Resize RGB frames to the tower's square and scale them to -1..1; no crop, no aspect ratio.

    Bicubic with antialias on bytes, as Pillow does it, within one step of 255.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, frames: np.ndarray | Tensor | Iterable[np.ndarray]) -> Tensor:
        """Turn uint8 frames, (F, height, width, 3) or a list of (height, width, 3), into pixels.

        Returns:
            (F, 3, size, size) float32 in -1..1.

        Raises:
            ValueError: something else came, such as a path.
        """
        if isinstance(frames, np.ndarray | Tensor):
            resized = self._resize(torch.as_tensor(frames))
        else:
            given = [frames] if isinstance(frames, str | Path) else frames
            resized = torch.cat([self._resize(_one_frame(frame)) for frame in given])
        return resized.float() / 127.5 - 1.0

    def _resize(self, frames_FHWC: Tensor) -> Tensor:
        if frames_FHWC.dim() != 4 or frames_FHWC.shape[-1] != 3 or frames_FHWC.dtype != torch.uint8:
            raise ValueError(
                f"frames have shape {tuple(frames_FHWC.shape)} and type {frames_FHWC.dtype}; they "
                "must be (frames, height, width, 3) of uint8"
            )
        frames = frames_FHWC.permute(0, 3, 1, 2)
        if frames.shape[2:] == (self.size, self.size):
            return frames
        return F.interpolate(frames, (self.size, self.size), mode="bicubic", antialias=True)


def _one_frame(frame: object) -> Tensor:
    """Take one frame (1, height, width, 3); this class reads no files."""
    if isinstance(frame, str | Path):
        raise ValueError(
            f"{frame} is a path, and frames are needed: read them with "
            "hour_llava.video.read_frames, or pass the memory of hour_llava.load().remember()"
        )
    return torch.as_tensor(frame)[None]
