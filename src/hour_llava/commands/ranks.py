"""What several processes of torchrun have to say alike is said once, by the first of them."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

LOST = "another process of this run has ended: its own line says why"
_SECONDS = 10  # in which the first process comes to the same error
_BACKENDS_WORDS = ("Connection closed by peer", "Connection reset by peer", "remote process exited")


def is_lost(error: BaseException) -> bool:
    """Say whether an error is no more than the end of another process (gloo's and NCCL's words)."""
    is_one_of_many = os.environ.get("WORLD_SIZE", "1") != "1"
    return is_one_of_many and any(words in str(error) for words in _BACKENDS_WORDS)


def line_of_rank(text: str) -> str | None:
    """Give an error's line as this process is to say it; None where the first says the same.

    Processes tell each other by torchrun's own store, which needs nothing of their group: an error
    may come before it is formed or behind its end. What one process alone has to say names it.
    """
    rank = os.environ.get("RANK", "0")
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return text
    store, key = _store(), f"hour_llava/error/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    if rank == "0":
        if store is not None:
            store.set(key, text)
        return text
    first = _first(store, key)
    is_said = first is not None and (first == text or LOST in text)
    return None if is_said else f"rank {rank}: {text}"


def _store() -> Any:
    """Open torchrun's store; None where something else has started the processes."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    from torch.distributed import DistError, TCPStore

    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    try:
        return TCPStore(address, port, is_master=False, timeout=timedelta(seconds=_SECONDS))
    except DistError:
        return None


def _first(store: Any, key: str) -> str | None:
    """Give what the first process says, where it says anything in time."""
    if store is None:
        return None
    from torch.distributed import DistError

    try:
        return store.get(key).decode()  # waits for it
    except DistError:
        return None
