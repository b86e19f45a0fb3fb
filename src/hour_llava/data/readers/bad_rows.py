"""What a reader does with a row that is no sample: it stops, or the caller keeps count."""

from __future__ import annotations

from collections.abc import Callable

from hour_llava.errors import DataError

Bad = Callable[[DataError], None]
"""Takes what is wrong with a row; where it returns, reading goes on with the next."""


def refuse(error: DataError) -> None:
    """Stop at the first."""
    raise error
