"""Windows of clips: new truths for the same frames, so that few long clips go a long way."""

from __future__ import annotations

from dataclasses import replace

from hour_llava.world.timeline import Appearance, Timeline


def crop_timeline(timeline: Timeline, start: int, end: int) -> Timeline:
    """Make the truth of the seconds `start` to `end - 1`, with clocks from 0.

    A needle that is cut is as long as it is seen; an actor that is cut is asked of no more.
    """
    scenes = tuple(
        replace(
            scene,
            start_seconds=max(scene.start_seconds, start) - start,
            end_seconds=min(scene.end_seconds, end) - start,
        )
        for scene in timeline.scenes
        if scene.start_seconds < end and scene.end_seconds > start
    )
    appearances = (
        _crop(appearance, start, end)
        for appearance in timeline.appearances
        if appearance.start_seconds < end and appearance.end_seconds > start
    )
    return replace(
        timeline, duration_seconds=end - start, scenes=scenes, appearances=tuple(appearances)
    )


def _crop(appearance: Appearance, start: int, end: int) -> Appearance:
    is_cut = appearance.start_seconds < start or appearance.end_seconds > end
    return replace(
        appearance,
        start_seconds=max(appearance.start_seconds, start) - start,
        end_seconds=min(appearance.end_seconds, end) - start,
        role="background" if is_cut and appearance.action else appearance.role,
    )
