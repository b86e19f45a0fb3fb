"""What a viewer of one frame a second and four cells can know: all that is asked.

The labels of whole seconds are read back into a timeline, which is asked the same as the truth. A
question names its shapes, so the reader may know which of them are rare; everything else (times,
cells, actions, who does what to whom) has to come from the labels.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from hour_llava.world.labels import attributes_per_second
from hour_llava.world.questions import ALL_FAMILIES, facts_of
from hour_llava.world.timeline import (
    CELLS,
    COLOURS,
    DIGITS,
    INTERACTION_SECONDS,
    PATIENTS,
    PATTERNS,
    SCENES,
    SHAPES,
    VERBS,
    Appearance,
    Scene,
    Timeline,
    make_timeline,
)

POSES = ("size", "orientation", "offset")
APPROACH, CHASE = (0, 1, 2, 2, 2, 2), (0, 0, 1, 1, 2, 2)


@dataclass
class Run:
    """One thing in one cell, second by second; None where it is dark."""

    cell: int
    start: int
    look: dict[str, int]
    poses: list[tuple[int, ...] | None]

    @property
    def end(self) -> int:
        return self.start + len(self.poses)

    def course(self, name: str) -> tuple[int, ...]:
        return tuple(pose[POSES.index(name)] for pose in self.poses if pose is not None)


def runs_of(labels: dict[str, np.ndarray], cell: int) -> Iterator[Run]:
    """Join seconds that show the same thing, over single dark ones where it blinks."""
    run: Run | None = None
    dark = 0
    for second in range(len(labels["shape"])):
        at = {name: int(values[second, cell]) for name, values in labels.items()}
        look = {name: at[name] for name in ("shape", "colour", "digit", "ringed", "pattern")}
        if at["shape"] < 0 and at["digit"] < 0:
            dark += 1
            continue
        pose = tuple(at[name] for name in POSES)
        blinks = run is not None and dark == 1 and is_blinking([*run.poses, None])
        if run is not None and run.look == look and (dark == 0 or blinks):
            run.poses += [None] * dark + [pose]
        else:
            if run is not None:
                yield run
            run = Run(cell=cell, start=second, look=look, poses=[pose])
        dark = 0
    if run is not None:
        yield run


def is_blinking(poses: Sequence[object]) -> bool:
    return all((pose is None) == bool(place % 2) for place, pose in enumerate(poses))


def action_of(run: Run) -> str | None:
    """Tell the action from how size, turn and place change."""
    if len(run.poses) == 5 and is_blinking(run.poses):
        return "blinks"
    size, turn, place = (run.course(name) for name in POSES)
    if turn[:4] == (0, 1, 2, 3):
        return "spins"
    moves = {
        "grows": size[0] < size[-1],
        "shrinks": size[0] > size[-1],
        "moves right": place[0] < place[-1],
        "moves left": place[0] > place[-1],
    }
    return next((action for action, is_so in moves.items() if is_so), None)


def inward(run: Run) -> tuple[int, ...]:
    """Give the course from the outer edge (0) to the cell beside it (2)."""
    course = run.course("offset")
    return course if run.cell % 2 == 0 else tuple(2 - place for place in course)


def verb_of(agent: Run, patient: Run) -> str | None:
    """Tell what the left or right of two simultaneous shapes does to the other, if anything."""
    if inward(agent) == CHASE and inward(patient) == CHASE[::-1]:
        return "chases"
    if inward(agent) != APPROACH:
        return None
    size, turn = patient.course("size"), patient.course("orientation")
    done = {
        "pushes": inward(patient) == (2, 2, 2, 1, 1, 0),
        "turns": turn == (0, 0, 0, 1, 2, 3),
        "feeds": size[0] < size[-1],
        "squeezes": size[0] > size[-1],
    }
    return next((verb for verb, is_so in done.items() if is_so), None)


def interactions(runs: Sequence[Run]) -> Iterator[Appearance]:
    plain = [r for r in runs if r.look["pattern"] == 0 and len(r.poses) == INTERACTION_SECONDS]
    for agent in plain:
        for patient in plain:
            beside = agent.start == patient.start and agent.cell ^ 1 == patient.cell
            verb = verb_of(agent, patient) if beside else None
            if verb is not None:
                yield appearance(agent, "agent", verb)
                yield appearance(patient, "patient", PATIENTS[VERBS.index(verb)])


def appearance(run: Run, role: str, action: str | None = None) -> Appearance:
    look = run.look
    return Appearance(
        role=role,
        cell=CELLS[run.cell],
        start_seconds=run.start,
        end_seconds=run.end,
        shape=SHAPES[look["shape"]] if look["shape"] >= 0 else None,
        colour=COLOURS[look["colour"]] if look["colour"] >= 0 else None,
        digit=DIGITS[look["digit"]] if look["digit"] >= 0 else None,
        ringed=look["ringed"] == 1,
        action=action,
        pattern=PATTERNS[look["pattern"] - 1] if look["pattern"] > 0 else None,
    )


def as_seen(truth: Timeline) -> Timeline:
    """Rebuild a timeline from the labels of its seconds."""
    labels = attributes_per_second(truth)
    runs = [run for cell in range(4) for run in runs_of(labels, cell)]
    names = {a.shape: a.role for a in truth.needles if a.role in ("flash", "actor")}
    seen: list[Appearance] = []
    for run in runs:
        if run.look["digit"] >= 0:
            seen.append(appearance(run, "digit"))
        elif run.look["ringed"] == 1:
            seen.append(appearance(run, "ringed"))
        elif run.look["pattern"] > 0:
            role = ("visitor", "performer")[run.look["pattern"] - 1]
            seen.append(appearance(run, role, action_of(run) if role == "performer" else None))
        elif SHAPES[run.look["shape"]] in names:
            role = names[SHAPES[run.look["shape"]]]
            seen.append(appearance(run, role, action_of(run) if role == "actor" else None))
    seen += interactions(runs)
    return Timeline(
        seed=truth.seed,
        duration_seconds=truth.duration_seconds,
        absent_shape=truth.absent_shape,
        scenes=tuple(scenes_of(labels["scene"][:, 0])),
        appearances=tuple(sorted(seen, key=lambda a: (a.start_seconds, CELLS.index(a.cell)))),
    )


def scenes_of(scene: np.ndarray) -> Iterator[Scene]:
    cuts = [0, *(np.flatnonzero(np.diff(scene)) + 1).tolist(), len(scene)]
    for start, end in itertools.pairwise(cuts):
        yield Scene(name=SCENES[int(scene[start])], start_seconds=start, end_seconds=end)


def answers(timeline: Timeline, family: str) -> dict[tuple[tuple[str, str], ...], str]:
    return {tuple(sorted(f.slots.items())): f.answer for f in facts_of(timeline, family)}


@pytest.mark.parametrize("seconds", [60, 180, 600])
def test_every_family_can_be_told_from_one_frame_a_second(seconds: int) -> None:
    told, asked = dict.fromkeys(ALL_FAMILIES, 0), dict.fromkeys(ALL_FAMILIES, 0)
    for seed in range(24):
        truth = make_timeline(seconds, seed, split="exam")
        seen = as_seen(truth)
        for family in ALL_FAMILIES:
            known = answers(seen, family)
            for slots, answer in answers(truth, family).items():
                told[family] += known.get(slots) == answer
                asked[family] += 1
    shares = {family: told[family] / asked[family] for family in ALL_FAMILIES if asked[family]}
    assert min(shares.values()) >= 0.97, shares
