"""SIGTERM and SIGINT as a wish: save, then end; and SIGTERM before there is anything to save.

The second Ctrl-C ends at once. Only the main thread may set handlers; elsewhere signals do what
they always do.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

EXIT_CODES: Mapping[int, int] = {signal.SIGINT: 130, signal.SIGTERM: 143}


class Wish:
    """Whether someone wants the run to end."""

    def __init__(self) -> None:
        self.received: int | None = None

    def __call__(self, number: int, frame: Any) -> None:
        if self.received == signal.SIGINT == number:
            raise KeyboardInterrupt
        self.received = number


@contextmanager
def wishing() -> Iterator[Wish]:
    """Take SIGTERM and SIGINT for wishes, for as long as this runs."""
    wish = Wish()
    if threading.current_thread() is not threading.main_thread():
        yield wish
        return
    before = {number: signal.signal(number, wish) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield wish
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def ending() -> Iterator[None]:
    """Let SIGTERM end the process as an exception would: what is open is closed behind it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(EXIT_CODES[number]))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def leave_to_parent(_: int) -> None:
    """Let a data worker end with its loader alone.

    torchrun, `timeout` and Slurm signal all processes of a run: workers must live on until the
    step is done and saved.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
