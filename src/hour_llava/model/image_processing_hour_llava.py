"""Images to tiles: the whole image squeezed, and a sheet of tiles at a larger size.

Source: the released code; every resize is Pillow's bicubic.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hour_llava.model.image_geometry import best_sheet_wh, fitted_wh

SQUARE_FILL = (127, 127, 127)


class HourLlavaImageProcessor:
    """Cut images into tiles of the tower's size.

    Args:
        size: side of a tile in pixels.
        grid_pinpoints: sheets to choose from, (width, height).
    """

    def __init__(self, size: int, grid_pinpoints: Sequence[Sequence[int]]) -> None:
        self.size = size
        self.grid_pinpoints = grid_pinpoints

    def tiles(self, image: Image.Image | np.ndarray) -> Tensor:
        """Cut a lone image: tile 0 is all of it, squeezed; the rest is the sheet, row by row.

        Returns:
            (tiles, 3, size, size) float32 in -1..1.
        """
        picture = as_rgb(image)
        sheet_wh = best_sheet_wh(picture.size, self.grid_pinpoints)
        new_wh = fitted_wh(picture.size, sheet_wh)
        sheet = Image.new("RGB", sheet_wh, (0, 0, 0))
        corner = ((sheet_wh[0] - new_wh[0]) // 2, (sheet_wh[1] - new_wh[1]) // 2)
        sheet.paste(picture.resize(new_wh, Image.Resampling.BICUBIC), corner)
        boxes = [
            (left, top, left + self.size, top + self.size)
            for top in range(0, sheet_wh[1], self.size)
            for left in range(0, sheet_wh[0], self.size)
        ]
        return self._pixels([picture, *(sheet.crop(box) for box in boxes)])

    def squeezed(self, image: Image.Image | np.ndarray) -> Tensor:
        """Squeeze an image into one tile without keeping its aspect ratio: (1, 3, size, size)."""
        return self._pixels([as_rgb(image)])

    def squared(self, image: Image.Image | np.ndarray) -> Tensor:
        """Pad an image to a grey square, then shrink it to one tile: (1, 3, size, size)."""
        picture = as_rgb(image)
        width, height = picture.size
        side = max(width, height)
        square = Image.new("RGB", (side, side), SQUARE_FILL)
        square.paste(picture, ((side - width) // 2, (side - height) // 2))
        return self._pixels([square])

    def _pixels(self, pictures: Sequence[Image.Image]) -> Tensor:
        sides = (self.size, self.size)
        arrays = [np.asarray(p.resize(sides, Image.Resampling.BICUBIC)) for p in pictures]
        return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() / 127.5 - 1.0


def as_rgb(image: Image.Image | np.ndarray) -> Image.Image:
    """Take a picture or an array (height, width, 3) of uint8 as an RGB picture."""
    picture = image if isinstance(image, Image.Image) else Image.fromarray(np.asarray(image))
    return picture.convert("RGB")
