"""What clips can be cut into: needles and parts of the story with a second around them, and rests.

A piece shows one thing that can be asked about, and beside it background alone; a stretch shows
background alone. Frames are numbered through all clips, one after another.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hour_llava.world.timeline import (
    INTERACTION_SECONDS,
    NEEDLES,
    SHAPES,
    STORY,
    Appearance,
    Timeline,
)

LONGEST, SHORTEST = 16, 3
"""Seconds of a stretch between pieces: a long one shows too many shapes to fit anywhere."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A needle, a visit, an act or an interaction with the frames around it, all of one scene.

    Args:
        appearances: what it is: agent and patient of an interaction, else one.
        first, last: flat numbers of its frames, `first` to `last - 1`.
        before, after: how many of them come before and after the appearances.
        others: bits of the background's shapes.
    """

    appearances: tuple[Appearance, ...]
    first: int
    last: int
    before: int
    after: int
    others: int

    @property
    def main(self) -> Appearance:
        """The one appearance, or the agent."""
        return self.appearances[0]

    @property
    def seconds(self) -> int:
        """The length of the appearances."""
        return self.main.end_seconds - self.main.start_seconds

    @property
    def own(self) -> int:
        """Bits of the shapes it is about; a digit has none."""
        return sum(bit_of(one.shape) for one in self.appearances)

    def moved_to(self, start_seconds: int) -> list[Appearance]:
        """Give the appearances at another time."""
        end = start_seconds + self.seconds
        return [
            replace(one, start_seconds=start_seconds, end_seconds=end) for one in self.appearances
        ]


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Frames of one scene that show background alone; `shapes` are bits."""

    scene: str
    first: int
    last: int
    shapes: int


def bit_of(shape: str | None) -> int:
    """Give the bit of a shape; nothing has none."""
    return 0 if shape is None else 1 << SHAPES.index(shape)


def pieces_of(timeline: Timeline, offset: int) -> Iterator[tuple[str, Piece]]:
    """List a clip's pieces with their scenes: all that no other thing overlaps in time.

    Args:
        offset: the flat number of the clip's first frame.
    """
    shapes = _background_by_second(timeline)
    special = [one for one in timeline.appearances if _is_special(one)]
    for one in special:
        if one.role == "patient":
            continue
        own = [one, *(b for b in special if one.role == "agent" and _are_together(one, b))]
        if one.role == "agent" and (len(own) != 2 or _length(one) != INTERACTION_SECONDS):
            continue
        scene = timeline.scene_at(one.start_seconds)
        rest = [other for other in special if other not in own]
        if one.end_seconds > scene.end_seconds or any(_overlap(one, other) for other in rest):
            continue
        ends = [o.end_seconds for o in rest if o.end_seconds <= one.start_seconds]
        starts = [o.start_seconds for o in rest if o.start_seconds >= one.end_seconds]
        first = max(one.start_seconds - 1, scene.start_seconds, *ends, 0)
        last = min(one.end_seconds + 1, scene.end_seconds, *starts, timeline.duration_seconds)
        yield (
            scene.name,
            Piece(
                appearances=tuple(own),
                first=offset + first,
                last=offset + last,
                before=one.start_seconds - first,
                after=last - one.end_seconds,
                others=_any_shape(shapes[first:last]),
            ),
        )


def stretches_of(timeline: Timeline, offset: int) -> Iterator[Stretch]:
    """List a clip's stretches of background between pieces."""
    shapes = _background_by_second(timeline)
    is_free = np.ones(timeline.duration_seconds, dtype=bool)
    for one in timeline.appearances:
        if _is_special(one):
            is_free[one.start_seconds : one.end_seconds] = False
    for scene in timeline.scenes:
        start = scene.start_seconds
        for second in range(scene.start_seconds, scene.end_seconds + 1):
            is_end = second == scene.end_seconds or not is_free[second]
            if is_end or second - start == LONGEST:
                if second - start >= SHORTEST:
                    yield Stretch(
                        scene=scene.name,
                        first=offset + start,
                        last=offset + second,
                        shapes=_any_shape(shapes[start:second]),
                    )
                start = second + 1 if is_end else second


def _is_special(appearance: Appearance) -> bool:
    """Say whether questions may be about it, or would have to be if it were seen."""
    is_marked = appearance.ringed or appearance.digit is not None or appearance.pattern is not None
    return appearance.role in (*NEEDLES, *STORY) or is_marked


def _are_together(agent: Appearance, other: Appearance) -> bool:
    return other.role == "patient" and other.start_seconds == agent.start_seconds


def _overlap(one: Appearance, other: Appearance) -> bool:
    return one.start_seconds < other.end_seconds and other.start_seconds < one.end_seconds


def _length(appearance: Appearance) -> int:
    return appearance.end_seconds - appearance.start_seconds


def _background_by_second(timeline: Timeline) -> NDArray[np.int64]:
    """Give the bits of the background's shapes (F,)."""
    shapes = np.zeros(timeline.duration_seconds, dtype=np.int64)
    for one in timeline.appearances:
        if not _is_special(one):
            shapes[one.start_seconds : one.end_seconds] |= bit_of(one.shape)
    return shapes


def _any_shape(shapes: NDArray[np.int64]) -> int:
    return int(np.bitwise_or.reduce(shapes)) if len(shapes) else 0
