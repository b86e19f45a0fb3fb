"""From a data worker to the trainer: tensors are laid into shared memory where a failure is heard.

Left to its queue, a worker whose `/dev/shm` is full drops the batch behind its own back and lives
on, and the trainer waits for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils.data import get_worker_info

from hour_llava.errors import ResourceError


@dataclass(frozen=True, kw_only=True)
class InSharedMemory:
    """Merges items as `collate` does; in a worker process the tensors lie in shared memory then.

    Raises:
        ResourceError: there is too little of it.
    """

    collate: Callable[[list[Any]], Mapping[str, Any]]

    def __call__(self, items: list[Any]) -> Mapping[str, Any]:
        """Merge."""
        batch = self.collate(items)
        if get_worker_info() is not None:
            try:
                _share(batch)
            except (OSError, RuntimeError) as error:
                reason = " ".join(str(error).split())[:200]
                raise ResourceError(
                    "a data worker has no room in /dev/shm for a batch: give it more (docker: "
                    "--shm-size), lower --data.workers or --batch.micro-batch-size, or take "
                    f"--data.workers 0 ({reason})"
                ) from error
        return batch


def _share(value: Any) -> None:
    if isinstance(value, Tensor):
        value.share_memory_()
    elif isinstance(value, Mapping):
        for item in value.values():
            _share(item)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for item in value:
            _share(item)
