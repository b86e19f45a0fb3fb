"""The share of a rank in every global batch, and where a run stands: one number.

Rank r of W takes `batch[r::W]`, in micro-batches. What has been seen is the number of samples
consumed by all ranks, so a run goes on with the same global batches on another number of ranks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from hour_llava.data.mixture import GlobalOrder
from hour_llava.errors import DataError


class Drawn(NamedTuple):
    """A sample's turn: its index in the mixture, and its place in the run's global order."""

    index: int
    position: int


class GlobalBatchSampler:
    """Yields this rank's micro-batches, from where the run stands to its last batch.

    A torch batch sampler: `DataLoader(data, batch_sampler=sampler, ...)`. G / (ranks x micro-batch)
    micro-batches make one step of the optimiser. Data workers fetch ahead of the training, so the
    sampler does not count: the trainer tells it, by `seek`, what has been trained on.

    Args:
        order: The global batches.
        num_batches: Of the whole run.
        rank: This process.
        world_size: All of them.
        micro_batch_size: Samples of one forward of one rank.

    Raises:
        DataError: G is no multiple of ranks x micro-batch; all three are named.
    """

    def __init__(
        self,
        order: GlobalOrder,
        *,
        num_batches: int,
        rank: int = 0,
        world_size: int = 1,
        micro_batch_size: int = 1,
    ) -> None:
        size = order.global_batch_size
        if world_size < 1 or micro_batch_size < 1 or size % (world_size * micro_batch_size):
            raise DataError(
                f"a global batch of {size} cannot be dealt to {world_size} ranks in micro-batches "
                f"of {micro_batch_size}: it must be a multiple of {world_size * micro_batch_size}"
            )
        if not 0 <= rank < world_size:
            raise DataError(f"rank {rank} of {world_size} ranks does not exist")
        self.order, self.num_batches = order, num_batches
        self.rank, self.world_size = rank, world_size
        self.micro_batch_size = micro_batch_size
        self.num_consumed = 0

    @property
    def accumulation_steps(self) -> int:
        """Count the micro-batches of a rank in a global batch."""
        return self.order.global_batch_size // (self.world_size * self.micro_batch_size)

    def __len__(self) -> int:
        first = self.num_consumed // self.order.global_batch_size
        return max(0, self.num_batches - first) * self.accumulation_steps

    def __iter__(self) -> Iterator[list[Drawn]]:
        size, step = self.order.global_batch_size, self.micro_batch_size
        for number in range(self.num_consumed // size, self.num_batches):
            batch = self.order.batch(number)
            own = [
                Drawn(int(batch[place]), number * size + place)
                for place in range(self.rank, size, self.world_size)
            ]
            for start in range(0, len(own), step):
                yield own[start : start + step]

    def seek(self, num_consumed: int) -> None:
        """Go on behind so many samples of all ranks.

        Raises:
            DataError: the number is inside a global batch.
        """
        size = self.order.global_batch_size
        if num_consumed < 0 or num_consumed % size:
            raise DataError(
                f"{num_consumed} samples consumed is inside a global batch of {size}: a run goes "
                "on between two steps of the optimiser"
            )
        self.num_consumed = num_consumed

    def state_dict(self) -> dict[str, Any]:
        """Say where the run stands and in which order; nothing of it depends on the ranks."""
        return {"num_consumed": self.num_consumed, "order": self.order.fingerprint}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where a run stood.

        Raises:
            DataError: that run had other data, another seed, batch or mode.
        """
        if state["order"] != self.order.fingerprint:
            raise DataError(
                f"the checkpoint's data order is {state['order']}, this run's is "
                f"{self.order.fingerprint}: resume with the same data, weights, seed, mode, window "
                "and global batch"
            )
        self.seek(int(state["num_consumed"]))


def forgetting_seed(seed: int, position: int) -> int:
    """Seed a sample's forgetting by (seed, its place in the global order): 63 bits."""
    text = f"forgetting {seed} {position}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1
