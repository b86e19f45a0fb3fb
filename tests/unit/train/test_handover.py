"""Batches on their way from a data worker to the trainer."""

from __future__ import annotations

import resource
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from hour_llava.errors import ResourceError
from hour_llava.train.handover import InSharedMemory


def merge(items: list[int]) -> dict[str, Any]:
    return {"labels": torch.zeros(len(items), 1 << 20), "names": ["a"], "videos": [torch.ones(3)]}


def leave_little_room(_: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))  # of shared memory, too


def load(num_workers: int, **options: Any) -> list[dict[str, Any]]:
    collate = InSharedMemory(collate=merge)
    return list(DataLoader([0, 1], collate_fn=collate, num_workers=num_workers, **options))  # pyright: ignore


def test_a_worker_s_tensors_lie_in_shared_memory_and_those_of_no_worker_do_not() -> None:
    for num_workers in (0, 1):
        first, second = load(num_workers)
        assert first["labels"].is_shared() == bool(num_workers)
        assert torch.equal(second["videos"][0], torch.ones(3))
        assert first["names"] == ["a"]


def test_a_worker_without_room_is_heard_and_nobody_waits_for_ever() -> None:
    with pytest.raises(ResourceError, match=r"no room in /dev/shm .* --data.workers"):
        load(1, worker_init_fn=leave_little_room)
