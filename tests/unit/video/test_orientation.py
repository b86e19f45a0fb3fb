"""Display matrices turn pictures the way players do."""

from __future__ import annotations

import numpy as np
import pytest

from hour_llava.video.orientation import Orientation

ONE = 1 << 16


def matrix(a: int, b: int, c: int, d: int) -> np.ndarray:
    return np.array([[a * ONE, b * ONE, 0], [c * ONE, d * ONE, 0], [0, 0, 1 << 30]], np.int32)


@pytest.mark.parametrize(
    ("numbers", "degrees", "is_mirrored"),
    [
        ((1, 0, 0, 1), 0, False),
        ((0, 1, -1, 0), 90, False),
        ((-1, 0, 0, -1), 180, False),
        ((0, -1, 1, 0), 270, False),
        ((-1, 0, 0, 1), 0, True),
        ((1, 0, 0, -1), 180, True),
    ],
)
def test_matrices_are_read_as_quarters_and_mirrors(numbers, degrees, is_mirrored):
    orientation = Orientation.of_matrix(matrix(*numbers))
    assert (orientation.clockwise_degrees, orientation.is_mirrored) == (degrees, is_mirrored)


MATRICES = [(1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0), (-1, 0, 0, 1)]
MATRICES += [(1, 0, 0, -1), (0, 1, 1, 0), (0, -1, -1, 0)]


@pytest.mark.parametrize("numbers", MATRICES)
def test_pixels_land_where_the_matrix_maps_them(numbers):
    a, b, c, d = numbers
    height, width = 2, 3
    picture = np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3)
    orientation = Orientation.of_matrix(matrix(*numbers))
    shown = orientation.apply(picture)

    assert shown.shape[1::-1] == orientation.size(width, height)
    corners = [(0, 0), (width - 1, 0), (0, height - 1), (width - 1, height - 1)]
    mapped = {(x, y): (a * x + c * y, b * x + d * y) for x, y in corners}
    left, top = min(p[0] for p in mapped.values()), min(p[1] for p in mapped.values())
    for (x, y), (new_x, new_y) in mapped.items():
        assert np.array_equal(shown[new_y - top, new_x - left], picture[y, x])
