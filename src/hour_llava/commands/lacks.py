"""A full disk or memory, said with what helps in the verb that met it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from hour_llava.errors import HourLlavaError, ResourceError

_NO_MEMORY = "can't allocate memory"


@contextmanager
def naming_lacks(*, memory: str, disk: str) -> Iterator[None]:
    """Say of a full disk or memory what helps here.

    Args:
        memory: what helps where memory is short.
        disk: the whole sentence about the disk.

    Raises:
        ResourceError: in place of the system's error.
    """
    try:
        yield
    except Exception as error:
        if _is_lack_of_memory(error):
            text = " ".join(str(error).split())[:200]
            raise ResourceError(f"out of memory: {memory} ({text})") from error
        if _is_lack_of_disk(error):
            raise ResourceError(disk) from error
        raise


def _is_lack_of_disk(error: Exception) -> bool:
    """Say whether the disk is full; safetensors' error is no OSError, and has but words."""
    if isinstance(error, HourLlavaError):  # it has said what helps
        return False
    number = getattr(error, "errno", None)
    return number == errno.ENOSPC or f"(os error {errno.ENOSPC})" in str(error)


def _is_lack_of_memory(error: Exception) -> bool:
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if kinds & {"MemoryError", "OutOfMemoryError"}:
        return True
    return isinstance(error, RuntimeError) and _NO_MEMORY in str(error)
