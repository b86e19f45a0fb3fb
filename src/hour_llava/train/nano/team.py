"""Processes that train one model together: each takes a share of every step's videos.

Two processes of one thread each do nearly twice the work of one with two threads: at this size a
step is many small operations, which threads do not divide.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as distributed
from torch import Tensor, nn

PATIENCE = timedelta(minutes=40)
"""How long one process waits for another: drawing all clips may take that long."""


@dataclass(frozen=True, kw_only=True)
class Team:
    """This process's place among those that train together; alone by default."""

    rank: int = 0
    size: int = 1

    @classmethod
    def join(cls, rank: int, size: int, meeting_point: Path) -> Team:
        """Wait until all processes are there.

        Args:
            meeting_point: a file that is not there yet; the same for all.
        """
        distributed.init_process_group(
            "gloo",
            init_method=f"file://{meeting_point}",
            rank=rank,
            world_size=size,
            timeout=PATIENCE,
        )
        return cls(rank=rank, size=size)

    def leave(self) -> None:
        """End the processes' ties."""
        if self.size > 1:
            distributed.destroy_process_group()

    def wait(self) -> None:
        """Wait for the others to come here too."""
        if self.size > 1:
            distributed.barrier()

    @torch.no_grad()
    def average_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Give all processes the mean of their gradients; all then take the same step."""
        self._average([p.grad for p in parameters if p.grad is not None], distributed.all_reduce)

    def _average(self, tensors: list[Tensor], add_up: Callable[[Tensor], object]) -> None:
        if self.size == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        add_up(flat)
        flat /= self.size
        for tensor, mean in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))
