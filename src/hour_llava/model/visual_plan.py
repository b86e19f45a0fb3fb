"""What a row's pictures become: the layout of their memory, and which of its tokens are kept.

Pure index arithmetic that the processor (to count placeholders) and the model (to gather tokens)
both run, from the same seed: that is why their numbers agree. A kept token is named by its index in
the memory, and it keeps that token's position.

    video            memory = each frame's cells, then a newline
    lone image       memory = the base tile's cells | each row of the merged sheet, then a newline
    several images   memory = each image's cells, then a newline; one tile an image

Letters: M memory tokens, S kept tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from hour_llava.memory.forgetting import (
    count_kept_frames,
    count_memory_frames,
    kept_token_index,
    random_cells,
    random_frames,
    repeat_frame_index,
    uniform_cells,
    uniform_frames,
)
from hour_llava.model.image_geometry import merged_hw, sheet_tiles_wh


class VisualSettings(Protocol):
    """The settings that decide counts; `HourLlavaConfig` and the processor both have them."""

    @property
    def pool_size(self) -> int: ...
    @property
    def grid_side(self) -> int: ...
    @property
    def tile_size(self) -> int: ...
    @property
    def spatial_forgetting(self) -> Any: ...
    @property
    def temporal_forgetting(self) -> Any: ...
    @property
    def frame_keep_ratio(self) -> int: ...
    @property
    def max_kept_frames(self) -> int: ...
    @property
    def min_memory_frames(self) -> int: ...
    @property
    def image_grid_pinpoints(self) -> Sequence[Sequence[int]]: ...


class CellDraws:
    """Where random cells come from: a seeded generator, or recorded draws in call order."""

    def __init__(
        self, *, seed: int | None = None, recorded: Sequence[Tensor] | None = None
    ) -> None:
        self._generator = None if seed is None else torch.Generator().manual_seed(seed)
        self._recorded: Iterator[Tensor] | None = None if recorded is None else iter(recorded)

    @property
    def generator(self) -> torch.Generator | None:
        """The generator that all draws of a row share (None: torch's default one)."""
        return self._generator

    def cells(self, num_grids: int, height: int, width: int, spatial: str) -> Tensor:
        """Pick the kept cells of grids: (num_grids, n), or (n,) where all grids keep the same."""
        if spatial == "uniform":
            return uniform_cells(height, width)
        if self._recorded is None:
            return random_cells(num_grids, height * width, generator=self._generator)
        drawn = next(self._recorded).long()
        if drawn.shape[0] != num_grids:
            raise ValueError(f"recorded draw has {drawn.shape[0]} grids, this one {num_grids}")
        return drawn


@dataclass(frozen=True, kw_only=True)
class VisualPlan:
    """The kept tokens of one row's pictures.

    Args:
        kept_S: index of each kept token in the row's memory.
        positions_S: its rotary position there.
        block_lengths: kept tokens of each picture of the row, in reading order.
    """

    kept_S: Tensor
    positions_S: Tensor
    block_lengths: tuple[int, ...]

    @property
    def num_kept(self) -> int:
        """How many placeholders the row needs."""
        return len(self.kept_S)


def plan_video(
    num_frames: int,
    settings: VisualSettings,
    draws: CellDraws,
    *,
    max_kept_frames: int | None = None,
    kept_frames: Tensor | None = None,
) -> VisualPlan:
    """Choose the kept tokens of a video.

    Args:
        num_frames: frames of the video, before repetition.
        settings: the model's configuration or its processor.
        draws: the source of random cells.
        max_kept_frames: a tighter cap than the settings'.
        kept_frames: frames chosen by content (keyframe, question); None for uniform and random.

    Source: arXiv 2506.05332 (forgetting). As released, cells are drawn for every memory frame
    before the temporal choice.
    """
    side, spatial = settings.pool_size, settings.spatial_forgetting
    memory_frames = count_memory_frames(num_frames, min_frames=settings.min_memory_frames)
    cells = draws.cells(memory_frames, side, side, spatial)
    if kept_frames is None:
        num_kept = num_kept_frames(num_frames, settings, max_kept_frames)
        if settings.temporal_forgetting == "random":
            kept_frames = random_frames(memory_frames, num_kept, generator=draws.generator)
        else:
            kept_frames = uniform_frames(memory_frames, num_kept)
    cells = cells if cells.dim() == 1 else cells[kept_frames]
    kept_S = kept_token_index(kept_frames, cells, num_cells=side * side)
    return VisualPlan(kept_S=kept_S, positions_S=kept_S, block_lengths=(len(kept_S),))


def num_kept_frames(
    num_frames: int, settings: VisualSettings, max_kept_frames: int | None = None
) -> int:
    """Count the frames of a video that temporal forgetting keeps."""
    return count_kept_frames(
        count_memory_frames(num_frames, min_frames=settings.min_memory_frames),
        keep_ratio=settings.frame_keep_ratio,
        max_frames=max_kept_frames or settings.max_kept_frames,
    )


def source_frames(num_frames: int, settings: VisualSettings) -> Tensor:
    """Name the video frame that each memory frame is a copy of."""
    return repeat_frame_index(num_frames, min_frames=settings.min_memory_frames)


def plan_images(
    image_sizes_hw: Sequence[tuple[int, int]],
    num_tiles: Sequence[int],
    settings: VisualSettings,
    draws: CellDraws,
) -> VisualPlan:
    """Choose the kept tokens of a row's images: one cut into tiles, or several single tiles."""
    if len(num_tiles) == 1 and num_tiles[0] > 1:
        return _plan_sheet(image_sizes_hw[0], num_tiles[0], settings, draws)
    if any(count != 1 for count in num_tiles):
        raise ValueError(
            f"a row of {len(num_tiles)} images has {list(num_tiles)} tiles: "
            "only a lone image may have more than one"
        )
    side, count = settings.grid_side, len(num_tiles)
    num_cells = side * side
    kept: list[Tensor] = []
    positions: list[Tensor] = []
    for number in range(count):
        cells = draws.cells(1, side, side, settings.spatial_forgetting).flatten()
        first = number * (num_cells + 1)
        kept += [first + cells, torch.tensor([first + num_cells])]
        positions += [number * num_cells + cells, torch.tensor([count * num_cells])]
    lengths = [len(kept[2 * number]) + 1 for number in range(count)]
    return VisualPlan(
        kept_S=torch.cat(kept), positions_S=torch.cat(positions), block_lengths=tuple(lengths)
    )


def images_memory_positions(
    image_sizes_hw: Sequence[tuple[int, int]], num_tiles: Sequence[int], settings: VisualSettings
) -> Tensor:
    """Give the rotary positions (M,) of a row of images; all newlines share one."""
    side, count = settings.grid_side, len(num_tiles)
    num_cells = side * side
    if count == 1 and num_tiles[0] > 1:
        rows, columns = sheet_grid_hw(image_sizes_hw[0], settings)
        base = base_tile_positions(rows, columns, side)
        return torch.cat([base, _with_newline(rows, columns).flatten()])
    newline = torch.tensor([count * num_cells])
    cells = torch.arange(num_cells)
    return torch.cat([part for n in range(count) for part in (n * num_cells + cells, newline)])


def sheet_grid_hw(image_size_hw: tuple[int, int], settings: VisualSettings) -> tuple[int, int]:
    """Give the merged grid (rows, columns) of an image cut into tiles."""
    height, width = image_size_hw
    return merged_hw(
        (width, height), settings.image_grid_pinpoints, settings.tile_size, settings.grid_side
    )


def base_tile_positions(rows: int, columns: int, side: int) -> Tensor:
    """Give each cell of the squeezed tile the position of its nearest cell in the merged grid.

    Float32 linspace rounded half to even, as released; float64 differs for some heights.
    """
    row = torch.linspace(0, rows - 1, side, dtype=torch.float32).round().long()
    column = torch.linspace(0, columns - 1, side, dtype=torch.float32).round().long()
    return (row[:, None] * columns + column).flatten()


def _with_newline(rows: int, columns: int) -> Tensor:
    cells = torch.arange(rows * columns).view(rows, columns)
    return torch.cat([cells, torch.full((rows, 1), rows * columns)], dim=1)


def _plan_sheet(
    image_size_hw: tuple[int, int], num_tiles: int, settings: VisualSettings, draws: CellDraws
) -> VisualPlan:
    """Keep cells of the base tile, then of the merged grid: a newline after each row with any."""
    height, width = image_size_hw
    tile_columns, tile_rows = sheet_tiles_wh(
        (width, height), settings.image_grid_pinpoints, settings.tile_size
    )
    if num_tiles != 1 + tile_columns * tile_rows:
        raise ValueError(
            f"an image of {width} x {height} is cut into 1 + {tile_columns * tile_rows} tiles, "
            f"but {num_tiles} came"
        )
    side, spatial = settings.grid_side, settings.spatial_forgetting
    rows, columns = sheet_grid_hw(image_size_hw, settings)
    base = draws.cells(1, side, side, spatial).flatten()
    cells = draws.cells(1, rows, columns, spatial).flatten()
    row_of_cell = cells // columns
    in_row = row_of_cell * (columns + 1) + cells % columns
    newlines = row_of_cell.unique() * (columns + 1) + columns
    sheet = torch.cat([in_row, newlines]).sort().values
    sheet_positions = _with_newline(rows, columns).flatten()[sheet]
    return VisualPlan(
        kept_S=torch.cat([base, side * side + sheet]),
        positions_S=torch.cat([base_tile_positions(rows, columns, side)[base], sheet_positions]),
        block_lengths=(len(base) + len(sheet),),
    )
