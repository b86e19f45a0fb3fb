"""SIGTERM and SIGINT as a wish: save, then end; and SIGTERM before there is anything to save.

The second Ctrl-C ends at once. Only the main thread may set handlers; elsewhere signals do what
they always do.
"""

from __future__ import annotations

import multiprocessing
import os
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
    """Let a data worker end on SIGTERM of the process that trains alone; leave Ctrl-C to it.

    torchrun, `timeout` and Slurm signal all processes of a run: workers must live on until the
    step is done and saved. Only a process can say who signalled it: a thread waits for that.
    On macOS none can, and SIGTERM ends a worker, whoever sent it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    trainer = multiprocessing.parent_process()
    if trainer is None or not hasattr(signal, "sigwaitinfo"):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # in threads to come, too
    threading.Thread(target=_end_for, args=(trainer.pid,), daemon=True).start()


def _end_for(trainer: int | None) -> None:
    """Wait until the trainer ends this process; signals of others are taken, and nothing done."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != trainer:
        pass
    os._exit(0)  # as torch's own handler does: a worker that was sent away has not failed
