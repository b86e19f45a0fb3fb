"""Frames to features: resize, vision tower, pooling; and the name of all that they depend on.

Letters: F frames, P tokens a frame, D feature size.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from hour_llava.model.modeling_hour_llava import HourLlavaForConditionalGeneration
from hour_llava.model.processing_hour_llava import HourLlavaProcessor

# Raise it when frames become features in another way that no setting shows.
_DIGEST_VERSION = 1
_TOWER_SETTINGS = ("patch_size", "num_hidden_layers", "num_attention_heads", "hidden_act")
_GROUP_BYTES = 32 * 2**20
_BATCH_PATCHES = 16_384
_MAX_BATCH = 64


class FrameEncoder:
    """Encodes batches of RGB frames; holds no state between them."""

    def __init__(
        self, model: HourLlavaForConditionalGeneration, processor: HourLlavaProcessor
    ) -> None:
        self._model, self._processor = model.eval(), processor
        config = model.config
        self.tokens_per_frame = int(config.num_cells)
        self.feature_size = int(config.vision_config.hidden_size)
        dtype = model.dtype
        self.feature_dtype = torch.float16 if dtype == torch.float32 else dtype
        self.batch_frames = _batch_frames(int(config.grid_side) ** 2)

    @cached_property
    def tower_digest(self) -> str:
        """Digest of the tower's weights and of all else that turns a frame into features."""
        config, vision = self._model.config, self._model.config.vision_config
        settings = {
            "version": _DIGEST_VERSION,
            "pool_size": config.pool_size,
            "tile_size": config.tile_size,
            "features": str(self.feature_dtype),
            **{name: getattr(vision, name) for name in _TOWER_SETTINGS},
        }
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
        for name, weight in sorted(self._model.model.vision_tower.state_dict().items()):
            digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
            digest.update(weight.contiguous().cpu().view(-1).view(torch.uint8).numpy())
        return digest.hexdigest()[:32]

    def group_frames(self, frame_bytes: int) -> int:
        """Return how many raw frames are held at once: a divisor of the batch, at most 32 MB."""
        group = self.batch_frames
        while group > 1 and group * frame_bytes > _GROUP_BYTES:
            group //= 2
        return group

    def resize(self, frames: Sequence[np.ndarray]) -> Tensor:
        """Return pixels (F, 3, size, size) of the tower's size from RGB frames of one size."""
        return self._processor.video_processing(np.stack(frames))

    def encode(self, pixels_FCHW: Tensor) -> Tensor:
        """Return features (F, P, D) on the CPU, in the dtype in which they are kept."""
        with torch.inference_mode():
            pixels = pixels_FCHW.to(self._model.device, self._model.dtype)
            return self._model.model.encode_video(pixels).to("cpu", self.feature_dtype)

    def encode_frames(self, frames: Sequence[np.ndarray]) -> Tensor:
        """Return the features (F, P, D) of RGB frames of one size, a batch at a time."""
        parts = [
            self.encode(self.resize(frames[first : first + self.batch_frames]))
            for first in range(0, len(frames), self.batch_frames)
        ]
        return torch.cat(parts)


def _batch_frames(patches_per_frame: int) -> int:
    """Return the power of two, at most 64, that gives a tower about 16,384 patches a batch."""
    batch = _MAX_BATCH
    while batch > 1 and batch * patches_per_frame > _BATCH_PATCHES:
        batch //= 2
    return batch
