from __future__ import annotations

import itertools

import pytest

from hour_llava.errors import HourLlavaError
from hour_llava.world.labels import attributes_per_second
from hour_llava.world.timeline import (
    ACTIONS,
    CELLS,
    COLOURS,
    DIGITS,
    SCENES,
    SHAPES,
    STORY,
    Appearance,
    Timeline,
    make_timeline,
    pose_at,
)


def test_the_same_arguments_give_the_same_bytes():
    assert make_timeline(90, 3).to_json() == make_timeline(90, 3).to_json()
    assert make_timeline(90, 3).to_json() != make_timeline(90, 4).to_json()


def test_the_bytes_of_a_known_seed_do_not_change():
    """Published seeds must stay the same videos: a change here needs a new FORMAT_VERSION."""
    timeline = make_timeline(600, 7)
    names = [scene.name for scene in timeline.scenes]
    assert names == ["night", "snow", "desert", "cave", "forest"]
    assert timeline.absent_shape == "heart"
    assert sum(a.role not in STORY for a in timeline.appearances) == 61
    assert sum(a.role in STORY for a in timeline.appearances) == 17


def test_json_round_trip():
    timeline = make_timeline(120, 1)
    assert Timeline.from_json(timeline.to_json()) == timeline


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "not json",
        '{"format": "marathon_world", "version": 99}',
        '{"format": "marathon_world", "version": 1, "seed": 1}',
    ],
)
def test_foreign_truth_is_one_clear_error(text: str):
    with pytest.raises(HourLlavaError, match=r"truth\.json"):
        Timeline.from_json(text)


@pytest.mark.parametrize("seconds", [-5, 0, 13, 24 * 3600 + 1])
def test_lengths_out_of_range_name_the_range(seconds: int):
    with pytest.raises(HourLlavaError, match="14 seconds to"):
        make_timeline(seconds, 0)


def test_a_day_and_the_shortest_clip_can_be_made():
    assert make_timeline(24 * 3600, 0).scenes[-1].end_seconds == 24 * 3600
    for seed in range(50):
        clip = make_timeline(14, seed)
        assert len(clip.scenes) == 2
        assert len(clip.with_role("actor")) == 1


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("length", [4, 5, 6])
def test_an_action_changes_the_pose_from_each_second_to_the_next(action: str, length: int):
    actor = Appearance(
        role="actor",
        cell="top left",
        start_seconds=10,
        end_seconds=10 + length,
        shape="star",
        colour="red",
        action=action,
    )
    poses = [pose_at(actor, 10 + k) for k in range(length)]
    assert all(now != later for now, later in itertools.pairwise(poses))
    assert poses[0] is not None


def test_attributes_label_each_cell_of_each_second():
    timeline = make_timeline(120, 2)
    labels = attributes_per_second(timeline)
    assert all(array.shape == (120, 4) for array in labels.values())
    for second in range(120):
        assert set(labels["scene"][second]) == {SCENES.index(timeline.scene_at(second).name)}
        for number, cell in enumerate(CELLS):
            here = [a for a in timeline.active_at(second) if a.cell == cell and pose_at(a, second)]
            assert len(here) <= 1
            shape = SHAPES.index(here[0].shape) if here and here[0].shape else -1
            colour = COLOURS.index(here[0].colour) if here and here[0].colour else -1
            digit = DIGITS.index(here[0].digit) if here and here[0].digit else -1
            found = [int(labels[name][second, number]) for name in ("shape", "colour", "digit")]
            assert found == [shape, colour, digit]


def test_attributes_of_some_seconds_are_rows_of_all():
    timeline = make_timeline(60, 2)
    some, whole = attributes_per_second(timeline, [5, 50]), attributes_per_second(timeline)
    assert all((some[name] == whole[name][[5, 50]]).all() for name in whole)


def test_spinning_and_moving_show_in_the_labels():
    actor = Appearance(
        role="actor",
        cell="top left",
        start_seconds=0,
        end_seconds=4,
        shape="star",
        colour="red",
        action="spins",
    )
    base = make_timeline(14, 0)
    fields = {"seed": 0, "duration_seconds": 14, "absent_shape": "moon", "scenes": base.scenes}
    spinning = Timeline(**fields, appearances=(actor,))
    assert attributes_per_second(spinning)["orientation"][:5, 0].tolist() == [0, 1, 2, 3, -1]
