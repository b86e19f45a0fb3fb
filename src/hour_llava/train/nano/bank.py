"""What training reads instead of video files: rendered clips, and their tower features on disk.

Rendering and the frozen tower cost far more than a training step, so each runs once. A clip is
named by (seconds, seed): its truth, and so its questions, can be made again at any time.

Shape letters: N clips, F frames, C channels, S the tower's image side, P cells, D tower width,
A attributes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random

import numpy as np
import torch
from torch import Tensor

from hour_llava.train.nano.tower import attribute_classes
from hour_llava.world.labels import attributes_per_second
from hour_llava.world.render import Renderer, render_ticks
from hour_llava.world.timeline import Timeline, make_timeline

FRAME_CHUNK = 256

Resize = Callable[[np.ndarray], Tensor]
"""RGB frames (F, H, W, 3) uint8 to the tower's pixels (F, C, S, S) in -1..1."""

Encode = Callable[[Tensor], Tensor]
"""The tower's pixels (F, C, S, S) to pooled features (F, P, D)."""


def training_timeline(seconds: int, seed: int) -> Timeline:
    """Make the truth of a clip without the compositions that exams keep for themselves."""
    return make_timeline(seconds, seed, split="train")


@dataclass(frozen=True, kw_only=True)
class ClipGroup:
    """`num_clips` clips of `seconds` each, of the seeds that follow `first_seed`.

    Args:
        make: (seconds, seed) to the truth of a clip.
    """

    seconds: int
    num_clips: int
    first_seed: int
    make: Callable[[int, int], Timeline] = training_timeline

    @property
    def seeds(self) -> range:
        """The seeds of the clips."""
        return range(self.first_seed, self.first_seed + self.num_clips)

    def path(self, folder: Path, kind: str) -> Path:
        """Name the group's file of a kind: frames or features."""
        name = "" if self.make is training_timeline else f"{self.make.__name__}_"
        return folder / f"{kind}_{name}{self.seconds}s_{self.first_seed}_{self.num_clips}.npy"

    def timelines(self) -> list[Timeline]:
        """Make the truth of every clip."""
        return [self.make(self.seconds, seed) for seed in self.seeds]


@dataclass(frozen=True, kw_only=True)
class TokenGroup:
    """A group's frozen tower features and the truth beside them.

    Args:
        timelines: N of them.
        features_NFPD: float16.
        classes_NFPA: uint8 class numbers of every cell, for the attribute probe.
    """

    group: ClipGroup
    timelines: list[Timeline]
    features_NFPD: Tensor
    classes_NFPA: Tensor

    @cached_property
    def scale(self) -> float:
        """Measure the standard deviation of the features, which noise is relative to."""
        return float(self.features_NFPD[0].float().std())


def render_group(group: ClipGroup, folder: Path, resize: Resize, *, is_degraded: bool) -> Path:
    """Draw a group's frames at the tower's size into a file, unless it is there already.

    Cost: about 4 ms a frame, most of it the damage of other codecs, sizes and players.
    """
    path = group.path(folder, "frames")
    if path.exists():
        return path
    renderer, partial = Renderer(), path.with_suffix(".partial")
    frames: np.memmap | None = None
    for number, timeline in enumerate(group.timelines()):
        rng = Random(timeline.seed) if is_degraded else None
        for start in range(0, group.seconds, FRAME_CHUNK):
            seconds = range(start, min(start + FRAME_CHUNK, group.seconds))
            drawn = render_ticks(timeline, seconds, renderer=renderer, rng=rng)
            pixels = ((resize(drawn) + 1) * 127.5).round().clamp(0, 255).byte().numpy()
            if frames is None:
                shape = (group.num_clips, group.seconds, *pixels.shape[1:])
                frames = np.lib.format.open_memmap(partial, "w+", np.uint8, shape)
            frames[number, seconds.start : seconds.stop] = pixels
    assert frames is not None
    frames.flush()
    return partial.rename(path)


def encode_group(group: ClipGroup, clips: Path, folder: Path, encode: Encode) -> Path:
    """Run the frozen tower over a group's frames into a float16 file, unless it is there.

    Args:
        clips: the folder of the frames.
        folder: where the features go; they belong to one tower.
    """
    path = group.path(folder, "features")
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    frames_NFCSS = np.load(group.path(clips, "frames"), mmap_mode="r")
    flat = frames_NFCSS.reshape(-1, *frames_NFCSS.shape[2:])
    with torch.no_grad():
        parts = [
            encode(torch.from_numpy(np.array(flat[i : i + FRAME_CHUNK])).float() / 127.5 - 1).half()
            for i in range(0, len(flat), FRAME_CHUNK)
        ]
    features = torch.cat(parts).unflatten(0, frames_NFCSS.shape[:2])
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.save(file, features.numpy())
    return partial.rename(path)


def frames_and_classes(groups: list[ClipGroup], folder: Path) -> tuple[np.ndarray, Tensor]:
    """Join groups' frames for the tower: (F, C, S, S) uint8 and class numbers (F, P, A)."""
    frames = [np.load(group.path(folder, "frames")) for group in groups]
    classes = [_classes(group.timelines()).flatten(0, 1) for group in groups]
    flat = np.concatenate([array.reshape(-1, *array.shape[2:]) for array in frames])
    return flat, torch.cat(classes).long()


def load_group(group: ClipGroup, folder: Path) -> TokenGroup:
    """Read a group's features; its truth is made anew."""
    timelines = group.timelines()
    return TokenGroup(
        group=group,
        timelines=timelines,
        features_NFPD=torch.from_numpy(np.load(group.path(folder, "features"))),
        classes_NFPA=_classes(timelines),
    )


def _classes(timelines: list[Timeline]) -> Tensor:
    clips = [attribute_classes(attributes_per_second(timeline)) for timeline in timelines]
    return torch.stack(clips).to(torch.uint8)
