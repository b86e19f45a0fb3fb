"""A full disk or memory, said with what helps in the verb that met it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from hour_llava.errors import HourLlavaError, ResourceError

_NO_MEMORY = "can't allocate memory"
_FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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
    except HourLlavaError:  # it has said what helps
        raise
    except Exception as error:
        if is_lack_of_memory(error):
            text = " ".join(str(error).split())[:200]
            raise ResourceError(f"out of memory: {memory} ({text})") from error
        if is_lack_of_disk(error):
            raise ResourceError(disk) from error
        raise


def is_lack_of_disk(error: BaseException) -> bool:
    """Say whether the disk is full; safetensors' error is no OSError, and has but words."""
    if isinstance(error, OSError) and error.errno in _FULL_DISK:
        return True
    return any(words in str(error) for words in ("No space left on device", "(os error 28)"))


def is_lack_of_memory(error: BaseException) -> bool:
    """Say whether memory is short; torch must not be imported to ask."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return bool(kinds & {"MemoryError", "OutOfMemoryError"}) or _NO_MEMORY in str(error)
