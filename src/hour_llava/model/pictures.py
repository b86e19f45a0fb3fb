"""The pictures of a batch, as they come into a forward pass, sorted by row.

Images come flat (all tiles of all rows), videos as a list; several rows may share a video.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from hour_llava.model.visual_plan import CellDraws


@dataclass(frozen=True, kw_only=True)
class RowImages:
    """The images of one row: which tiles are theirs, and how large they were."""

    tiles: slice
    sizes_hw: list[tuple[int, int]]
    num_tiles: list[int]


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """The visual inputs of a forward pass, which explains each of them."""

    pixel_values: Tensor | None = None
    image_sizes: Tensor | Sequence[Sequence[int]] | None = None
    image_num_tiles: Tensor | Sequence[int] | None = None
    image_rows: Tensor | Sequence[int] | None = None
    pixel_values_videos: Tensor | Sequence[Tensor] | None = None
    video_features: Tensor | Sequence[Any] | None = None
    video_seconds: Sequence[Tensor] | None = None
    memory_index: Tensor | Sequence[int] | None = None
    forgetting_seeds: Tensor | Sequence[int] | None = None
    spatial_indices: Sequence[Sequence[Tensor]] | None = None
    max_kept_frames: int | None = None
    max_memory_bytes: int | None = None

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Name the inputs."""
        return tuple(field.name for field in fields(cls))

    @property
    def pixel_videos(self) -> list[Tensor]:
        """Give the videos that come as pixels, each (F, 3, height, width)."""
        return [] if self.pixel_values_videos is None else list(self.pixel_values_videos)

    @property
    def feature_videos(self) -> list[Any]:
        """Give the videos that come as features, repositories or ready memories."""
        return [] if self.video_features is None else list(self.video_features)

    def draws(self, row: int, *, is_training: bool) -> CellDraws:
        """Choose a row's source of random cells: recorded, seeded, or (in training) torch's own."""
        if self.spatial_indices is not None:
            return CellDraws(recorded=self.spatial_indices[row])
        if self.forgetting_seeds is not None:
            return CellDraws(seed=int(self.forgetting_seeds[row]))
        return CellDraws(seed=None if is_training else 0)

    def video_of_row(self, has_video: Sequence[bool]) -> list[int | None]:
        """Say which video each row reads; without `memory_index`, rows take them in order.

        Raises:
            ValueError: names how many rows ask for a video and how many came.
        """
        num_videos = len(self.pixel_videos) + len(self.feature_videos)
        if self.memory_index is not None:
            index = [int(i) for i in self.memory_index]
        else:
            index = []
            for asks in has_video:
                index.append(sum(i >= 0 for i in index) if asks else -1)
        asked = max((i + 1 for i, asks in zip(index, has_video, strict=True) if asks), default=0)
        if asked > num_videos:
            raise ValueError(f"the prompts name {asked} videos, but {num_videos} came")
        return [i if asks and i >= 0 else None for i, asks in zip(index, has_video, strict=True)]

    def images_of_row(self, has_image: Sequence[bool], tile_size: int) -> dict[int, RowImages]:
        """Sort the images into rows.

        Raises:
            ValueError: names the counts that do not fit.
        """
        if self.pixel_values is None:
            return {}
        if self.pixel_values.dim() != 4:
            raise ValueError(
                f"pixel_values has shape {tuple(self.pixel_values.shape)}; it must be "
                "(tiles of all images, 3, height, width)"
            )
        num_tiles = self._num_tiles()
        rows = self._rows_of_images(len(num_tiles), has_image)
        sizes = [(tile_size, tile_size)] * len(num_tiles)
        if self.image_sizes is not None:
            sizes = [(int(height), int(width)) for height, width in self.image_sizes]
        found: dict[int, RowImages] = {}
        for row in sorted(set(rows)):
            own = [i for i, r in enumerate(rows) if r == row]
            start = sum(num_tiles[: own[0]])
            counts = [num_tiles[i] for i in own]
            tiles = slice(start, start + sum(counts))
            found[row] = RowImages(tiles=tiles, sizes_hw=[sizes[i] for i in own], num_tiles=counts)
        return found

    def _num_tiles(self) -> list[int]:
        assert self.pixel_values is not None
        total = len(self.pixel_values)
        if self.image_num_tiles is not None:
            counts = [int(count) for count in self.image_num_tiles]
        elif self.image_sizes is not None and len(self.image_sizes) == 1:
            counts = [total]
        else:
            counts = [1] * total
        if sum(counts) != total:
            raise ValueError(f"image_num_tiles sums to {sum(counts)}, but {total} tiles came")
        return counts

    def _rows_of_images(self, num_images: int, has_image: Sequence[bool]) -> list[int]:
        if self.image_rows is not None:
            rows = [int(row) for row in self.image_rows]
        else:
            asking = [row for row, asks in enumerate(has_image) if asks]
            rows = asking * num_images if len(asking) == 1 else asking
        if len(rows) != num_images or rows != sorted(rows):
            raise ValueError(
                f"{num_images} images came for {len(rows)} places in the prompts; with several "
                "images a row, say which row each belongs to (image_rows, in order)"
            )
        return rows


def as_bool_mask(mask: Any, like: Tensor) -> Tensor:
    """Take a (B, L) mask that may be absent (all true) or of another length.

    A longer one (behind a cache) counts from its end; behind a shorter one nothing is true. What
    `generate` makes for static caches (four dimensions, or a dict) says nothing of rows: its sense
    stands in the question mask.
    """
    if not isinstance(mask, Tensor) or mask.dim() != 2:
        return torch.ones_like(like, dtype=torch.bool)
    width = like.shape[1]
    return torch.nn.functional.pad(mask.bool(), (0, max(0, width - mask.shape[1])))[:, -width:]
