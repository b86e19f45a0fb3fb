"""What stands in every cell of a video at whole seconds, as class numbers: labels for training."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hour_llava.world.timeline import (
    ACTIONS,
    ACTS,
    CELLS,
    COLOURS,
    CONTACT_SECONDS,
    DIGITS,
    LARGE,
    PATTERNS,
    SCENES,
    SHAPES,
    SMALL,
    Appearance,
    Timeline,
    pose_at,
)


def attributes_per_second(
    timeline: Timeline, seconds: npt.ArrayLike | None = None
) -> dict[str, npt.NDArray[np.int64]]:
    """Label what stands in every cell at whole seconds (all of the video by default).

    Returns: arrays (F, 4 cells), int64, -1 where there is nothing (or nothing of the kind):
        scene, shape, colour, digit: indices into SCENES, SHAPES, COLOURS, DIGITS;
        size: 0 small, 1 medium, 2 large; orientation: quarter turns; offset: 0 left, 1 middle,
        2 right; ringed: 0 or 1; pattern: 0 plain, 1 striped, 2 dotted; act: index into ACTS
        (of an interaction, from when one does something to the other).
    """
    wanted = np.arange(timeline.duration_seconds) if seconds is None else np.asarray(seconds)
    shape = (len(wanted), len(CELLS))
    names = ("scene", "shape", "colour", "digit", "size", "orientation", "offset", "ringed")
    names += ("pattern", "act")
    labels = {name: np.full(shape, -1, dtype=np.int64) for name in names}
    for row, second in enumerate(int(s) for s in wanted):
        labels["scene"][row] = SCENES.index(timeline.scene_at(second).name)
        for appearance in timeline.active_at(second):
            for name, value in _labels_of(appearance, second).items():
                labels[name][row, CELLS.index(appearance.cell)] = value
    return labels


def _labels_of(appearance: Appearance, second: int) -> dict[str, int]:
    act = _act_of(appearance, second)
    pose = pose_at(appearance, second)
    if pose is None:
        return act
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
        "pattern": PATTERNS.index(appearance.pattern) + 1 if appearance.pattern else 0,
        **act,
    }


def _act_of(appearance: Appearance, second: int) -> dict[str, int]:
    is_coming = second - appearance.start_seconds < CONTACT_SECONDS
    if appearance.action is None or (is_coming and appearance.action not in ACTIONS):
        return {}
    return {"act": ACTS.index(appearance.action)}


def _third(value: float, low: float, high: float) -> int:
    return int(value > low) + int(value > high)
