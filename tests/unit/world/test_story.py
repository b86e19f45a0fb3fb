from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from hour_llava.errors import HourLlavaError
from hour_llava.world.labels import attributes_per_second
from hour_llava.world.render import Renderer
from hour_llava.world.timeline import (
    ACTIONS,
    CELLS,
    COLOURS,
    PATIENTS,
    SHAPES,
    STORY,
    VERBS,
    Appearance,
    Timeline,
    is_held_out,
    make_timeline,
    pose_at,
)


def compositions(timeline: Timeline) -> set[tuple[str, str, str]]:
    return {
        (a.shape, a.colour, a.action)
        for a in timeline.appearances
        if a.shape and a.colour and a.action in ACTIONS
    }


def test_one_composition_in_eight_is_held_out_and_every_pair_is_not():
    held = [c for c in itertools.product(SHAPES, COLOURS, ACTIONS) if is_held_out(*c)]
    assert len(held) == len(SHAPES) * len(ACTIONS)
    assert set(Counter((s, a) for s, _, a in held).values()) == {1}
    for pair in itertools.product(SHAPES, COLOURS):
        assert not all(is_held_out(*pair, action) for action in ACTIONS)
    for pair in itertools.product(COLOURS, ACTIONS):
        assert not all(is_held_out(shape, *pair) for shape in SHAPES)


@pytest.mark.parametrize("seconds", [14, 26, 180, 1200])
def test_training_never_shows_a_held_out_composition_and_the_exam_does(seconds: int):
    shown: set[tuple[str, str, str]] = set()
    for seed in range(60):
        train = make_timeline(seconds, seed, split="train")
        assert not [c for c in compositions(train) if is_held_out(*c)]
        exam = make_timeline(seconds, seed, split="exam")
        (actor,) = exam.with_role("actor")
        assert actor.shape and actor.colour and actor.action
        assert is_held_out(actor.shape, actor.colour, actor.action)
        shown.add((actor.shape, actor.colour, actor.action))
    assert len(shown) > 30


def test_splits_differ_in_colours_only():
    for seed in range(20):
        drawn = [make_timeline(300, seed, split=split) for split in ("any", "train", "exam")]
        bare = [
            [
                (a.role, a.cell, a.start_seconds, a.end_seconds, a.shape, a.action)
                for a in t.appearances
            ]
            for t in drawn
        ]
        assert bare[0] == bare[1] == bare[2]
        assert [t.split for t in drawn] == ["any", "train", "exam"]
        for timeline in drawn:
            dotted = {a.colour for a in timeline.appearances if a.pattern == "dotted"}
            assert len(dotted) == 1, "one performer"


def test_an_unknown_split_names_the_known_ones():
    with pytest.raises(HourLlavaError, match=r"'test'.*any, train, exam"):
        make_timeline(60, 0, split="test")


def test_files_of_the_first_format_are_still_read():
    timeline = make_timeline(60, 1)
    old = timeline.to_json().replace('"version": 2', '"version": 1').replace(', "split": "any"', "")
    assert '"split"' not in old
    assert Timeline.from_json(old) == timeline


def test_from_three_minutes_on_the_whole_story_is_there():
    for seconds, expected in ((180, (3, 3, 2, 4)), (600, (4, 4, 4, 5)), (3600, (4, 4, 4, 5))):
        for seed in range(25 if seconds < 3600 else 5):
            timeline = make_timeline(seconds, seed)
            counts = tuple(len(timeline.with_role(role)) for role in STORY)
            assert counts == expected, seed


def test_agents_and_patients_act_on_each_other_in_one_row():
    for seed in range(20):
        timeline = make_timeline(600, seed)
        agents, patients = timeline.with_role("agent"), timeline.with_role("patient")
        assert len({a.shape for a in agents}) == len(agents)
        assert len({p.shape for p in patients}) == len(patients)
        for agent, patient in zip(agents, patients, strict=True):
            assert agent.start_seconds == patient.start_seconds
            assert agent.cell.split()[0] == patient.cell.split()[0]
            assert agent.cell != patient.cell
            assert agent.shape != patient.shape
            assert VERBS.index(str(agent.action)) == PATIENTS.index(str(patient.action))


def test_visitors_come_twice_far_apart_in_a_flashs_colour():
    for seed in range(20):
        timeline = make_timeline(180, seed)
        first, second = timeline.with_role("visitor")
        assert (first.shape, first.colour) == (second.shape, second.colour)
        assert second.start_seconds - first.end_seconds >= 60
        assert first.colour in {flash.colour for flash in timeline.with_role("flash")}


def acting(action: str, cell: str) -> Appearance:
    return Appearance(
        role="agent",
        cell=cell,
        start_seconds=10,
        end_seconds=16,
        shape="star",
        colour="red",
        action=action,
    )


@pytest.mark.parametrize(("cell", "inward"), [("top left", 1), ("bottom right", -1)])
def test_agents_come_up_to_the_patient_and_then_it_happens(cell: str, inward: int):
    def offsets(action: str) -> list[float]:
        poses = [pose_at(acting(action, cell), 10 + k) for k in range(6)]
        return [inward * pose.offset for pose in poses if pose]

    assert offsets("feeds") == [-1, 0, 1, 1, 1, 1]
    assert offsets("is pushed")[:3] == [1, 1, 1]
    assert offsets("is pushed")[-1] == -1
    assert offsets("chases") == pytest.approx([-1, -0.6, -0.2, 0.2, 0.6, 1])
    assert offsets("is chased") == pytest.approx([1, 0.6, 0.2, -0.2, -0.6, -1])
    fed = [pose_at(acting("is fed", cell), 10 + k) for k in range(6)]
    assert [p.scale for p in fed if p] == sorted(p.scale for p in fed if p)


def test_patterns_are_labelled_and_seen():
    timeline = make_timeline(180, 2)
    labels = attributes_per_second(timeline)["pattern"]
    renderer = Renderer()
    for number, name in enumerate(("striped", "dotted"), start=1):
        marked = next(a for a in timeline.appearances if a.pattern == name)
        assert labels[marked.start_seconds, CELLS.index(marked.cell)] == number
        plain = replace(marked, pattern=None)
        rest = tuple(plain if a is marked else a for a in timeline.appearances)
        other = replace(timeline, appearances=rest)
        with_it, without = (
            renderer.render(t, marked.start_seconds).astype(int) for t in (timeline, other)
        )
        changed = np.abs(with_it - without).max(axis=-1) > 20
        assert 60 < changed.sum() < 2500, "dark parts within one shape"
