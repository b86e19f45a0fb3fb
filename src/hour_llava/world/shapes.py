"""The twelve shapes and ten digits as masks, drawn by polygons on a square of -1 to 1 (y down).

No shape looks the same after a quarter turn, so that spinning shows from second to second, and all
fit the unit circle, so that they may spin. Masks are drawn four times too large, then reduced.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

STRETCH = 4 / 3
"""How much wider than tall things are drawn: models squash 16:9 frames to squares."""

_SUPERSAMPLING = 4

Points = list[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A polygon that adds to the shape, or cuts from it."""

    points: Points
    cuts: bool = False


@dataclass(frozen=True, kw_only=True)
class SpriteMask:
    """Coverage of a sprite, 0-256 as uint16 (h, 3 w), each value three times for red, green, blue.

    `fill` is covered by the colour, `rim` by the dark outline, `rest` is left to the background;
    the three sum to 256.
    """

    fill: npt.NDArray[np.uint16]
    rim: npt.NDArray[np.uint16]
    rest: npt.NDArray[np.uint16]


def _ellipse(
    x: float, y: float, rx: float, ry: float, start: float = 0, end: float = 360
) -> Points:
    turns = np.radians(np.linspace(start, end, 40))
    return [(x + rx * float(np.cos(a)), y + ry * float(np.sin(a))) for a in turns]


def _star(num_points: int, inner: float) -> Points:
    turns = np.pi * np.arange(2 * num_points) / num_points - np.pi / 2
    radii = np.where(np.arange(2 * num_points) % 2, inner, 1.0)
    return [(float(r * np.cos(a)), float(r * np.sin(a))) for a, r in zip(turns, radii, strict=True)]


def _outline(shape: str) -> list[_Part]:
    add = _Part
    match shape:
        case "arrow":
            tip: Points = [(0.0, -0.8), (1, 0), (0.0, 0.8), (0.0, 0.32)]
            return [add(points=[(-0.95, -0.32), (0.0, -0.32), *tip, (-0.95, 0.32)])]
        case "bolt":
            upper: Points = [(0.35, -0.95), (-0.65, 0.15), (-0.08, 0.15)]
            return [add(points=[*upper, (-0.35, 0.95), (0.65, -0.22), (0.08, -0.22)])]
        case "boot":
            leg: Points = [(-0.6, -0.8), (0.05, -0.8), (0.05, 0.15), (0.8, 0.2)]
            return [add(points=[*leg, (0.8, 0.75), (-0.6, 0.75)])]
        case "crown":
            tips: Points = [(-0.85, -0.6), (-0.42, 0.0), (0, -0.85), (0.42, 0.0), (0.85, -0.6)]
            return [add(points=[*tips, (0.75, 0.6), (-0.75, 0.6)])]
        case "fish":
            tail: Points = [(-0.3, 0), (-0.95, -0.6), (-0.75, 0), (-0.95, 0.6)]
            return [add(points=_ellipse(0.25, 0, 0.72, 0.52)), add(points=tail)]
        case "flag":
            pole: Points = [(-0.62, -0.85), (-0.3, -0.85), (-0.3, 0.95), (-0.62, 0.95)]
            cloth: Points = [(-0.62, -0.85), (0.75, -0.85), (0.4, -0.4), (0.75, 0.05)]
            return [add(points=pole), add(points=[*cloth, (-0.62, 0.05)])]
        case "heart":
            lobes = [_ellipse(side * 0.42, -0.3, 0.47, 0.47) for side in (-1, 1)]
            point: Points = [(-0.82, -0.07), (0, -0.4), (0.82, -0.07), (0, 0.92)]
            return [add(points=p) for p in (*lobes, point)]
        case "house":
            roof: Points = [(-0.98, -0.1), (0, -0.95), (0.98, -0.1)]
            walls: Points = [(-0.65, -0.12), (0.65, -0.12), (0.65, 0.75), (-0.65, 0.75)]
            door: Points = [(-0.2, 0.2), (0.2, 0.2), (0.2, 0.8), (-0.2, 0.8)]
            return [add(points=roof), add(points=walls), add(points=door, cuts=True)]
        case "moon":
            bite = _ellipse(0.42, 0, 0.72, 0.72)
            return [add(points=_ellipse(-0.05, 0, 0.92, 0.92)), add(points=bite, cuts=True)]
        case "mushroom":
            stem: Points = [(-0.28, 0), (0.28, 0), (0.36, 0.88), (-0.36, 0.88)]
            return [add(points=_ellipse(0, 0.1, 0.95, 0.95, 180, 360)), add(points=stem)]
        case "star":
            return [add(points=_star(5, 0.42))]
        case "triangle":
            return [add(points=[(0, -0.95), (0.8, 0.58), (-0.8, 0.58)])]
        case _:
            raise AssertionError(shape)


def _turn(points: Points, angle_degrees: float) -> Points:
    cos, sin = float(np.cos(np.radians(angle_degrees))), float(np.sin(np.radians(angle_degrees)))
    return [(x * cos - y * sin, x * sin + y * cos) for x, y in points]


def _draw_parts(parts: list[_Part], side: int, angle_degrees: float) -> Image.Image:
    canvas = Image.new("L", (side, side))
    pen = ImageDraw.Draw(canvas)
    for part in parts:
        turned = _turn(part.points, angle_degrees)
        pen.polygon(
            [((x + 1) * side / 2, (y + 1) * side / 2) for x, y in turned], 0 if part.cuts else 255
        )
    return canvas


def _draw_digit(digit: str, side: int) -> Image.Image:
    canvas = Image.new("L", (side, side))
    font = ImageFont.load_default(size=side)
    stroke = side // 36
    ImageDraw.Draw(canvas).text(
        (side / 2, side / 2), digit, fill=255, font=font, anchor="mm", stroke_width=stroke
    )
    return canvas


def _draw_ring(side: int, inner_share: float) -> Image.Image:
    outer = _Part(points=_ellipse(0, 0, 1, 1))
    inner = _Part(points=_ellipse(0, 0, inner_share, inner_share), cuts=True)
    return _draw_parts([outer, inner], side, 0.0)


def _widen(mask_HW: npt.NDArray[np.uint8], radius: int) -> npt.NDArray[np.uint8]:
    """Grow what is covered by `radius` pixels on all sides (a square's dilation, axis by axis)."""
    for axis in (0, 1):
        grown = mask_HW.copy()
        for shift in range(1, radius + 1):
            for signed in (shift, -shift):
                np.maximum(grown, np.roll(mask_HW, signed, axis), out=grown)
        mask_HW = grown
    return mask_HW


def _reduce(mask_HW: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint16]:
    image = Image.fromarray(mask_HW).resize(size, Image.Resampling.BOX)
    return np.asarray(image, dtype=np.uint16) * 256 // 255


def _dark_parts(pattern: str, side: int) -> npt.NDArray[np.bool_]:
    """Return which parts of a patterned sprite are as dark as its rim, (side, side)."""
    y, x = (np.mgrid[0:side, 0:side] + 0.5) / side
    if pattern == "striped":
        return (y * 5 + 0.3) % 1 < 0.4
    row = np.floor(y * 5)
    column = (x * 5 + 0.5 * (row % 2)) % 1 - 0.5
    return column**2 + (y * 5 % 1 - 0.5) ** 2 < 0.12


def _finish(canvas: Image.Image, height: int, rim: int, pattern: str | None = None) -> SpriteMask:
    """Add rim and pattern, stretch, reduce to `height` (+ rims) and express as coverage."""
    radius = rim * _SUPERSAMPLING
    drawn = np.asarray(canvas)
    filled = drawn if pattern is None else np.where(_dark_parts(pattern, len(drawn)), 0, drawn)
    size = (round((height + 2 * rim) * STRETCH), height + 2 * rim)
    fill_HW = _reduce(np.pad(filled.astype(np.uint8), radius), size)
    both_HW = _reduce(_widen(np.pad(drawn, radius), radius), size)
    parts = (fill_HW, both_HW - fill_HW, 256 - both_HW)
    fill3, rim3, rest3 = (np.repeat(part, 3, axis=1).astype(np.uint16) for part in parts)
    return SpriteMask(fill=fill3, rim=rim3, rest=rest3)


def shape_mask(
    shape: str, height: int, angle_degrees: float, rim: int, pattern: str | None = None
) -> SpriteMask:
    """Draw a shape whose circle has the given height in pixels, turned clockwise.

    A pattern ("striped", "dotted") stays upright when the shape turns.
    """
    side = height * _SUPERSAMPLING
    return _finish(_draw_parts(_outline(shape), side, angle_degrees), height, rim, pattern)


def digit_mask(digit: str, height: int, rim: int) -> SpriteMask:
    """Draw a thick digit in a square of the given height in pixels."""
    return _finish(_draw_digit(digit, height * _SUPERSAMPLING), height, rim)


def ring_mask(height: int, rim: int) -> SpriteMask:
    """Draw the ring of the given outer height in pixels."""
    return _finish(_draw_ring(height * _SUPERSAMPLING, 0.84), height, rim)
