"""What a run is trained on: a data set, the order of it, and how items become a batch.

The trainer asks for no more than this, so that a manifest of files and videos that are composed as
they are needed are trained on by the same code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from hour_llava.data.collate import Collator, TrainingData
from hour_llava.data.mixture import GlobalOrder, Mixture
from hour_llava.data.sampler import GlobalBatchSampler


class Sampler(Protocol):
    """The share of this rank, in micro-batches of keys; see `data.sampler.GlobalBatchSampler`."""

    @property
    def accumulation_steps(self) -> int:
        """Count the micro-batches of this rank in a step of the optimiser."""
        ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Sequence[Any]]: ...

    def seek(self, num_consumed: int) -> None:
        """Go on behind so many samples of all ranks; iterators that are under way do not mind."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Say where the run stands, and in which order."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where a run stood; refuse another order."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Material:
    """What a run is trained on.

    Args:
        dataset: `dataset[key]` gives an item; a pure function of the key, so that a run that goes
            on sees what it would have seen.
        sampler: Yields lists of keys, a micro-batch of this rank each.
        collate: Makes a list of items into a batch: the module's arguments, and, if it likes, the
            lists `sample_ids` and `broken` (see `data.collate.NOT_FOR_THE_MODEL`).
        num_steps: Steps of the optimiser in the whole run.
        global_batch_size: Samples of one step, of all ranks.
    """

    dataset: Any
    sampler: Sampler
    collate: Callable[[list[Any]], Mapping[str, Any]]
    num_steps: int
    global_batch_size: int


def manifest_material(
    mixture: Mixture,
    collator: Collator,
    *,
    global_batch_size: int,
    micro_batch_size: int,
    epochs: float = 1.0,
    max_steps: int | None = None,
    seed: int = 0,
    mode: Any = "random",
    window: int = 0,
    rank: int = 0,
    world_size: int = 1,
) -> Material:
    """Train on a mixture of manifests.

    Args:
        mixture: The samples.
        collator: Encodes and merges them.
        global_batch_size: Samples of a step, of all ranks.
        micro_batch_size: Samples of one forward pass of one rank.
        epochs: How often all is seen.
        max_steps: Ends the run earlier, or goes on beyond the epochs.
        seed: Of the order.
        mode: "random" or "per_stream".
        window: Of the shuffle; see `data.mixture`.
        rank: This process.
        world_size: All of them.

    Raises:
        DataError: The batch cannot be dealt to the ranks.
    """
    order = GlobalOrder.of(
        mixture, global_batch_size=global_batch_size, seed=seed, mode=mode, window=window
    )
    num_steps = max_steps or order.num_batches(epochs)
    sampler = GlobalBatchSampler(
        order,
        num_batches=num_steps,
        rank=rank,
        world_size=world_size,
        micro_batch_size=micro_batch_size,
    )
    return Material(
        dataset=TrainingData(mixture, collator),
        sampler=sampler,
        collate=collator,
        num_steps=num_steps,
        global_batch_size=global_batch_size,
    )
