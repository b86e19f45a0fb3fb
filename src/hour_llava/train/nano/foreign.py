"""Videos of no world that nano knows: what it should be unsure about.

Shape letters: F frames, S image side, C channels.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

KINDS = ("clouds", "collage", "lines", "photo")
SECONDS_A_SHOT = 8


def foreign_frames(num_frames: int, size: int, seed: int) -> np.ndarray:
    """Draw a video of another world: soft noise, collages, lines, or all of it blurred together.

    Shots of a few seconds drift a little and are cut, as films do.

    Returns: (F, S, S, 3) uint8.
    """
    rng = np.random.default_rng(seed)
    kind = KINDS[seed % len(KINDS)]
    frames: list[np.ndarray] = []
    while len(frames) < num_frames:
        shot = _picture(kind, 2 * size, rng)
        step = rng.integers(-3, 4, 2)
        place = rng.integers(size // 4, 3 * size // 4, 2)
        for _ in range(SECONDS_A_SHOT):
            top, left = np.clip(place, 0, size)
            noisy = shot[top : top + size, left : left + size] + rng.normal(0, 4, (size, size, 3))
            frames.append(np.clip(noisy, 0, 255).astype(np.uint8))
            place = place + step
    return np.stack(frames[:num_frames])


def _picture(kind: str, size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw one still, (S, S, 3) float."""
    if kind == "clouds":
        return _clouds(size, rng)
    image = Image.fromarray(np.clip(_clouds(size, rng), 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(4, 30))):
        colour = tuple(int(level) for level in rng.integers(0, 256, 3))
        x, y = (int(value) for value in rng.integers(0, size, 2))
        width, height = (int(value) for value in rng.integers(4, size // 2, 2))
        if kind == "lines":
            draw.line([x, y, x + width, y + height], fill=colour, width=int(rng.integers(1, 6)))
        elif rng.random() < 0.5:
            draw.rectangle([x, y, x + width, y + height], fill=colour)
        else:
            draw.ellipse([x, y, x + width, y + height], fill=colour)
    if kind == "photo":
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(1, 4))))
    return np.asarray(image).astype(np.float64)


def _clouds(size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw coloured noise whose power falls with frequency, as it does in natural pictures."""
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size)))
    falloff = 1 / np.maximum(frequency, 1 / size) ** rng.uniform(0.8, 1.8)
    spectrum = (rng.normal(size=(2, 3, size, size)) * falloff).astype(np.float64)
    grey = (rng.normal(size=(2, 1, size, size)) * falloff).astype(np.float64)
    mixed = spectrum * rng.uniform(0, 1) + grey
    picture = np.fft.ifft2(mixed[0] + 1j * mixed[1]).real
    picture = (picture - picture.mean()) / picture.std()
    return (rng.uniform(70, 180) + rng.uniform(20, 60) * picture).transpose(1, 2, 0)
