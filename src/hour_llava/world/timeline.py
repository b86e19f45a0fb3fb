"""What happens in a MarathonWorld video, second by second: the exact truth, before any pixel.

A video is a row of scenes (each at most once) with shapes and digits in four cells. All starts and
ends are whole seconds, so that the truth of every 1-FPS frame is exact. Roles of an appearance:

    flash       one of three rare shapes, once in the video, 1-3 s: the needles
    actor       the fourth rare shape, once, 4-6 s, doing one of six actions
    ringed      a background shape inside a white ring, 1-3 s, the only ring of the video
    digit       0-3 of them, 1-3 s each
    background  the other seven shapes, again and again: the distractors
    agent       a background shape that does something to the patient beside it, 6 s
    patient     what it is done to: same seconds, other cell of the same row
    visitor     a striped background shape, seen twice, far apart, out of sight in between
    performer   the dotted background shape, which does another action each time it comes

A twelfth shape is absent. Needles (flash, actor, ringed, digit) never overlap in time, nor does the
story (the last four roles); all lie in one scene. Short videos may have no room for everything:
from a minute on all needles are there, from three minutes on the whole story.
Randomness comes from `random.Random`, whose streams do not change between library versions.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from random import Random
from typing import Any

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
VERBS: tuple[str, ...] = ("pushes", "chases", "turns", "feeds", "squeezes")
PATIENTS: tuple[str, ...] = ("is pushed", "is chased", "is turned", "is fed", "is squeezed")
ACTS: tuple[str, ...] = (*ACTIONS, *VERBS, *PATIENTS)
PATTERNS: tuple[str, ...] = ("striped", "dotted")
NEEDLES: tuple[str, ...] = ("flash", "actor", "ringed", "digit")
STORY: tuple[str, ...] = ("agent", "patient", "visitor", "performer")
ROLES: tuple[str, ...] = (*NEEDLES, "background", *STORY)
SPLITS: tuple[str, ...] = ("any", "train", "exam")

FORMAT_VERSION = 2
_READABLE_VERSIONS = (1, 2)  # version 1 had no story
MIN_SECONDS = 14
MAX_SECONDS = 24 * 3600
SMALL, MEDIUM, LARGE = 0.46, 0.68, 0.90
RINGED_SCALE, DIGIT_SCALE = 0.60, 0.86
CONTACT_SECONDS, INTERACTION_SECONDS = 2, 6


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One background, from `start_seconds` up to, not including, `end_seconds`."""

    name: str
    start_seconds: int
    end_seconds: int


@dataclass(frozen=True, kw_only=True)
class Appearance:
    """A shape (or a digit) in one cell for some whole seconds; `digit` is set for digits only.

    `action` is one of `ACTIONS`, an agent's verb, or what happens to a patient.
    """

    role: str
    cell: str
    start_seconds: int
    end_seconds: int
    shape: str | None = None
    colour: str | None = None
    digit: str | None = None
    action: str | None = None
    ringed: bool = False
    pattern: str | None = None


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
    """The whole truth of one video; appearances are sorted by start and cell.

    `split` says which compositions may occur: see `is_held_out`.
    """

    seed: int
    duration_seconds: int
    absent_shape: str
    scenes: tuple[Scene, ...]
    appearances: tuple[Appearance, ...]
    split: str = "any"

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
        """All flashes, digits, the actor and what is ringed, in order of time."""
        return tuple(a for a in self.appearances if a.role in NEEDLES)

    def with_role(self, role: str) -> tuple[Appearance, ...]:
        """List the appearances of one role, in order of time."""
        among = self.needles if role in NEEDLES else self.appearances
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
            f'"absent_shape": {json.dumps(self.absent_shape)}, "split": {json.dumps(self.split)},\n'
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
            form, version = raw.get("format"), raw.get("version")
            if form != "marathon_world" or version not in _READABLE_VERSIONS:
                raise HourLlavaError(
                    f"truth.json: format {form!r} version {version!r}, but this hour-llava reads "
                    f"'marathon_world' versions 1 to {FORMAT_VERSION}; make it anew"
                )
            return Timeline(
                seed=raw["seed"],
                duration_seconds=raw["duration_seconds"],
                absent_shape=raw["absent_shape"],
                scenes=tuple(Scene(**s) for s in raw["scenes"]),
                appearances=tuple(Appearance(**a) for a in raw["appearances"]),
                split=raw.get("split", "any"),
            )
        except (json.JSONDecodeError, AttributeError, KeyError, TypeError) as error:
            raise HourLlavaError(f"truth.json: not a MarathonWorld timeline ({error!r})") from error


def pose_at(appearance: Appearance, t_seconds: float) -> Pose | None:
    """Return how an appearance looks at a time, None where a blinking one is dark.

    Every action changes visibly from one whole second to the next, and smoothly in between.
    """
    if appearance.action in VERBS or appearance.action in PATIENTS:
        return _interacting_pose(appearance, t_seconds)
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


def _interacting_pose(appearance: Appearance, t_seconds: float) -> Pose:
    """Place agent and patient: the agent comes up to the patient, and then it happens.

    In a chase both run in one direction, side by side in their cells.
    """
    inward = 1.0 if appearance.cell.endswith("left") else -1.0
    passed = t_seconds - appearance.start_seconds
    whole = min(passed / (INTERACTION_SECONDS - 1), 1.0)
    approach = min(passed / CONTACT_SECONDS, 1.0)
    after = min(max(passed - CONTACT_SECONDS, 0.0) / (INTERACTION_SECONDS - 1 - CONTACT_SECONDS), 1)
    scale, angle, offset = MEDIUM, 0.0, inward
    match appearance.action:
        case "chases":
            offset = inward * (2.0 * whole - 1.0)
        case "is chased":
            offset = inward * (1.0 - 2.0 * whole)
        case "is pushed":
            offset = inward * (1.0 - 2.0 * after)
        case "is turned":
            angle = 90.0 * max(passed - CONTACT_SECONDS, 0.0)
        case "is fed":
            scale = SMALL + (LARGE - SMALL) * after
        case "is squeezed":
            scale = LARGE - (LARGE - SMALL) * after
        case _:
            offset = inward * (2.0 * approach - 1.0)
    return Pose(scale=scale, angle_degrees=angle, offset=offset)


class _Room:
    """Which seconds are taken by needles, and which cells by anything, while a video is filled."""

    def __init__(self, rng: Random, num_seconds: int, scenes: tuple[Scene, ...]) -> None:
        self.rng = rng
        self.num_seconds = num_seconds
        self.cuts = {scene.start_seconds for scene in scenes}
        self.needles = bytearray(num_seconds + 2)  # one second of margin on both sides
        self.cells = [bytearray(num_seconds) for _ in CELLS]
        self.story = bytearray(num_seconds + 2)

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
        free = self.free_cells(start, length)
        if not free:
            return None
        cell = self.rng.choice(free)
        self.cells[cell][start : start + length] = b"\1" * length
        if is_needle:
            self.needles[start + 1 : start + 1 + length] = b"\1" * length
        return CELLS[cell]

    def free_cells(self, start: int, length: int) -> list[int]:
        """List the cells that stay empty for some seconds."""
        return [c for c in range(len(CELLS)) if not any(self.cells[c][start : start + length])]

    def story_spots(self, length: int, first: int, last: int) -> Iterator[tuple[int, list[int]]]:
        """Draw (start, free cells) for the story, in random order, up to 200 of them."""
        starts = range(max(0, first), min(last, self.num_seconds - length) + 1)
        for start in self.rng.sample(starts, min(len(starts), 200)):
            quiet = not any(self.story[start : start + length + 2])
            if quiet and not any(start < cut < start + length for cut in self.cuts):
                free = self.free_cells(start, length)
                if free:
                    yield start, free

    def take_for_story(self, appearance: Appearance) -> Appearance:
        """Mark an appearance's seconds and cell as taken, and give it back."""
        start, end = appearance.start_seconds, appearance.end_seconds
        self.cells[CELLS.index(appearance.cell)][start:end] = b"\1" * (end - start)
        self.story[start + 1 : end + 1] = b"\1" * (end - start)
        return appearance


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


def _add_interactions(rng: Random, room: _Room, shapes: list[str]) -> Iterator[Appearance]:
    """Let shapes do something to others; nobody is agent twice, nobody is patient twice."""
    wanted = 1 + sum(room.num_seconds >= seconds for seconds in (60, 150, 600))
    agents, verbs = rng.sample(shapes, wanted), rng.sample(range(len(VERBS)), wanted)
    patients = agents[1:] + agents[:1] if wanted > 1 else []
    if rng.random() < 0.5 or not patients:  # else a ring: each is patient of the next
        patients = rng.sample([s for s in shapes if s not in agents], min(wanted, 3))
        patients += agents[: wanted - len(patients)]
    for agent, patient, verb in zip(agents, patients, verbs, strict=True):
        colours = rng.sample(COLOURS, 2)
        spots = room.story_spots(INTERACTION_SECONDS, 0, room.num_seconds)
        for start, free in spots:
            rows = [row for row in (0, 2) if row in free and row + 1 in free]
            if rows:
                row, side = rng.choice(rows), rng.randrange(2)
                for role, shape, colour, action, cell in (
                    ("agent", agent, colours[0], VERBS[verb], row + side),
                    ("patient", patient, colours[1], PATIENTS[verb], row + 1 - side),
                ):
                    yield room.take_for_story(
                        Appearance(
                            role=role,
                            shape=shape,
                            colour=colour,
                            action=action,
                            cell=CELLS[cell],
                            start_seconds=start,
                            end_seconds=start + INTERACTION_SECONDS,
                        )
                    )
                break


def _add_visitor(rng: Random, room: _Room, shape: str, colour: str) -> Iterator[Appearance]:
    """Show a striped shape twice, far apart, as often in the same cell as in another."""
    fields: dict[str, Any] = {"shape": shape, "colour": colour, "pattern": "striped"}
    total, length, length2 = room.num_seconds, rng.randint(2, 4), rng.randint(2, 4)
    apart = max(60, total // 5) if total >= 150 else total // 4
    stays = rng.random() < 0.5
    for start, free in room.story_spots(length, 0, total * 9 // 20):
        cell = rng.choice(free)
        for start2, free2 in room.story_spots(length2, start + length + apart, total):
            fitting = [c for c in free2 if (c == cell) == stays]
            if fitting:
                for s, n, c in ((start, length, cell), (start2, length2, rng.choice(fitting))):
                    end = s + n
                    yield room.take_for_story(
                        Appearance(
                            role="visitor",
                            cell=CELLS[c],
                            start_seconds=s,
                            end_seconds=end,
                            **fields,
                        )
                    )
                return


def _add_performer(
    rng: Random, room: _Room, shape: str, actor_action: str | None
) -> Iterator[Appearance]:
    """Let the dotted shape do one action after another, all over the video.

    What the actor does is among them as often as not.
    """
    count = 1 + sum(room.num_seconds >= seconds for seconds in (30, 60, 150, 600))
    actions = rng.sample([a for a in ACTIONS if a != actor_action], count)
    if actor_action is not None and rng.random() < 0.5:
        actions[rng.randrange(count)] = actor_action
    colour = rng.choice(COLOURS)
    part = room.num_seconds / count
    for number, action in enumerate(actions):
        length = 5 if action == "blinks" else rng.randint(4, 6)
        first, last = int(number * part), int((number + 1) * part) - length
        for start, free in room.story_spots(length, first, last):
            yield room.take_for_story(
                Appearance(
                    role="performer",
                    cell=CELLS[rng.choice(free)],
                    start_seconds=start,
                    end_seconds=start + length,
                    shape=shape,
                    colour=colour,
                    action=action,
                    pattern="dotted",
                )
            )
            break


def _add_story(
    room: _Room, appearances: Sequence[Appearance], shapes: list[str]
) -> Iterator[Appearance]:
    """Add what stands beside needles and background, from a random stream of its own.

    A visitor has the colour of one flash, so that colours far apart can be compared.
    """
    rng = room.rng
    colours = [a.colour for a in appearances if a.role == "flash" and a.colour] or list(COLOURS)
    action = next((a.action for a in appearances if a.role == "actor"), None)
    dotted, *striped = rng.sample(shapes, 3 if room.num_seconds >= 600 else 2)
    parts = [
        _add_interactions(rng, room, shapes),
        _add_performer(rng, room, dotted, action),
        *(_add_visitor(rng, room, shape, rng.choice(colours)) for shape in striped),
    ]
    rng.shuffle(parts)
    for part in parts:
        yield from part


def is_held_out(shape: str, colour: str, action: str) -> bool:
    """Say whether a composition never occurs in videos of the split "train".

    Of every shape and action one colour in eight; each two of the three are seen together.
    """
    numbers = SHAPES.index(shape), COLOURS.index(colour), ACTIONS.index(action)
    return sum(numbers) % len(COLOURS) == 0


def _recolour(appearances: list[Appearance], split: str) -> Iterator[Appearance]:
    """Keep held-out compositions out of "train", and give the actor of "exam" one."""
    performed = {a.action for a in appearances if a.role == "performer"}
    for appearance in appearances:
        shape, colour, action = appearance.shape, appearance.colour, appearance.action
        if shape is None or colour is None or action not in ACTIONS:
            yield appearance
            continue
        actions = [a for a in performed if a] if appearance.role == "performer" else [action]
        start = COLOURS.index(colour)
        turned = COLOURS[start:] + COLOURS[:start]
        if split == "train":
            fitting = (c for c in turned if not any(is_held_out(shape, c, a) for a in actions))
            colour = next(fitting)
        elif appearance.role == "actor":
            colour = next(c for c in turned if is_held_out(shape, c, action))
        yield replace(appearance, colour=colour)


def make_timeline(seconds: int, seed: int, *, split: str = "any") -> Timeline:
    """Draw the timeline of one video; the same arguments give the same timeline.

    Args:
        seconds: length of the video.
        seed: of everything.
        split: "train" holds no held-out composition of shape, colour and action (other colours
            stand in); in "exam" the actor is one; "any" leaves all as drawn.
    Raises:
        HourLlavaError: a length outside 14 seconds to 24 hours, or an unknown split.
    Cost: 5 ms for an hour, 0.4 ms for a minute.
    """
    if not MIN_SECONDS <= seconds <= MAX_SECONDS:
        raise HourLlavaError(
            f"a video of {seconds} seconds: MarathonWorld makes {MIN_SECONDS} seconds to "
            f"{MAX_SECONDS} seconds (24 hours); choose a length between"
        )
    if split not in SPLITS:
        raise HourLlavaError(f"split {split!r}: MarathonWorld has {', '.join(SPLITS)}")
    rng = Random(f"marathon_world 1 {seed} {seconds}")  # as in format 1: seeds stay what they were
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
    room.rng = Random(f"marathon_world story {seed} {seconds}")
    appearances += _add_story(room, appearances, background)
    if split != "any":
        appearances = list(_recolour(appearances, split))
    return Timeline(
        seed=seed,
        duration_seconds=seconds,
        absent_shape=absent,
        scenes=scenes,
        appearances=tuple(
            sorted(appearances, key=lambda a: (a.start_seconds, CELLS.index(a.cell)))
        ),
        split=split,
    )
