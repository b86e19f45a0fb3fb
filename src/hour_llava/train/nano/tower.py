"""A vision tower from scratch: it learns to say what stands in each cell of a generated frame.

Shape letters: F frames, C channels, P cells, D tower width, A attributes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hour_llava.train.nano.team import Team
from hour_llava.world.timeline import CELLS, COLOURS, DIGITS, PATTERNS, SCENES, SHAPES

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
}
"""Classes of each label; "cell" is where in the picture a token stands."""

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


def attribute_classes(labels: Mapping[str, np.ndarray]) -> Tensor:
    """Turn a clip's labels into class numbers (F, P, A); "nothing" is the class after the last."""
    some = labels["shape"]
    cells = np.broadcast_to(np.arange(len(CELLS)), some.shape)
    columns = [
        np.where((column := labels.get(name, cells)) < 0, size, column)
        for name, size in ATTRIBUTE_SIZES.items()
    ]
    return torch.from_numpy(np.stack(columns, axis=-1))


def multi_hot(classes_FPA: Tensor) -> Tensor:
    """Spread class numbers over one bit a class, none for "nothing": (F, P, sum of classes)."""
    columns = [
        F.one_hot(classes, size + 1)[..., :size]
        for classes, size in zip(classes_FPA.unbind(-1), ATTRIBUTE_SIZES.values(), strict=True)
    ]
    return torch.cat(columns, dim=-1).to(torch.uint8)


def has_unusual_pose(classes_FPA: Tensor) -> np.ndarray:
    """Say which frames (F,) show a turned, shifted, small or large shape.

    They are few, and a tower that takes a spinning shape for another one finds in every hour
    several false needles.
    """
    usual = {"size": 1, "orientation": 0, "offset": 1}
    unusual = torch.zeros(classes_FPA.shape[:2], dtype=torch.bool)
    for column, (name, size) in zip(classes_FPA.unbind(-1), ATTRIBUTE_SIZES.items(), strict=True):
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
        for (name, linear), target in zip(
            self.linears.items(), classes_FPA.unbind(-1), strict=True
        ):
            logits = linear(features_FPD)
            weight = ATTRIBUTE_WEIGHTS.get(name, 1.0)
            loss = loss + weight * F.cross_entropy(logits.flatten(0, 1), target.flatten())
            present = target < ATTRIBUTE_SIZES[name]
            is_right = (logits.argmax(-1) == target)[present]
            accuracy[name] = is_right.float().mean().item() if len(is_right) else math.nan
        return loss, accuracy


def train_tower(
    encode: Callable[[Tensor], Tensor],
    tower_and_heads: nn.ModuleDict,
    frames_FCHW: np.ndarray,
    classes_FPA: Tensor,
    pools: Sequence[np.ndarray],
    settings: TowerSettings,
    team: Team,
    *,
    log: Callable[[str], None],
) -> None:
    """Train a tower on single frames.

    Args:
        encode: pixels (F, C, H, W) in -1..1 to pooled features (F, P, D), through `tower`.
        tower_and_heads: what is trained: "tower", and "heads" that are no part of the model.
        frames_FCHW: uint8, already of the tower's size; may be a memory map.
        classes_FPA: `attribute_classes` of the same frames.
        pools: numbers of frames, which `settings.shares` are drawn from.
        settings: the schedule; a step's frames are shared out among the team.
        team: the processes that train together.
        log: takes one line at a time.
    """
    rng = np.random.default_rng([settings.seed, team.rank])
    torch.manual_seed(settings.seed + team.rank)
    heads, parameters = tower_and_heads["heads"], list(tower_and_heads.parameters())
    optimizer = torch.optim.AdamW(
        parameters, lr=1.0, betas=(0.9, 0.98), weight_decay=settings.weight_decay
    )
    recent: list[dict[str, float]] = []
    for step in range(settings.num_steps):
        for group in optimizer.param_groups:
            group["lr"] = cosine_rate(
                step, settings.num_steps, settings.learning_rate, settings.warm_up_steps
            )
        batch_size = settings.batch_size // team.size
        counts = [int(share * batch_size) for share in settings.shares[:-1]]
        counts.append(batch_size - sum(counts))
        chosen = np.concatenate(
            [pool[rng.integers(0, len(pool), n)] for pool, n in zip(pools, counts, strict=False)]
        )
        pixels = torch.from_numpy(frames_FCHW[chosen]).float()
        pixels += settings.pixel_noise * torch.rand(len(chosen), 1, 1, 1) * torch.randn_like(pixels)
        loss, accuracy = heads(encode(pixels / 127.5 - 1), classes_FPA[torch.from_numpy(chosen)])
        optimizer.zero_grad()
        loss.backward()
        team.average_gradients(parameters)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        recent.append(accuracy)
        if (step + 1) % settings.log_every == 0:
            means = {n: np.nanmean([a[n] for a in recent]) for n in ATTRIBUTE_SIZES}
            shown = " ".join(f"{name} {mean:.3f}" for name, mean in means.items())
            log(f"tower step {step + 1} loss {loss.item():.3f} {shown}")
            recent.clear()


def cosine_rate(step: int, num_steps: int, peak: float, warm_up_steps: int) -> float:
    """Give the learning rate of a step: linear warm-up, then a cosine down to 3 % of the peak."""
    warm = min(1.0, (step + 1) / warm_up_steps)
    return peak * warm * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * step / num_steps)))
