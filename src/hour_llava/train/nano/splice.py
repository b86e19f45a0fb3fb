"""New videos out of pieces of clips: no combination comes twice, so none is learned by heart.

The tower sees frames one by one, and MemAug's memory holds them in tubes of a few: so frames of
different clips, laid in a row, are a video, and its truth is known exactly. A fresh timeline says
which scene is when and where needles and story go; what overlaps there is moved apart. The time
between is filled with stretches that show none of the rare shapes.

Shape letters: F frames, P cells, D tower width, A attributes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hour_llava.train.nano.bank import TokenGroup
from hour_llava.train.nano.pieces import Piece, bit_of, pieces_of, stretches_of
from hour_llava.world.timeline import (
    ACTIONS,
    COLOURS,
    NEEDLES,
    SCENES,
    SHAPES,
    Appearance,
    Timeline,
    make_timeline,
)

NUM_RARE = 5
"""Shapes that are needles or absent; the other ones are background and story."""
MOST_SECONDS = {"visitor": 4, "performer": 6}
"""Room for a part of the story, whose piece is chosen later and may be shorter."""
AROUND, RUN_SECONDS = 3, 4
"""Seconds kept on both sides of what a thinned video is asked about; those of a run of the rest."""
TRIES = 40


@dataclass(frozen=True, kw_only=True)
class VideoSample:
    """One video as training sees it.

    Args:
        features_FPD: of the frozen tower, float16.
        classes_FPA: uint8 class numbers of every cell, for the attribute probe.
        timeline: the truth; a spliced one lists scenes, needles and story alone.
        seconds_F: when its frames are, whole seconds, rising; of a thinned video not all.
    """

    features_FPD: Tensor
    classes_FPA: Tensor
    timeline: Timeline
    seconds_F: Tensor


@dataclass(frozen=True, kw_only=True)
class Slot:
    """Where something may stand: its seconds, and the scene then."""

    start_seconds: int
    end_seconds: int
    scene: str

    @property
    def seconds(self) -> int:
        """Its length."""
        return self.end_seconds - self.start_seconds


Placed = tuple[int, Piece]
"""A piece and the second in which what it shows begins."""


class _Plan:
    """Slots of a video that do not overlap: as a fresh timeline has them, or moved apart."""

    def __init__(self, timeline: Timeline, rng: Random) -> None:
        self.timeline, self.rng = timeline, rng
        self.taken = np.zeros(timeline.duration_seconds, dtype=bool)
        self.cuts = np.array([scene.start_seconds for scene in timeline.scenes])
        self.needles: list[tuple[str, Slot]] = []
        self.interactions: list[Slot] = []
        self.acts: list[Slot] = []
        self.visits: list[tuple[Slot, Slot]] = []
        needles = [(one,) for one in timeline.needles]
        story = [(one,) for one in timeline.with_role("agent") + timeline.with_role("performer")]
        for own in rng.sample(jobs := [*needles, *story, *_visitors(timeline)], len(jobs)):
            self._place(own)
        self.visits.sort(key=lambda pair: pair[0].start_seconds)

    def _place(self, own: tuple[Appearance, ...]) -> None:
        role, first = own[0].role, own[0]
        length = MOST_SECONDS.get(role, first.end_seconds - first.start_seconds)
        if role == "visitor":
            apart = own[1].start_seconds - own[0].end_seconds
            self._place_visits(first.start_seconds, own[1].start_seconds, apart)
            return
        slot = self._slot(first.start_seconds, length, 0, self.timeline.duration_seconds)
        if slot is None:
            return
        if role == "agent":
            self.interactions.append(slot)
        elif role == "performer":
            self.acts.append(slot)
        else:
            self.needles.append((role, slot))

    def _place_visits(self, start: int, start2: int, apart: int) -> None:
        total, length = self.timeline.duration_seconds, MOST_SECONDS["visitor"]
        slot = self._slot(start, length, 0, total * 9 // 20 + length)
        if slot is None:
            return
        least = max(60, total // 5) if total >= 150 else total // 4
        earliest = slot.end_seconds + min(apart, least)
        slot2 = self._slot(max(start2, earliest), length, earliest, total)
        if slot2 is None:
            self.taken[slot.start_seconds : slot.end_seconds] = False
        else:
            self.visits.append((slot, slot2))

    def _slot(self, start: int, length: int, first: int, last: int) -> Slot | None:
        """Take some seconds of one scene from `start` on, or from elsewhere in first..last."""
        for _ in range(TRIES):
            end = start + length
            is_cut = ((self.cuts > start) & (self.cuts < end)).any()
            if end <= last and not is_cut and not self.taken[start:end].any():
                self.taken[start:end] = True
                scene = self.timeline.scene_at(start).name
                return Slot(start_seconds=start, end_seconds=end, scene=scene)
            if last - length < first:
                return None
            start = self.rng.randint(first, last - length)
        return None


def _visitors(timeline: Timeline) -> list[tuple[Appearance, ...]]:
    visits: dict[str | None, list[Appearance]] = {}
    for one in timeline.with_role("visitor"):
        visits.setdefault(one.shape, []).append(one)
    return [tuple(both) for both in visits.values() if len(both) == 2]


class Scrapbook:
    """Pieces of all clips, sorted by what they show, and the videos that can be made of them."""

    def __init__(self, groups: Sequence[TokenGroup]) -> None:
        self.features_FPD = torch.cat([group.features_NFPD.flatten(0, 1) for group in groups])
        self.classes_FPA = torch.cat([group.classes_NFPA.flatten(0, 1) for group in groups])
        self.pieces: dict[tuple[Any, ...], list[Piece]] = {}
        stretches: dict[str, list[tuple[int, int, int]]] = {scene: [] for scene in SCENES}
        offset = 0
        for group in groups:
            for timeline in group.timelines:
                for scene, piece in pieces_of(timeline, offset):
                    self.pieces.setdefault(_key_of(scene, piece), []).append(piece)
                for one in stretches_of(timeline, offset):
                    stretches[one.scene].append((one.first, one.last, one.shapes))
                offset += group.group.seconds
        self.stretches = {
            scene: np.array(rows, dtype=np.int64).reshape(-1, 3)
            for scene, rows in stretches.items()
        }

    def videos(
        self, seconds: int, count: int, rng: Random, *, num_frames: int | None = None
    ) -> list[VideoSample]:
        """Make some videos of a length.

        Args:
            num_frames: keep so many frames of each (default: one a second): all that can be
                asked about, and of the rest short runs, evenly spread.

        Raises:
            RuntimeError: there are too few pieces.
        """
        made: list[VideoSample] = []
        for _ in range(100 * count):
            video = self.video(seconds, rng, num_frames=num_frames)
            if video is not None:
                made.append(video)
            if len(made) == count:
                return made
        raise RuntimeError(f"too few clips to make {count} videos of {seconds} s of their pieces")

    def video(
        self, seconds: int, rng: Random, *, num_frames: int | None = None
    ) -> VideoSample | None:
        """Make a video that never was; None where the pieces do not suffice."""
        timeline = make_timeline(seconds, rng.randrange(10_000_000))
        plan = _Plan(timeline, rng)
        shapes = rng.sample(SHAPES, len(SHAPES))
        cast = _Cast(self.pieces, shapes[:NUM_RARE], shapes[NUM_RARE:], rng)
        placed = sorted(cast.fill(plan), key=lambda pair: pair[0])
        rows = self._rows(timeline, placed, sum(bit_of(s) for s in shapes[:NUM_RARE]), rng)
        if rows is None:
            return None
        appearances = [one for start, piece in placed for one in piece.moved_to(start)]
        seconds_F = torch.arange(seconds)
        if num_frames is not None and num_frames < seconds:
            spans = [(one.start_seconds, one.end_seconds) for one in appearances]
            cuts = [one.start_seconds for one in timeline.scenes] + [seconds]
            kept = _thinned([*spans, *((cut, cut) for cut in cuts)], seconds, num_frames, rng)
            if kept is None:
                return None
            seconds_F = torch.from_numpy(kept)
            rows = rows[seconds_F]
        return VideoSample(
            features_FPD=self.features_FPD[rows],
            classes_FPA=self.classes_FPA[rows],
            seconds_F=seconds_F,
            timeline=replace(
                timeline,
                absent_shape=shapes[NUM_RARE - 1],
                appearances=tuple(sorted(appearances, key=lambda one: one.start_seconds)),
            ),
        )

    def _rows(
        self, timeline: Timeline, placed: list[Placed], forbidden: int, rng: Random
    ) -> Tensor | None:
        """Number the frames of a video, second by second."""
        rows: list[np.ndarray] = []
        cursor = 0
        for scene in timeline.scenes:
            stretches = self.stretches[scene.name]
            fits = stretches[stretches[:, 2] & forbidden == 0]
            inside = [p for p in placed if scene.start_seconds <= p[0] < scene.end_seconds]
            ends = [start for start, _ in inside[1:]] + [scene.end_seconds]
            for (slot, piece), end in zip(inside, ends, strict=False):
                start = slot - min(piece.before, slot - cursor)
                if start > cursor and not len(fits):
                    return None
                rows += _fill(start - cursor, fits, rng)
                cursor = slot + piece.seconds + min(piece.after, end - slot - piece.seconds)
                first = piece.first + piece.before - (slot - start)
                rows.append(np.arange(first, first + cursor - start))
            if scene.end_seconds > cursor and not len(fits):
                return None
            rows += _fill(scene.end_seconds - cursor, fits, rng)
            cursor = scene.end_seconds
        return torch.from_numpy(np.concatenate(rows))


class _Cast:
    """Chooses pieces for a plan's slots; a slot that nothing fits stays empty.

    Args:
        rare: shapes of flashes and actor, then the absent one.
        background: all other shapes.
    """

    def __init__(
        self,
        pieces: dict[tuple[Any, ...], list[Piece]],
        rare: Sequence[str],
        background: Sequence[str],
        rng: Random,
    ) -> None:
        self.pieces, self.rng = pieces, rng
        self.rare, self.background = list(rare[:-1]), list(background)
        self.forbidden = sum(bit_of(shape) for shape in rare)
        self.flash_colours: list[str | None] = []
        self.actor_action: str | None = None
        self.digits: set[str | None] = set()

    def fill(self, plan: _Plan) -> Iterator[Placed]:
        """Choose needles first: the visitor takes a flash's colour, the performer acts like the
        actor or not.
        """
        for role, slot in sorted(plan.needles, key=lambda pair: pair[0] != "actor"):
            piece = self._needle(role, slot)
            if piece is not None:
                yield slot.start_seconds, piece
        yield from self._interactions(plan.interactions)
        acts = self._acts(plan.acts)
        yield from acts
        striped = [s for s in self.background if not acts or s != acts[0][1].main.shape]
        self.rng.shuffle(striped)
        for slots in plan.visits:
            pair = self._visits(slots, striped)
            yield from pair
            striped = [s for s in striped if not pair or s != pair[0][1].main.shape]

    def _fitting(self, *key: object) -> list[Piece]:
        return [one for one in self.pieces.get(key, []) if not one.others & self.forbidden]

    def _needle(self, role: str, slot: Slot) -> Piece | None:
        for shape in self.rng.sample(self.rare, len(self.rare)):
            if role in ("flash", "actor"):
                fits = self._fitting(role, slot.scene, slot.seconds, shape)
                if fits:
                    piece = self.rng.choice(fits)
                    self.rare.remove(shape)
                    if role == "flash":
                        self.flash_colours.append(piece.main.colour)
                    else:
                        self.actor_action = piece.main.action
                    return piece
        if role == "ringed":
            shape = self.rng.choice(self.background)
            return _any_of(self._fitting(role, slot.scene, slot.seconds, shape), self.rng)
        if role == "digit":
            fits = self._fitting(role, slot.scene, slot.seconds)
            piece = _any_of([one for one in fits if one.main.digit not in self.digits], self.rng)
            self.digits.add(piece.main.digit if piece else None)
            return piece
        return None

    def _interactions(self, slots: Sequence[Slot]) -> Iterator[Placed]:
        """Nobody is agent twice, nobody is patient twice, and nothing is done twice."""
        agents, patients, verbs = set[str | None](), set[str | None](), set[str | None]()
        for slot in slots:
            pieces = self.pieces.get(("agent", slot.scene), [])
            for piece in self.rng.sample(pieces, min(2 * TRIES, len(pieces))):
                agent, patient = piece.appearances
                is_new = agent.shape not in agents and patient.shape not in patients
                if (piece.own | piece.others) & self.forbidden or not is_new:
                    continue
                if agent.action not in verbs:
                    agents.add(agent.shape)
                    patients.add(patient.shape)
                    verbs.add(agent.action)
                    yield slot.start_seconds, piece
                    break

    def _acts(self, slots: Sequence[Slot]) -> list[Placed]:
        """Let one dotted shape of one colour do another action each time."""
        copies = self.rng.random() < 0.5
        best: list[Placed] = []
        for _ in range(TRIES // 2):
            colour, used = self.rng.choice(COLOURS), set[str | None]()
            dotted = self.rng.choice(self.background)
            wanted = self.rng.randrange(len(slots)) if slots and copies else -1
            chosen: list[Placed] = []
            for number, slot in enumerate(slots):
                fits = self._fitting("performer", slot.scene, dotted, colour)
                allowed = {self.actor_action} if number == wanted and self.actor_action else ACTIONS
                barred = used if number == wanted else used | {self.actor_action}
                fits = [p for p in fits if p.main.action in allowed and p.main.action not in barred]
                if fits:
                    piece = self.rng.choice(fits)
                    used.add(piece.main.action)
                    chosen.append((slot.start_seconds, piece))
            if len(chosen) > len(best):
                best = chosen
            if len(best) == len(slots):
                break
        return best

    def _visits(self, slots: tuple[Slot, Slot], shapes: Sequence[str]) -> list[Placed]:
        """Let one striped shape of a flash's colour come twice, as often as not to one cell."""
        stays = self.rng.random() < 0.5
        colours = list(dict.fromkeys(self.flash_colours)) or list(COLOURS)
        for shape in shapes:
            for colour in self.rng.sample(colours, len(colours)):
                first, second = (
                    self._fitting("visitor", slot.scene, shape, colour) for slot in slots
                )
                pairs = [
                    (a, b) for a in first for b in second if (a.main.cell == b.main.cell) == stays
                ]
                if pairs:
                    starts = (slot.start_seconds for slot in slots)
                    return list(zip(starts, self.rng.choice(pairs), strict=True))
        return []


def _key_of(scene: str, piece: Piece) -> tuple[Any, ...]:
    """Say what a piece is looked up by."""
    one = piece.main
    if one.role == "digit":
        return one.role, scene, piece.seconds
    if one.role in NEEDLES:
        return one.role, scene, piece.seconds, one.shape
    if one.role == "agent":
        return one.role, scene
    return one.role, scene, one.shape, one.colour


def _thinned(
    spans: Sequence[tuple[int, int]], seconds: int, num_frames: int, rng: Random
) -> np.ndarray | None:
    """Choose seconds: those in and around the spans, and short runs of the rest, evenly spread.

    Runs, because what is done in the background is seen over several frames. None where the spans
    alone are more than is to be kept.
    """
    is_kept = np.zeros(seconds, dtype=bool)
    for start, end in spans:
        is_kept[max(0, start - AROUND) : end + AROUND] = True
    rest, missing = np.flatnonzero(~is_kept), num_frames - int(is_kept.sum())
    if missing < 0:
        return None
    runs = np.split(rest, np.arange(RUN_SECONDS, len(rest), RUN_SECONDS))
    num_runs = min(len(runs), missing // RUN_SECONDS + 2)
    numbers = ((np.arange(num_runs) + rng.random()) * len(runs) / num_runs).astype(int)
    chosen = np.concatenate([runs[number] for number in numbers])
    is_kept[rng.sample(chosen.tolist(), missing)] = True
    return np.flatnonzero(is_kept)


def _any_of(pieces: Sequence[Piece], rng: Random) -> Piece | None:
    return rng.choice(pieces) if pieces else None


def _fill(seconds: int, stretches: np.ndarray, rng: Random) -> Iterator[np.ndarray]:
    """Number frames of random stretches until some seconds are full."""
    while seconds > 0:
        first, last, _ = (int(value) for value in stretches[rng.randrange(len(stretches))])
        length = min(seconds, last - first)
        start = rng.randint(first, last - length)
        yield np.arange(start, start + length)
        seconds -= length
