"""New videos out of pieces of clips: no combination comes twice, so none is learned by heart.

The tower sees frames one by one, and MemAug's memory holds them in tubes of a few: so frames of
different clips, laid in a row, are a video, and its truth is known exactly. A fresh timeline says
which scene is when and where needles go. Needles (what questions are about) come with a second
before and after; the time between is filled with stretches that show none of the rare shapes.

Shape letters: F frames, P cells, D tower width, A attributes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random

import numpy as np
import torch
from torch import Tensor

from hour_llava.train.nano.bank import TokenGroup
from hour_llava.world.timeline import (
    NEEDLES,
    SCENES,
    SHAPES,
    Appearance,
    Timeline,
    make_timeline,
)

LONGEST, SHORTEST = 16, 3
"""Seconds of a stretch between needles: a long one shows too many shapes to fit anywhere."""
NUM_RARE = 5
"""Shapes that are needles or absent; the other ones are background."""


@dataclass(frozen=True, kw_only=True)
class VideoSample:
    """One video as training sees it.

    Args:
        features_FPD: of the frozen tower, float16.
        classes_FPA: uint8 class numbers of every cell, for the attribute probe.
        timeline: the truth; a spliced one lists scenes and needles alone.
    """

    features_FPD: Tensor
    classes_FPA: Tensor
    timeline: Timeline


@dataclass(frozen=True, kw_only=True)
class Needle:
    """A needle with the frames around it: flat numbers `first` to `last - 1`, of one scene.

    Args:
        before, after: how many of them come before and after the needle.
        others: bits of the shapes beside it.
    """

    appearance: Appearance
    first: int
    last: int
    before: int
    after: int
    others: int

    @property
    def own(self) -> int:
        """The bit of its shape; a digit has none."""
        return _bit(self.appearance.shape)


class Scrapbook:
    """Pieces of all clips, sorted by what they show, and the videos that can be made of them."""

    def __init__(self, groups: Sequence[TokenGroup]) -> None:
        self.features_FPD = torch.cat([group.features_NFPD.flatten(0, 1) for group in groups])
        self.classes_FPA = torch.cat([group.classes_NFPA.flatten(0, 1) for group in groups])
        self.needles: dict[tuple[str, str, int], list[Needle]] = {}
        stretches: dict[str, list[tuple[int, int, int]]] = {scene: [] for scene in SCENES}
        offset = 0
        for group in groups:
            for timeline in group.timelines:
                for scene, needle in _needles(timeline, offset):
                    length = needle.appearance.end_seconds - needle.appearance.start_seconds
                    key = (needle.appearance.role, scene, length)
                    self.needles.setdefault(key, []).append(needle)
                for scene, first, last, shapes in _stretches(timeline, offset):
                    stretches[scene].append((first, last, shapes))
                offset += group.group.seconds
        self.stretches = {
            scene: np.array(rows, dtype=np.int64).reshape(-1, 3)
            for scene, rows in stretches.items()
        }

    def videos(self, seconds: int, count: int, rng: Random) -> list[VideoSample]:
        """Make some videos of a length.

        Raises:
            RuntimeError: there are too few pieces.
        """
        made: list[VideoSample] = []
        for _ in range(100 * count):
            video = self.video(seconds, rng)
            if video is not None:
                made.append(video)
            if len(made) == count:
                return made
        raise RuntimeError(f"too few clips to make {count} videos of {seconds} s of their pieces")

    def video(self, seconds: int, rng: Random) -> VideoSample | None:
        """Make a video that never was; None where the pieces do not suffice."""
        plan = make_timeline(seconds, rng.randrange(10_000_000))
        needles, taken, shown = self._choose_needles(plan, rng)
        free = [n for n in range(len(SHAPES)) if not (taken | shown) >> n & 1]
        rare = taken.bit_count()
        if len(free) < NUM_RARE - rare:
            return None
        absent = rng.sample(free, NUM_RARE - rare)
        forbidden = taken | sum(1 << number for number in absent)
        rows = self._rows(plan, needles, forbidden, rng)
        if rows is None:
            return None
        moved = (
            replace(
                needle.appearance,
                start_seconds=slot.start_seconds,
                end_seconds=slot.end_seconds,
            )
            for slot, needle in needles
        )
        return VideoSample(
            features_FPD=self.features_FPD[rows],
            classes_FPA=self.classes_FPA[rows],
            timeline=replace(
                plan,
                absent_shape=SHAPES[absent[0]],
                appearances=tuple(sorted(moved, key=lambda one: one.start_seconds)),
            ),
        )

    def _choose_needles(
        self, plan: Timeline, rng: Random
    ) -> tuple[list[tuple[Appearance, Needle]], int, int]:
        """Fill the plan's slots; a slot that nothing fits stays empty.

        Returns: (slot, needle) in order of time; bits of the rare shapes; bits of other shapes.
        """
        slots = [slot for slot in plan.appearances if slot.role in NEEDLES]
        chosen: list[tuple[Appearance, Needle]] = []
        taken = shown = 0
        digits: set[str | None] = set()
        for slot in rng.sample(slots, len(slots)):
            scene = plan.scene_at(slot.start_seconds).name
            all_of_kind = self.needles.get(
                (slot.role, scene, slot.end_seconds - slot.start_seconds), []
            )
            is_rare = slot.role in ("flash", "actor")
            for needle in rng.sample(all_of_kind, min(40, len(all_of_kind))):
                barred = taken | shown if is_rare else taken
                clash = needle.own & barred or needle.others & taken
                if clash or (needle.own & needle.others and is_rare):
                    continue
                if slot.role == "digit" and needle.appearance.digit in digits:
                    continue
                digits.add(needle.appearance.digit)
                taken |= needle.own if is_rare else 0
                shown |= needle.others | (0 if is_rare else needle.own)
                chosen.append((slot, needle))
                break
        return sorted(chosen, key=lambda pair: pair[0].start_seconds), taken, shown

    def _rows(
        self,
        plan: Timeline,
        needles: list[tuple[Appearance, Needle]],
        forbidden: int,
        rng: Random,
    ) -> Tensor | None:
        """Number the frames of a video, second by second."""
        rows: list[np.ndarray] = []
        cursor = 0
        for scene in plan.scenes:
            rows_of_scene = self.stretches[scene.name]
            fits = rows_of_scene[rows_of_scene[:, 2] & forbidden == 0]
            inside = [n for n in needles if scene.start_seconds <= n[0].start_seconds]
            inside = [n for n in inside if n[0].start_seconds < scene.end_seconds]
            ends = [slot.start_seconds for slot, _ in inside[1:]] + [scene.end_seconds]
            for (slot, needle), end in zip(inside, ends, strict=False):
                start = slot.start_seconds - min(needle.before, slot.start_seconds - cursor)
                if start > cursor and not len(fits):
                    return None
                rows += _fill(start - cursor, fits, rng)
                cursor = slot.end_seconds + min(needle.after, end - slot.end_seconds)
                first = needle.first + needle.before - (slot.start_seconds - start)
                rows.append(np.arange(first, first + cursor - start))
            if scene.end_seconds > cursor and not len(fits):
                return None
            rows += _fill(scene.end_seconds - cursor, fits, rng)
            cursor = scene.end_seconds
        return torch.from_numpy(np.concatenate(rows))


def _fill(seconds: int, stretches: np.ndarray, rng: Random) -> Iterator[np.ndarray]:
    """Number frames of random stretches until some seconds are full."""
    while seconds > 0:
        first, last, _ = (int(value) for value in stretches[rng.randrange(len(stretches))])
        length = min(seconds, last - first)
        start = rng.randint(first, last - length)
        yield np.arange(start, start + length)
        seconds -= length


def _bit(shape: str | None) -> int:
    return 0 if shape is None else 1 << SHAPES.index(shape)


def _is_needle(appearance: Appearance) -> bool:
    """Say whether questions may be about it; a new role's digit or ring would spoil their truth."""
    return appearance.role in NEEDLES or appearance.digit is not None or appearance.ringed


def _shapes_by_second(timeline: Timeline) -> np.ndarray:
    """Give the bits of the background's shapes (F,)."""
    shapes = np.zeros(timeline.duration_seconds, dtype=np.int64)
    for one in timeline.appearances:
        if not _is_needle(one):
            shapes[one.start_seconds : one.end_seconds] |= _bit(one.shape)
    return shapes


def _any_shape(shapes: np.ndarray) -> int:
    return int(np.bitwise_or.reduce(shapes)) if len(shapes) else 0


def _needles(timeline: Timeline, offset: int) -> Iterator[tuple[str, Needle]]:
    """List a clip's needles with a second before and after, where those are of the same scene."""
    shapes = _shapes_by_second(timeline)
    spans = sorted(
        (one.start_seconds, one.end_seconds) for one in timeline.appearances if _is_needle(one)
    )
    for one in timeline.appearances:
        if one.role not in NEEDLES:
            continue
        scene = timeline.scene_at(one.start_seconds)
        earlier = [end for _, end in spans if end <= one.start_seconds]
        later = [start for start, _ in spans if start >= one.end_seconds]
        first = max(one.start_seconds - 1, scene.start_seconds, *earlier, 0)
        last = min(one.end_seconds + 1, scene.end_seconds, *later, timeline.duration_seconds)
        yield (
            scene.name,
            Needle(
                appearance=one,
                first=offset + first,
                last=offset + last,
                before=one.start_seconds - first,
                after=last - one.end_seconds,
                others=_any_shape(shapes[first:last]),
            ),
        )


def _stretches(timeline: Timeline, offset: int) -> Iterator[tuple[str, int, int, int]]:
    """List a clip's stretches between needles: scene, flat frame numbers from and to, shapes."""
    shapes = _shapes_by_second(timeline)
    is_free = np.ones(timeline.duration_seconds, dtype=bool)
    for one in timeline.appearances:
        if _is_needle(one):
            is_free[one.start_seconds : one.end_seconds] = False
    for scene in timeline.scenes:
        start = scene.start_seconds
        for second in range(scene.start_seconds, scene.end_seconds + 1):
            is_end = second == scene.end_seconds or not is_free[second]
            if is_end or second - start == LONGEST:
                if second - start >= SHORTEST:
                    yield (
                        scene.name,
                        offset + start,
                        offset + second,
                        _any_shape(shapes[start:second]),
                    )
                start = second + 1 if is_end else second
