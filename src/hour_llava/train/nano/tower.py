"""A vision tower from scratch: it learns to say what stands in each cell of a generated frame.

Shape letters: F frames, C channels, P cells, D tower width, A attributes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hour_llava.model.modeling_hour_llava import HourLlavaForConditionalGeneration
from hour_llava.world.timeline import ACTS, CELLS, COLOURS, DIGITS, PATTERNS, SCENES, SHAPES

ATTRIBUTE_SIZES: Mapping[str, int] = {
    "scene": len(SCENES),
    "shape": len(SHAPES),
    "colour": len(COLOURS),
    "digit": len(DIGITS),
    "size": 3,
    "orientation": 4,
    "offset": 3,
    "ringed": 2,
    "pattern": len(PATTERNS) + 1,
    "cell": len(CELLS),
    "neighbour": len(SHAPES),
}
"""Classes of each label; "cell" is where in the picture a token stands, "neighbour" the shape in
the other cell of its row: who does something to whom is then told by one token."""

MEMORY_SIZES: Mapping[str, int] = {**ATTRIBUTE_SIZES, "act": len(ACTS)}
"""The same, and what is being done there: no single frame tells, the memory's tubes do."""

OTHER_CELL_OF_ROW = (1, 0, 3, 2)
ATTRIBUTE_WEIGHTS: Mapping[str, float] = {"shape": 3.0, "orientation": 0.3}
"""Shapes are by far the slowest to learn; frames drawn late blur the quarter turns."""


@dataclass(frozen=True, kw_only=True)
class TowerSettings:
    """How the tower is trained.

    Args:
        pixel_noise: up to this standard deviation is added, in levels of 255.
        shares: of a batch, drawn from each pool of frames; the last pool takes the rest.
    """

    num_steps: int
    batch_size: int = 48
    learning_rate: float = 2e-3
    warm_up_steps: int = 100
    weight_decay: float = 0.02
    pixel_noise: float = 4.0
    shares: tuple[float, ...] = (1.0,)
    seed: int = 0
    log_every: int = 100
    save_every: int = 500


def attribute_classes(labels: Mapping[str, np.ndarray]) -> Tensor:
    """Turn a clip's labels into class numbers (F, P, A); "nothing" is the class after the last."""
    shape = labels["shape"]
    told = {
        **labels,
        "cell": np.broadcast_to(np.arange(len(CELLS)), shape.shape),
        "neighbour": shape[:, OTHER_CELL_OF_ROW],
    }
    columns = [np.where(told[name] < 0, size, told[name]) for name, size in MEMORY_SIZES.items()]
    return torch.from_numpy(np.stack(columns, axis=-1))


def multi_hot(classes_FPA: Tensor) -> Tensor:
    """Spread class numbers over one bit a class, none for "nothing": (F, P, sum of classes)."""
    columns = [
        F.one_hot(classes, size + 1)[..., :size]
        for classes, size in zip(classes_FPA.unbind(-1), MEMORY_SIZES.values(), strict=True)
    ]
    return torch.cat(columns, dim=-1).to(torch.uint8)


def has_unusual_pose(classes_FPA: Tensor) -> np.ndarray:
    """Say which frames (F,) show a turned, shifted, small or large shape.

    They are few, and a tower that takes a spinning shape for another one finds in every hour
    several false needles.
    """
    usual = {"size": 1, "orientation": 0, "offset": 1}
    unusual = torch.zeros(classes_FPA.shape[:2], dtype=torch.bool)
    for column, (name, size) in zip(classes_FPA.unbind(-1), MEMORY_SIZES.items(), strict=True):
        if name in usual:
            unusual |= (column != usual[name]) & (column < size)
    return unusual.any(-1).numpy()


class AttributeHeads(nn.Module):
    """A linear classifier a label, on the pooled tokens; training only."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        sizes = {name: size + 1 for name, size in ATTRIBUTE_SIZES.items()}
        self.linears = nn.ModuleDict({n: nn.Linear(hidden_size, s) for n, s in sizes.items()})

    def forward(self, features_FPD: Tensor, classes_FPA: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Return the weighted cross-entropy, and each label's accuracy where there is something."""
        loss = features_FPD.new_zeros(())
        accuracy = {}
        told = classes_FPA[..., : len(ATTRIBUTE_SIZES)]
        for (name, linear), target in zip(self.linears.items(), told.unbind(-1), strict=True):
            logits = linear(features_FPD)
            weight = ATTRIBUTE_WEIGHTS.get(name, 1.0)
            loss = loss + weight * F.cross_entropy(logits.flatten(0, 1), target.flatten())
            present = target < ATTRIBUTE_SIZES[name]
            is_right = (logits.argmax(-1) == target)[present]
            accuracy[name] = is_right.float().mean().item() if len(is_right) else math.nan
        return loss, accuracy


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What the trainer gets."""

    loss: Tensor


class TowerObjective(nn.Module):
    """A model's tower and the classifiers on its pooled tokens.

    Args:
        model: of it, the tower alone is used.
    """

    accepts_loss_kwargs = False

    def __init__(self, model: HourLlavaForConditionalGeneration, heads: AttributeHeads) -> None:
        super().__init__()
        self.model, self.heads = model, heads
        self.recent: list[dict[str, float]] = []

    def forward(self, *, pixels: Tensor, classes: Tensor) -> Scored:
        """Say what stands in each cell: pixels (F, C, H, W) in -1..1, classes (F, P, A)."""
        loss, accuracy = self.heads(self.model.encode_video(pixels), classes)
        self.recent.append({"loss": loss.item()} | accuracy)
        return Scored(loss=loss)

    def means(self) -> dict[str, float]:
        """Give the mean loss and accuracies since they were last asked for."""
        means = {name: float(np.nanmean([r[name] for r in self.recent])) for name in self.recent[0]}
        self.recent.clear()
        return means


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameLessons:
    """Batches of single frames: a pure function of (step, rank).

    Args:
        frames_FCHW: uint8, already of the tower's size; may be a memory map.
        classes_FPA: `attribute_classes` of the same frames.
        pools: numbers of frames, which `settings.shares` are drawn from.
        team_size: processes that share a step's frames.
    """

    frames_FCHW: np.ndarray
    classes_FPA: Tensor
    pools: Sequence[np.ndarray]
    settings: TowerSettings
    team_size: int = 1

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        step, rank = key
        settings = self.settings
        rng = np.random.default_rng([settings.seed, step, rank])
        batch_size = settings.batch_size // self.team_size
        counts = [int(share * batch_size) for share in settings.shares[:-1]]
        counts.append(batch_size - sum(counts))
        chosen = np.concatenate(
            [
                pool[rng.integers(0, len(pool), n)]
                for pool, n in zip(self.pools, counts, strict=False)
            ]
        )
        pixels = torch.from_numpy(self.frames_FCHW[chosen]).float()
        chance = torch.Generator().manual_seed(int(rng.integers(0, 2**62)))
        noise = torch.randn(pixels.shape, generator=chance)
        strength = settings.pixel_noise * torch.rand(len(chosen), 1, 1, 1, generator=chance)
        return {
            "pixels": (pixels + strength * noise) / 127.5 - 1,
            "classes": self.classes_FPA[torch.from_numpy(chosen)],
            "sample_ids": [f"frame {number}" for number in chosen],
        }
