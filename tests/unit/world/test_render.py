from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest

from hour_llava.world.render import COLOUR_RGB, Renderer, degrade, render_ticks
from hour_llava.world.timeline import CELLS, SHAPES, Appearance, Scene, Timeline, pose_at


def without(timeline: Timeline, appearance: Appearance) -> Timeline:
    rest = tuple(a for a in timeline.appearances if a is not appearance)
    return replace(timeline, appearances=rest)


def cell_of(frame: np.ndarray, cell: str) -> np.ndarray:
    height, width = frame.shape[0] // 2, frame.shape[1] // 2
    row, column = divmod(CELLS.index(cell), 2)
    return frame[row * height : (row + 1) * height, column * width : (column + 1) * width]


def single(appearance: Appearance, scene: str = "night") -> Timeline:
    scenes = (Scene(name=scene, start_seconds=0, end_seconds=20),)
    return Timeline(
        seed=1, duration_seconds=20, absent_shape="?", scenes=scenes, appearances=(appearance,)
    )


def test_each_needle_changes_its_cell_in_its_seconds_and_nothing_else(minute: Timeline):
    renderer = Renderer()
    assert len(minute.needles) >= 5
    for needle in minute.needles:
        other = without(minute, needle)
        for second in range(needle.start_seconds - 2, needle.end_seconds + 2):
            frame, rest = renderer.render(minute, second), renderer.render(other, second)
            changed = (frame != rest).any(axis=-1)
            inside = cell_of(changed, needle.cell)
            is_shown = (
                needle.start_seconds <= second < needle.end_seconds
                and pose_at(needle, second) is not None
            )
            assert changed.sum() == inside.sum()
            assert (inside.mean() > 0.05) == is_shown


def test_a_shape_has_its_colour_in_every_scene():
    renderer = Renderer()
    for number, (colour, rgb) in enumerate(COLOUR_RGB.items()):
        for scene in ("forest", "desert", "night", "ocean", "city", "cave", "sunset", "snow"):
            shape = SHAPES[number]
            item = Appearance(
                role="flash", cell="bottom right", start_seconds=0, end_seconds=9, shape=shape,
                colour=colour,
            )  # fmt: skip
            timeline = single(item, scene)
            frame = renderer.render(timeline, 3.0)
            changed = (frame != renderer.render(without(timeline, item), 3.0)).any(axis=-1)
            middle = np.median(frame[changed], axis=0)
            assert np.abs(middle - rgb).max() < 30, (scene, colour, middle)


def test_a_frame_depends_on_timeline_and_time_alone(minute: Timeline):
    first, second = Renderer(), Renderer()
    frames = [first.render(minute, t) for t in (3.0, 7.5, 41.1)]
    again = [second.render(minute, t) for t in (41.1, 7.5, 3.0)]
    assert all(np.array_equal(a, b) for a, b in zip(frames, again[::-1], strict=True))
    assert not np.array_equal(first.render(minute, 3.0), first.render(replace(minute, seed=6), 3.0))


def test_still_things_move_between_the_ticks():
    item = Appearance(
        role="flash", cell="top left", start_seconds=0, end_seconds=9, shape="heart", colour="red"
    )
    renderer = Renderer()
    timeline = single(item)

    def changed(t: float) -> np.ndarray:
        bare = renderer.render(without(timeline, item), t)
        return (renderer.render(timeline, t) != bare).any(axis=-1)

    assert all((changed(t) != changed(t + 0.5)).sum() > 30 for t in (1.0, 2.0, 3.0))
    backgrounds = [renderer.render(without(timeline, item), t).astype(int) for t in (1.0, 1.5)]
    assert np.abs(backgrounds[0] - backgrounds[1]).max() > 60  # stars moved; noise is below 30


def test_noise_and_flicker_never_wrap_around():
    renderer = Renderer()
    item = Appearance(
        role="ringed", cell="top right", start_seconds=0, end_seconds=19, shape="house",
        colour="white", ringed=True,
    )  # fmt: skip
    for scene in ("snow", "night"):
        frames = renderer.render_many(single(item, scene), [k / 7 for k in range(100)])
        assert frames.min() > 0
        assert frames.max() < 255
        brightness = frames.mean(axis=(1, 2, 3))
        assert np.abs(brightness - brightness.mean()).max() < 12


@pytest.mark.parametrize("size", [(64, 64), (640, 360), (426, 240), (320, 180)])
def test_any_size_shows_the_same_things_in_the_same_places(minute: Timeline, size: tuple[int, int]):
    frames = render_ticks(minute, [0, 20, 59], size=size)
    assert frames.shape == (3, size[1], size[0], 3)
    assert frames.dtype == np.uint8
    needle = minute.with_role("flash")[0]
    renderer = Renderer(*size)
    changed = renderer.render(minute, needle.start_seconds) != renderer.render(
        without(minute, needle), needle.start_seconds
    )
    assert changed.any()
    rows, columns = np.where(changed.any(axis=-1))
    place = CELLS.index(needle.cell)
    assert 2 * rows.min() // size[1] == 2 * rows.max() // size[1] == place // 2
    assert 2 * columns.min() // size[0] == 2 * columns.max() // size[0] == place % 2


def test_training_frames_keep_the_truth_of_their_second(minute: Timeline):
    """Jitter is late only: the first and the last second of every needle still show it."""
    renderer = Renderer()
    for needle in minute.with_role("flash"):
        seconds = [needle.start_seconds, needle.end_seconds - 1]
        for trial in range(5):
            shown = render_ticks(minute, seconds, renderer=renderer, rng=Random(trial))
            bare = render_ticks(
                without(minute, needle), seconds, renderer=renderer, rng=Random(trial)
            )
            for frame, rest in zip(shown, bare, strict=True):
                difference = np.abs(frame.astype(int) - rest.astype(int)).max(axis=-1)
                assert (cell_of(difference, needle.cell) > 25).mean() > 0.03


def test_degrading_is_seeded_and_leaves_the_picture_readable(minute: Timeline):
    frame = Renderer().render(minute, 10.0)
    results = [degrade(frame, Random(k)) for k in range(40)]
    assert all(r.shape == frame.shape and r.dtype == np.uint8 for r in results)
    assert all(np.array_equal(r, degrade(frame, Random(k))) for k, r in enumerate(results))
    assert 5 <= sum(np.array_equal(r, frame) for r in results) <= 20
    agreement = [np.corrcoef(frame.ravel(), r.ravel())[0, 1] for r in results]
    assert min(agreement) > 0.7
