"""Named training runs: each a function that gives a `TrainConfig`, found by its name.

A recipe is Python: to make your own, write a function like those in `recipes/hour_llava.py`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from hour_llava.train.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Where a recipe's functions stand; they are imported when it is named.

    Args:
        summary: For the list of recipes.
        make: "module:function" that gives the `TrainConfig`.
        prepare: Of those that make data or model themselves: (config, out) -> config.
    """

    summary: str
    make: str
    prepare: str | None = None

    def config(self) -> TrainConfig:
        """Make the recipe's settings."""
        return _function(self.make)()

    def prepared(self, config: TrainConfig, out: Path) -> TrainConfig:
        """Make what the run lacks, where the recipe makes it itself."""
        return config if self.prepare is None else _function(self.prepare)(config, out)


def _function(target: str) -> Callable[..., TrainConfig]:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def _recipes() -> dict[str, Recipe]:
    what = ("MemAug alone, on images", "everything, on short videos", "all but the tower, on hours")
    found = {
        f"hour_llava_{size}_stage{stage}": Recipe(
            summary=f"{size.upper()}, stage {stage}: {what[stage - 1]}",
            make=f"hour_llava.recipes.hour_llava:hour_llava_{size}_stage{stage}",
        )
        for size in ("3b", "7b")
        for stage in (1, 2, 3)
    }
    for stage in (1, 2, 3):
        found[f"debug_stage{stage}"] = Recipe(
            summary=f"a tiny model, stage {stage}, in a minute on a CPU; makes its own data",
            make=f"hour_llava.recipes.debug:debug_stage{stage}",
            prepare="hour_llava.recipes.debug:prepare",
        )
    return found


RECIPES: Mapping[str, Recipe] = MappingProxyType(_recipes())
