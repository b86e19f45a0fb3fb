"""A timeline as pictures: any time, any size, deterministic in (timeline, time).

H height, W width. Inside, a frame is (H, 3 W) uint8: numpy is fast along long rows and slow along
three colours. Everything drawn keeps 20 levels away from 0 and 255, so that one wrapping addition
puts noise and flicker on it without clipping.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from random import Random

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from hour_llava.world.shapes import SpriteMask, digit_mask, ring_mask, shape_mask
from hour_llava.world.timeline import CELLS, Appearance, Pose, Timeline, pose_at

Frame = npt.NDArray[np.uint8]

COLOUR_RGB: dict[str, tuple[int, int, int]] = {
    "red": (216, 36, 40),
    "orange": (232, 128, 24),
    "yellow": (232, 220, 40),
    "green": (40, 170, 56),
    "cyan": (56, 216, 224),
    "blue": (44, 72, 224),
    "purple": (156, 48, 204),
    "white": (232, 232, 232),
}
_RIM_LEVEL = 22
_PERIOD = 64  # pixels at height 180 after which every texture repeats
_NOISE_SIGMA, _NOISE_LIMIT, _FLICKER = 3.0, 14, 6.0
_RING_SCALE = 0.94


def _wave(values: npt.NDArray[np.float64], period: float) -> npt.NDArray[np.float64]:
    return 0.5 + 0.5 * np.sin(2 * np.pi * values / period)


def _pattern(
    scene: str, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Mix of the scene's two colours, 0 to 1; x and y in pixels at height 180."""
    match scene:
        case "forest":
            return (_wave(x, 32) > 0.5).astype(np.float64)
        case "desert":
            return _wave(y + 10 * np.sin(2 * np.pi * x / 64), 64)
        case "night":
            dots = [(8, 10), (40, 22), (24, 42), (56, 54)]
            near = [((x - a) % 64 - 4) ** 2 + ((y - b) % 64 - 4) ** 2 < 14 for a, b in dots]
            return np.any(near, axis=0).astype(np.float64)
        case "ocean":
            return (_wave(y, 32) > 0.5).astype(np.float64)
        case "city":
            return ((_wave(x, 32) > 0.5) ^ (_wave(y, 32) > 0.5)).astype(np.float64)
        case "cave":
            return (_wave(x + y, 32) > 0.5).astype(np.float64)
        case "sunset":
            return np.clip(y / 180 + 0.06 * np.sin(2 * np.pi * x / 64), 0, 1)
        case "snow":
            return (_wave(x - y, 64) > 0.5).astype(np.float64)
        case _:
            raise AssertionError(scene)


_SCENE_LOOKS: dict[str, tuple[tuple[int, int, int], tuple[int, int, int], tuple[float, float]]] = {
    # two colours, then the drift in pixels a second at height 180
    "forest": ((34, 64, 38), (56, 100, 54), (7.0, 0.0)),
    "desert": ((160, 126, 80), (194, 162, 108), (9.0, 2.0)),
    "night": ((34, 34, 64), (150, 150, 176), (3.0, 2.0)),
    "ocean": ((34, 88, 118), (52, 124, 152), (0.0, 6.0)),
    "city": ((84, 84, 88), (124, 124, 128), (5.0, 3.0)),
    "cave": ((78, 50, 36), (114, 78, 56), (8.0, 0.0)),
    "sunset": ((104, 58, 104), (196, 116, 72), (8.0, 0.0)),
    "snow": ((152, 164, 180), (190, 198, 206), (-8.0, 0.0)),
}


def _hash(*values: int) -> int:
    """Mix whole numbers to 64 bits: cheap and the same everywhere."""
    state = 0x9E3779B97F4A7C15
    for value in values:
        state = ((state ^ (value & 0xFFFFFFFFFFFFFFFF)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 29
    return state


class Renderer:
    """Draw timelines at one size; textures, masks and noise are made once and kept.

    Cost: about 0.1 ms a frame at 320 x 180.
    """

    def __init__(self, width: int = 320, height: int = 180) -> None:
        self.width, self.height = width, height
        self._unit = height / 180
        self._rim = max(1, round(2 * self._unit))
        self._cell_height, self._cell_width = height / 2, width / 2
        self._textures: dict[str, Frame] = {}
        self._masks: dict[tuple[str, int, int, str | None], SpriteMask] = {}
        self._rows = {
            name: np.tile(np.array(rgb, dtype=np.uint16), 2 * width)
            for name, rgb in COLOUR_RGB.items()
        }
        noise = np.random.default_rng(0).normal(0, _NOISE_SIGMA, (2 * height, 6 * width))
        clipped = np.clip(np.round(noise), -_NOISE_LIMIT, _NOISE_LIMIT)
        self._noise: Frame = clipped.astype(np.int8).view(np.uint8)

    def render(self, timeline: Timeline, t_seconds: float) -> Frame:
        """Draw the frame of one time.

        Returns: (H, W, 3) uint8 RGB.
        """
        frame = self._background(timeline, t_seconds)
        for appearance in timeline.active_at(t_seconds):
            pose = pose_at(appearance, t_seconds)
            if pose is not None:
                self._draw(frame, timeline.seed, appearance, pose, t_seconds)
        self._add_noise(frame, timeline.seed, t_seconds)
        return frame.reshape(self.height, self.width, 3)

    def render_many(self, timeline: Timeline, times_seconds: Sequence[float]) -> Frame:
        """Draw the frames of many times.

        Returns: (F, H, W, 3) uint8 RGB.
        """
        frames = np.empty((len(times_seconds), self.height, self.width, 3), dtype=np.uint8)
        for index, t_seconds in enumerate(times_seconds):
            frames[index] = self.render(timeline, float(t_seconds))
        return frames

    def _texture(self, scene: str) -> Frame:
        if scene not in self._textures:
            first, second, _ = _SCENE_LOOKS[scene]
            period = round(_PERIOD * self._unit)
            y, x = np.mgrid[0 : self.height + period, 0 : self.width + period] * (_PERIOD / period)
            mix = _pattern(scene, x, y)[..., None]
            rgb = np.array(first) * (1 - mix) + np.array(second) * mix
            self._textures[scene] = np.round(rgb).astype(np.uint8).reshape(len(rgb), -1)
        return self._textures[scene]

    def _background(self, timeline: Timeline, t_seconds: float) -> Frame:
        scene = timeline.scene_at(t_seconds).name
        texture = self._texture(scene)
        period = round(_PERIOD * self._unit)
        speed_x, speed_y = _SCENE_LOOKS[scene][2]
        left = round((speed_x * t_seconds + timeline.seed % _PERIOD) * self._unit) % period
        top = round(speed_y * t_seconds * self._unit) % period
        return texture[top : top + self.height, 3 * left : 3 * (left + self.width)].copy()

    def _mask(self, appearance: Appearance, pose: Pose) -> SpriteMask:
        height = max(4, 2 * round(pose.scale * self._cell_height / 2))
        angle = round((pose.angle_degrees % 360) / 7.5)
        name = appearance.digit or appearance.shape
        assert name is not None
        key = (name, height, angle, appearance.pattern)
        if key not in self._masks:
            self._masks[key] = (
                digit_mask(name, height, self._rim)
                if appearance.digit
                else shape_mask(name, height, angle * 7.5, self._rim, appearance.pattern)
            )
        return self._masks[key]

    def _ring(self) -> SpriteMask:
        height = 2 * round(_RING_SCALE * self._cell_height / 2) - 2 * self._rim
        key = ("ring", height, 0, None)
        if key not in self._masks:
            self._masks[key] = ring_mask(height, self._rim)
        return self._masks[key]

    def _draw(
        self, frame: Frame, seed: int, appearance: Appearance, pose: Pose, t_seconds: float
    ) -> None:
        mask = self._mask(appearance, pose)
        phase = _hash(seed, appearance.start_seconds, CELLS.index(appearance.cell)) % 628 / 100
        sway_x = 3 * self._unit * math.sin(1.7 * t_seconds + phase)
        sway_y = 3 * self._unit * math.sin(2.3 * t_seconds + 2 * phase)
        free = max(0.0, self._cell_width / 2 - mask.fill.shape[1] / 6 - 4 * self._unit)
        middle = (pose.offset * free + sway_x, sway_y)
        self._blend(frame, appearance.cell, mask, appearance.colour or "white", middle)
        if appearance.ringed:
            self._blend(frame, appearance.cell, self._ring(), "white", middle)

    def _blend(
        self, frame: Frame, cell: str, mask: SpriteMask, colour: str, middle: tuple[float, float]
    ) -> None:
        """Lay a sprite into its cell, `middle` pixels (x, y) off the cell's middle."""
        height, width = mask.fill.shape[0], mask.fill.shape[1] // 3
        row, column = divmod(CELLS.index(cell), 2)
        free_x, free_y = self._cell_width - width, self._cell_height - height
        left = round(column * self._cell_width + min(max(free_x / 2 + middle[0], 0), free_x))
        top = round(row * self._cell_height + min(max(free_y / 2 + middle[1], 0), free_y))
        patch = frame[top : top + height, 3 * left : 3 * (left + width)]
        mixed = patch * mask.rest
        mixed += mask.fill * self._rows[colour][: 3 * width]
        mixed += mask.rim * np.uint16(_RIM_LEVEL)
        patch[:] = mixed >> 8

    def _add_noise(self, frame: Frame, seed: int, t_seconds: float) -> None:
        mixed = _hash(seed, round(t_seconds * 1000))
        top, left = mixed % self.height, 3 * ((mixed >> 20) % self.width)
        frame += self._noise[top : top + self.height, left : left + frame.shape[1]]
        jump = ((mixed >> 40) % 100) / 100 - 0.5
        flicker = round(_FLICKER * (0.6 * math.sin(2.1 * t_seconds) + 0.8 * jump))
        frame += np.uint8(flicker % 256)


def render_ticks(
    timeline: Timeline,
    seconds: Sequence[int] | npt.NDArray[np.int64],
    *,
    size: tuple[int, int] = (320, 180),
    renderer: Renderer | None = None,
    rng: Random | None = None,
) -> Frame:
    """Draw the 1-FPS frames of whole seconds, as a reader of the mp4 would see them.

    Args:
        timeline: what to draw.
        seconds: which ticks.
        size: (width, height); ignored when `renderer` is given.
        renderer: keep one over many calls: its masks are made once.
        rng: for training: every frame is drawn up to half a second late and goes through `degrade`.
    Returns: (F, H, W, 3) uint8 RGB.
    """
    renderer = renderer or Renderer(*size)
    if rng is None:
        return renderer.render_many(timeline, [float(s) for s in seconds])
    # Only late, never early: events start on whole seconds, so the labels stay true.
    times = [float(s) + rng.uniform(0.0, 0.5) for s in seconds]
    return np.stack([degrade(renderer.render(timeline, t), rng) for t in times])


def degrade(frame: Frame, rng: Random) -> Frame:
    """Damage a frame as other codecs, sizes and players do; about a third comes back untouched.

    Returns: (H, W, 3) uint8 RGB of the same size.
    Cost: 2 ms at 320 x 180.
    """
    if rng.random() < 0.3:
        return frame
    image = Image.fromarray(frame)
    width, height = image.size
    if rng.random() < 0.3:
        left, right = (rng.uniform(0, 0.03) * width for _ in range(2))
        top, bottom = (rng.uniform(0, 0.03) * height for _ in range(2))
        image = image.crop((round(left), round(top), round(width - right), round(height - bottom)))
    if rng.random() < 0.4:
        share_x, share_y = rng.uniform(0.4, 1.5), rng.uniform(0.9, 1.1)
        smaller = (max(16, round(width * share_x)), max(16, round(height * share_x * share_y)))
        image = image.resize(smaller, rng.choice(_FILTERS))
    if rng.random() < 0.2:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.2) * height / 180))
    if rng.random() < 0.5:
        image = image.point(_tone_curve(rng))
    if rng.random() < 0.5:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=rng.randint(25, 90))
        image = Image.open(buffer)
    if image.size != (width, height):
        image = image.resize((width, height), rng.choice(_FILTERS))
    return np.asarray(image)


_FILTERS = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)


def _tone_curve(rng: Random) -> list[int]:
    """Draw a table of brightness, contrast and gamma for the three colours alike."""
    levels = np.arange(256) / 255
    curve = levels ** math.exp(rng.uniform(-0.3, 0.3))
    curve = (curve - 0.5) * rng.uniform(0.75, 1.25) + 0.5 + rng.uniform(-0.08, 0.08)
    table: list[int] = np.clip(np.round(curve * 255), 0, 255).astype(int).tolist()
    return table * 3
