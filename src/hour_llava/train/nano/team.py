"""Processes that train one model together: each takes a share of every step's videos.

Two processes of one thread each do nearly twice the work of one with two threads: at this size a
step is many small operations, which threads do not divide.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch.distributed as distributed

PATIENCE = timedelta(minutes=40)
"""How long one process waits for another: drawing all clips may take that long."""


@dataclass(frozen=True, kw_only=True)
class Team:
    """This process's place among those that train together; alone by default."""

    rank: int = 0
    size: int = 1

    @classmethod
    def join(cls, rank: int, size: int, meeting_point: Path) -> Team:
        """Wait until all processes are there, and tell the trainer of them as torchrun would.

        Args:
            meeting_point: a file that is not there yet; the same for all.
        """
        names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
        os.environ.update({name: str(value) for name, value in names.items()})
        os.environ.update({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"})  # we have met already
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
