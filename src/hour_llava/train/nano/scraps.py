"""Clips made to be cut up: one needle or part of the story after another, never two at once.

In an ordinary clip of half a minute needles and story overlap, and what overlaps cannot be cut out
of it alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from random import Random
from typing import Any

from hour_llava.world.timeline import (
    ACTIONS,
    CELLS,
    COLOURS,
    DIGITS,
    INTERACTION_SECONDS,
    PATIENTS,
    SCENES,
    SHAPES,
    VERBS,
    Appearance,
    Scene,
    Timeline,
    is_held_out,
)

SCENE_SECONDS = 15
KINDS = ("flash", "actor", "ringed", "digit", "interaction", "visitor", "performer")
WEIGHTS = (24, 13, 7, 7, 15, 15, 19)
"""How often each comes: what must match in most respects comes most often."""

QUIET_SECONDS, LONG_QUIET_SECONDS = (1, 2), (4, 14)
LONG_QUIET_SHARE = 0.25
PALETTE_SIZE = 4
"""Shapes beside a scene's pieces: fewer fit into more videos."""


def scrap_timeline(seconds: int, seed: int) -> Timeline:
    """Draw a clip full of pieces, with background shapes beside them.

    As in the split "train", no shape shows an action in a colour that is kept for exams.
    """
    rng = Random(f"scraps {seed} {seconds}")
    count = max(1, round(seconds / SCENE_SECONDS))
    cuts = [seconds * number // count for number in range(count + 1)]
    scenes = tuple(
        Scene(name=rng.choice(SCENES), start_seconds=start, end_seconds=end)
        for start, end in itertools.pairwise(cuts)
    )
    appearances: list[Appearance] = []
    for scene in scenes:
        pieces = list(_pieces(scene, rng))
        appearances += [*pieces, *_background(scene, pieces, rng)]
    return Timeline(
        seed=seed,
        duration_seconds=seconds,
        absent_shape=SHAPES[0],
        scenes=scenes,
        appearances=tuple(
            sorted(appearances, key=lambda a: (a.start_seconds, CELLS.index(a.cell)))
        ),
        split="train",
    )


def _pieces(scene: Scene, rng: Random) -> Iterator[Appearance]:
    """Put one thing after another, with a pause before each."""
    second = scene.start_seconds
    while True:
        is_long = rng.random() < LONG_QUIET_SHARE
        second += rng.randint(*(LONG_QUIET_SECONDS if is_long else QUIET_SECONDS))
        made = _piece(rng.choices(KINDS, weights=WEIGHTS)[0], second, rng)
        if made[0].end_seconds > scene.end_seconds:
            return
        yield from made
        second = made[0].end_seconds


def _piece(kind: str, start: int, rng: Random) -> list[Appearance]:
    """Draw one needle or one part of the story."""
    if kind == "interaction":
        return _interaction(start, rng)
    shape, colour, action = rng.choice(SHAPES), rng.choice(COLOURS), None
    length = rng.randint(1, 3)
    if kind == "visitor":
        length = rng.randint(2, 4)
    elif kind in ("actor", "performer"):
        action = rng.choice(ACTIONS)
        length = 5 if action == "blinks" else rng.randint(4, 6)
        colour = _allowed_colour(shape, action, rng)
    fields: dict[str, Any] = {"shape": shape, "colour": colour, "action": action}
    fields["ringed"] = kind == "ringed"
    fields["pattern"] = {"visitor": "striped", "performer": "dotted"}.get(kind)
    if kind == "digit":
        fields = {"digit": rng.choice(DIGITS)}
    end = start + length
    cell = rng.choice(CELLS)
    return [Appearance(role=kind, cell=cell, start_seconds=start, end_seconds=end, **fields)]


def _interaction(start: int, rng: Random) -> list[Appearance]:
    verb, row, side = rng.randrange(len(VERBS)), rng.choice((0, 2)), rng.randrange(2)
    shapes, colours = rng.sample(SHAPES, 2), rng.sample(COLOURS, 2)
    actions, cells = (VERBS[verb], PATIENTS[verb]), (CELLS[row + side], CELLS[row + 1 - side])
    return [
        Appearance(
            role=role,
            cell=cell,
            start_seconds=start,
            end_seconds=start + INTERACTION_SECONDS,
            shape=shape,
            colour=colour,
            action=action,
        )
        for role, cell, shape, colour, action in zip(
            ("agent", "patient"), cells, shapes, colours, actions, strict=True
        )
    ]


def _allowed_colour(shape: str, action: str, rng: Random) -> str:
    return rng.choice([c for c in COLOURS if not is_held_out(shape, c, action)])


def _background(scene: Scene, pieces: list[Appearance], rng: Random) -> Iterator[Appearance]:
    """Fill free cells now and then, as often as in an ordinary video."""
    palette = rng.sample(SHAPES, PALETTE_SIZE)
    taken = [(one.cell, one.start_seconds, one.end_seconds) for one in pieces]
    second = scene.start_seconds + rng.randint(0, 5)
    while second < scene.end_seconds:
        action = rng.choice(ACTIONS) if rng.random() < 0.5 else None
        length = rng.randint(4, 20) if action is None else rng.randint(4, 6)
        length = 5 if action == "blinks" else length
        end = min(second + length, scene.end_seconds)
        free = [
            cell
            for cell in CELLS
            if not any(c == cell and s < end and second < e for c, s, e in taken)
        ]
        if free and end - second >= (3 if action is None else length):
            shape, cell = rng.choice(palette), rng.choice(free)
            colour = _allowed_colour(shape, action, rng) if action else rng.choice(COLOURS)
            taken.append((cell, second, end))
            yield Appearance(
                role="background",
                cell=cell,
                start_seconds=second,
                end_seconds=end,
                shape=shape,
                colour=colour,
                action=action,
            )
        second += length // 2 + rng.randint(0, 11)
