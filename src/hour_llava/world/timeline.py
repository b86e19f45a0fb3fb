"""What happens in a MarathonWorld video, second by second: the exact truth, before any pixel.

A video is a row of scenes (each at most once) with shapes and digits in four cells. All starts and
ends are whole seconds, so that the truth of every 1-FPS frame is exact. Roles of an appearance:

    flash       one of three rare shapes, once in the video, 1-3 s: the needles
    actor       the fourth rare shape, once, 4-6 s, doing one of six actions
    ringed      a background shape inside a white ring, 1-3 s, the only ring of the video
    digit       0-3 of them, 1-3 s each
    background  the other seven shapes, again and again: the distractors

A twelfth shape is absent. Needles (all but background) never overlap in time and lie in one scene.
Short videos may have no room for all of them; from a minute on all are there.
Randomness comes from `random.Random`, whose streams do not change between library versions.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt

from hour_llava.errors import HourLlavaError

SHAPES: tuple[str, ...] = (
    "arrow", "bolt", "boot", "crown", "fish", "flag",
    "heart", "house", "moon", "mushroom", "star", "triangle",
)  # fmt: skip
COLOURS: tuple[str, ...] = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "white")
DIGITS: tuple[str, ...] = tuple("0123456789")
SCENES: tuple[str, ...] = ("forest", "desert", "night", "ocean", "city", "cave", "sunset", "snow")
CELLS: tuple[str, ...] = ("top left", "top right", "bottom left", "bottom right")
ACTIONS: tuple[str, ...] = ("grows", "shrinks", "spins", "moves right", "moves left", "blinks")
ROLES: tuple[str, ...] = ("flash", "actor", "ringed", "digit", "background")

FORMAT_VERSION = 1
MIN_SECONDS = 14
MAX_SECONDS = 24 * 3600
SMALL, MEDIUM, LARGE = 0.46, 0.68, 0.90
RINGED_SCALE, DIGIT_SCALE = 0.60, 0.86


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One background, from `start_seconds` up to, not including, `end_seconds`."""

    name: str
    start_seconds: int
    end_seconds: int


@dataclass(frozen=True, kw_only=True)
class Appearance:
    """A shape (or a digit) in one cell for some whole seconds; `digit` is set for digits only."""

    role: str
    cell: str
    start_seconds: int
    end_seconds: int
    shape: str | None = None
    colour: str | None = None
    digit: str | None = None
    action: str | None = None
    ringed: bool = False


@dataclass(frozen=True, kw_only=True)
class Pose:
    """How an appearance looks at one moment.

    `scale` is its diameter over the cell's height, `offset` its place from -1 (left) to 1 (right).
    """

    scale: float
    angle_degrees: float
    offset: float


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """The whole truth of one video; appearances are sorted by start and cell."""

    seed: int
    duration_seconds: int
    absent_shape: str
    scenes: tuple[Scene, ...]
    appearances: tuple[Appearance, ...]

    @cached_property
    def _active(self) -> list[tuple[Appearance, ...]]:
        active: list[list[Appearance]] = [[] for _ in range(self.duration_seconds)]
        for appearance in self.appearances:
            for second in range(appearance.start_seconds, appearance.end_seconds):
                active[second].append(appearance)
        return [tuple(a) for a in active]

    def active_at(self, t_seconds: float) -> tuple[Appearance, ...]:
        """List what is in the picture at a time (a blinking one also in its dark seconds)."""
        return self._active[min(max(int(t_seconds), 0), self.duration_seconds - 1)]

    def scene_at(self, t_seconds: float) -> Scene:
        """Return the scene at a time; beyond the ends, the first or the last one."""
        return next((s for s in self.scenes if t_seconds < s.end_seconds), self.scenes[-1])

    @cached_property
    def needles(self) -> tuple[Appearance, ...]:
        """All appearances but the background's, in order of time."""
        return tuple(a for a in self.appearances if a.role != "background")

    def with_role(self, role: str) -> tuple[Appearance, ...]:
        """List the appearances of one role, in order of time."""
        among = self.appearances if role == "background" else self.needles
        return tuple(a for a in among if a.role == role)

    def to_json(self) -> str:
        """Write the timeline as JSON text; equal timelines give equal bytes."""
        appearances = ",\n".join(
            "  "
            + json.dumps({k: v for k, v in asdict(a).items() if v is not None and v is not False})
            for a in self.appearances
        )
        scenes = ",\n".join("  " + json.dumps(asdict(s)) for s in self.scenes)
        return (
            f'{{"format": "marathon_world", "version": {FORMAT_VERSION},\n'
            f'"seed": {self.seed}, "duration_seconds": {self.duration_seconds}, '
            f'"absent_shape": {json.dumps(self.absent_shape)},\n'
            f'"scenes": [\n{scenes}],\n"appearances": [\n{appearances}]}}\n'
        )

    @staticmethod
    def from_json(text: str) -> Timeline:
        """Read what `to_json` wrote.

        Raises:
            HourLlavaError: not JSON, another format, or a newer version.
        """
        try:
            raw: dict[str, Any] = json.loads(text)
            if raw.get("format") != "marathon_world" or raw.get("version") != FORMAT_VERSION:
                raise HourLlavaError(
                    f"truth.json: format {raw.get('format')!r} version {raw.get('version')!r}, but "
                    f"this hour-llava reads 'marathon_world' version {FORMAT_VERSION}; make it anew"
                )
            return Timeline(
                seed=raw["seed"],
                duration_seconds=raw["duration_seconds"],
                absent_shape=raw["absent_shape"],
                scenes=tuple(Scene(**s) for s in raw["scenes"]),
                appearances=tuple(Appearance(**a) for a in raw["appearances"]),
            )
        except (json.JSONDecodeError, AttributeError, KeyError, TypeError) as error:
            raise HourLlavaError(f"truth.json: not a MarathonWorld timeline ({error!r})") from error


def pose_at(appearance: Appearance, t_seconds: float) -> Pose | None:
    """Return how an appearance looks at a time, None where a blinking one is dark.

    Every action changes visibly from one whole second to the next, and smoothly in between.
    """
    passed = t_seconds - appearance.start_seconds
    steps = max(1, appearance.end_seconds - appearance.start_seconds - 1)
    progress = min(max(passed / steps, 0.0), 1.0)
    scale = RINGED_SCALE if appearance.ringed else MEDIUM
    angle, offset = 0.0, 0.0
    match appearance.action:
        case "grows":
            scale = SMALL + (LARGE - SMALL) * progress
        case "shrinks":
            scale = LARGE - (LARGE - SMALL) * progress
        case "spins":
            angle = 90.0 * passed
        case "moves right":
            offset = 2.0 * progress - 1.0
        case "moves left":
            offset = 1.0 - 2.0 * progress
        case "blinks":
            if int(passed) % 2:
                return None
        case _:
            scale = DIGIT_SCALE if appearance.digit else scale
    return Pose(scale=scale, angle_degrees=angle, offset=offset)


class _Room:
    """Which seconds are taken by needles, and which cells by anything, while a video is filled."""

    def __init__(self, rng: Random, num_seconds: int, scenes: tuple[Scene, ...]) -> None:
        self.rng = rng
        self.num_seconds = num_seconds
        self.cuts = {scene.start_seconds for scene in scenes}
        self.needles = bytearray(num_seconds + 2)  # one second of margin on both sides
        self.cells = [bytearray(num_seconds) for _ in CELLS]

    def _fits(self, start: int, length: int) -> bool:
        quiet = not any(self.needles[start : start + length + 2])
        return quiet and not any(start < cut < start + length for cut in self.cuts)

    def needle_start(self, length: int) -> int | None:
        """Draw a start among all that fit: a few tries, then the list of all."""
        last = self.num_seconds - length
        for _ in range(20):
            if self._fits(start := self.rng.randint(0, last), length):
                return start
        starts = [s for s in range(last + 1) if self._fits(s, length)]
        return self.rng.choice(starts) if starts else None

    def take(self, start: int, length: int, *, is_needle: bool) -> str | None:
        """Take a free cell for some seconds and name it; None when all four are taken."""
        free = [c for c in range(len(CELLS)) if not any(self.cells[c][start : start + length])]
        if not free:
            return None
        cell = self.rng.choice(free)
        self.cells[cell][start : start + length] = b"\1" * length
        if is_needle:
            self.needles[start + 1 : start + 1 + length] = b"\1" * length
        return CELLS[cell]


def _make_scenes(rng: Random, num_seconds: int) -> tuple[Scene, ...]:
    most = min(len(SCENES), 2 + num_seconds // 40)
    count = rng.randint(2 if num_seconds < 600 else 4, most)
    shortest = max(3, num_seconds // (4 * count))
    slack = num_seconds - count * shortest
    cuts = sorted(rng.randint(0, slack) for _ in range(count - 1))
    ends = [(i + 1) * shortest + cut for i, cut in enumerate([*cuts, slack])]
    names = rng.sample(SCENES, count)
    return tuple(
        Scene(name=name, start_seconds=start, end_seconds=end)
        for name, start, end in zip(names, [0, *ends[:-1]], ends, strict=True)
    )


def _draw_action(rng: Random) -> tuple[str, int]:
    """Draw an action and its seconds; a blinking one is seen in its first and its last second."""
    action = rng.choice(ACTIONS)
    return action, 5 if action == "blinks" else rng.randint(4, 6)


def _plan_needles(
    rng: Random, rare: list[str], background: list[str]
) -> list[tuple[int, dict[str, Any]]]:
    """List (seconds, fields) of all needles: the longest first, the others in random order."""
    action, length = _draw_action(rng)
    fields = {"role": "actor", "shape": rare[3], "colour": rng.choice(COLOURS), "action": action}
    plan: list[tuple[int, dict[str, Any]]] = [
        (rng.randint(1, 3), {"role": "flash", "shape": s, "colour": rng.choice(COLOURS)})
        for s in rare[:3]
    ]
    ringed = {"shape": rng.choice(background), "colour": rng.choice(COLOURS), "ringed": True}
    plan.append((rng.randint(1, 3), {"role": "ringed", **ringed}))
    num_digits = rng.choices(range(4), weights=(10, 60, 15, 15))[0]
    plan += [
        (rng.randint(1, 3), {"role": "digit", "digit": digit})
        for digit in rng.sample(DIGITS, num_digits)
    ]
    rng.shuffle(plan)
    return [(length, fields), *plan]


def _add_background(rng: Random, room: _Room, shapes: list[str]) -> Iterable[Appearance]:
    second = rng.randint(0, 5)
    while second < room.num_seconds - 6:
        action, length = _draw_action(rng)
        if rng.random() < 0.5:
            action, length = None, rng.randint(4, 20)
        length = min(length, room.num_seconds - second)
        cell = room.take(second, length, is_needle=False)
        if cell is not None:
            yield Appearance(
                role="background",
                cell=cell,
                start_seconds=second,
                end_seconds=second + length,
                shape=rng.choice(shapes),
                colour=rng.choice(COLOURS),
                action=action,
            )
        second += length // 2 + rng.randint(0, 11)


def make_timeline(seconds: int, seed: int) -> Timeline:
    """Draw the timeline of one video; the same arguments give the same timeline.

    Raises:
        HourLlavaError: a length outside 14 seconds to 24 hours.
    Cost: 4 ms for an hour, 0.3 ms for a minute.
    """
    if not MIN_SECONDS <= seconds <= MAX_SECONDS:
        raise HourLlavaError(
            f"a video of {seconds} seconds: MarathonWorld makes {MIN_SECONDS} seconds to "
            f"{MAX_SECONDS} seconds (24 hours); choose a length between"
        )
    rng = Random(f"marathon_world {FORMAT_VERSION} {seed} {seconds}")
    shapes = rng.sample(SHAPES, len(SHAPES))
    rare, absent, background = shapes[:4], shapes[4], shapes[5:]
    scenes = _make_scenes(rng, seconds)
    room = _Room(rng, seconds, scenes)
    appearances: list[Appearance] = []
    for length, fields in _plan_needles(rng, rare, background):
        start = room.needle_start(length)
        cell = room.take(start, length, is_needle=True) if start is not None else None
        if start is not None and cell is not None:
            end = start + length
            appearances.append(
                Appearance(cell=cell, start_seconds=start, end_seconds=end, **fields)
            )
    appearances += _add_background(rng, room, background)
    return Timeline(
        seed=seed,
        duration_seconds=seconds,
        absent_shape=absent,
        scenes=scenes,
        appearances=tuple(
            sorted(appearances, key=lambda a: (a.start_seconds, CELLS.index(a.cell)))
        ),
    )


def _third(value: float, low: float, high: float) -> int:
    return int(value > low) + int(value > high)


def attributes_per_second(
    timeline: Timeline, seconds: npt.ArrayLike | None = None
) -> dict[str, npt.NDArray[np.int64]]:
    """Label what stands in every cell at whole seconds (all of the video by default).

    Returns: arrays (F, 4 cells), int64, -1 where there is nothing (or nothing of the kind):
        scene, shape, colour, digit: indices into SCENES, SHAPES, COLOURS, DIGITS;
        size: 0 small, 1 medium, 2 large; orientation: quarter turns; offset: 0 left, 1 middle,
        2 right; ringed: 0 or 1.
    """
    wanted = np.arange(timeline.duration_seconds) if seconds is None else np.asarray(seconds)
    shape = (len(wanted), len(CELLS))
    names = ("scene", "shape", "colour", "digit", "size", "orientation", "offset", "ringed")
    labels = {name: np.full(shape, -1, dtype=np.int64) for name in names}
    for row, second in enumerate(int(s) for s in wanted):
        labels["scene"][row] = SCENES.index(timeline.scene_at(second).name)
        for appearance in timeline.active_at(second):
            for name, value in _labels_of(appearance, second).items():
                labels[name][row, CELLS.index(appearance.cell)] = value
    return labels


def _labels_of(appearance: Appearance, second: int) -> dict[str, int]:
    pose = pose_at(appearance, second)
    if pose is None:
        return {}
    if appearance.digit is not None:
        return {"digit": DIGITS.index(appearance.digit)}
    assert appearance.shape is not None and appearance.colour is not None
    low, high = (SMALL + (LARGE - SMALL) * share for share in (0.3, 0.7))
    return {
        "shape": SHAPES.index(appearance.shape),
        "colour": COLOURS.index(appearance.colour),
        "size": _third(pose.scale, low, high),
        "orientation": round(pose.angle_degrees / 90.0) % 4,
        "offset": _third(pose.offset, -0.4, 0.4),
        "ringed": int(appearance.ringed),
    }
