"""Where the tiles of an image lie, and what is left of their grid: pure arithmetic, no tensors.

A lone image becomes tile 0 (the whole image, squeezed) and a sheet of tiles cut from the image at a
larger size, centred on black. The sheet's cells are merged into one grid, its black border is cut
off again, and a grid of more than nine tiles' worth of cells is shrunk.
All sizes are (width, height) in pixels or (height, width) in cells, as the names say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

MAX_TILES = 9
"""The 9 of "anyres_max_9": a merged grid larger than so many tiles is shrunk."""
SHRINK_ABOVE = 1.1
"""Grids up to this factor too large are left alone."""


def best_sheet_wh(
    image_wh: tuple[int, int], pinpoints_wh: Sequence[Sequence[int]]
) -> tuple[int, int]:
    """Choose the sheet that shows most of the image's pixels, then wastes least; the first wins."""
    width, height = image_wh
    best, best_key = None, (-1, 0)
    for sheet_width, sheet_height in pinpoints_wh:
        scale = min(sheet_width / width, sheet_height / height)
        shown = min(int(width * scale) * int(height * scale), width * height)
        key = (shown, shown - sheet_width * sheet_height)
        if key > best_key:
            best, best_key = (int(sheet_width), int(sheet_height)), key
    if best is None:
        raise ValueError("image_grid_pinpoints is empty: there is no sheet to cut an image into")
    return best


def fitted_wh(image_wh: tuple[int, int], sheet_wh: tuple[int, int]) -> tuple[int, int]:
    """Scale an image into a sheet with its aspect ratio kept; the free side is rounded up."""
    (width, height), (sheet_width, sheet_height) = image_wh, sheet_wh
    scale_width, scale_height = sheet_width / width, sheet_height / height
    if scale_width < scale_height:
        return sheet_width, min(math.ceil(height * scale_width), sheet_height)
    return min(math.ceil(width * scale_height), sheet_width), sheet_height


def sheet_tiles_wh(
    image_wh: tuple[int, int], pinpoints_wh: Sequence[Sequence[int]], tile_size: int
) -> tuple[int, int]:
    """Count the columns and rows of tiles that an image is cut into, tile 0 not included."""
    sheet_width, sheet_height = best_sheet_wh(image_wh, pinpoints_wh)
    return sheet_width // tile_size, sheet_height // tile_size


def unpadded_box(image_wh: tuple[int, int], grid_hw: tuple[int, int]) -> tuple[int, int, int, int]:
    """Find the part of a merged grid that shows the image.

    Returns:
        top, bottom, left, right in cells; `int()` of the scaled side, half the rest cut on both
        sides, as released; at least one row and one column stay.
    """
    (width, height), (rows, columns) = image_wh, grid_hw
    if width / height > columns / rows:
        border = min((rows - int(height * (columns / width))) // 2, (rows - 1) // 2)
        return border, rows - border, 0, columns
    border = min((columns - int(width * (rows / height))) // 2, (columns - 1) // 2)
    return 0, rows, border, columns - border


def shrunk_hw(grid_hw: tuple[int, int], grid_side: int) -> tuple[int, int]:
    """Shrink a grid of more than nine tiles' worth of cells, sides in proportion."""
    rows, columns = grid_hw
    excess = math.sqrt(rows * columns / (MAX_TILES * grid_side**2))
    if excess <= SHRINK_ABOVE:
        return rows, columns
    return max(1, int(rows // excess)), max(1, int(columns // excess))


def merged_hw(
    image_wh: tuple[int, int], pinpoints_wh: Sequence[Sequence[int]], tile_size: int, grid_side: int
) -> tuple[int, int]:
    """Give the cells (rows, columns) of an image's merged grid after unpadding and shrinking."""
    tile_columns, tile_rows = sheet_tiles_wh(image_wh, pinpoints_wh, tile_size)
    top, bottom, left, right = unpadded_box(
        image_wh, (tile_rows * grid_side, tile_columns * grid_side)
    )
    return shrunk_hw((bottom - top, right - left), grid_side)
