"""Crowded clips for the vision tower: every cell busy, every pose as frequent as the usual one."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from hour_llava.world.timeline import (
    CELLS,
    COLOURS,
    DIGITS,
    PATTERNS,
    SCENES,
    SHAPES,
    Appearance,
    Scene,
    Timeline,
)

KINDS, WEIGHTS = ("none", "still", "action", "digit", "ringed"), (15, 25, 45, 8, 7)
ACTIONS = ("grows", "shrinks", "spins", "spins", "moves right", "moves left")


def drill_timeline(seconds: int, seed: int) -> Timeline:
    """Draw a clip in which the four cells show one thing after another, all at once.

    In an ordinary clip a shape is seldom turned; a tower that learns from such clips alone takes
    one turned shape in four for another, and so finds false needles in every hour.
    """
    rng = Random(f"drill {seed} {seconds}")
    appearances = [one for cell in CELLS for one in _fill(cell, seconds, rng)]
    names = rng.sample(SCENES, 4)
    cuts = [0, seconds // 4, seconds // 2, 3 * seconds // 4, seconds]
    return Timeline(
        seed=seed,
        duration_seconds=seconds,
        absent_shape=SHAPES[0],
        scenes=tuple(
            Scene(name=name, start_seconds=start, end_seconds=end)
            for name, start, end in zip(names, cuts, cuts[1:], strict=False)
        ),
        appearances=tuple(
            sorted(appearances, key=lambda a: (a.start_seconds, CELLS.index(a.cell)))
        ),
    )


def _fill(cell: str, seconds: int, rng: Random) -> Iterator[Appearance]:
    """Put things into a cell until the clip is full."""
    start = 0
    while start < seconds:
        kind = rng.choices(KINDS, weights=WEIGHTS)[0]
        length = rng.randint(1, 3) if kind != "action" else rng.randint(4, 6)
        end = min(start + length, seconds)
        span = {"cell": cell, "start_seconds": start, "end_seconds": end, "role": "background"}
        if kind == "digit":
            yield Appearance(digit=rng.choice(DIGITS), **span)  # pyright: ignore[reportArgumentType]
        elif kind != "none":
            yield Appearance(
                shape=rng.choice(SHAPES),
                colour=rng.choice(COLOURS),
                action=rng.choice(ACTIONS) if kind == "action" else None,
                ringed=kind == "ringed",
                pattern=rng.choice(PATTERNS) if rng.random() < 0.25 else None,
                **span,  # pyright: ignore[reportArgumentType]
            )
        start = end
