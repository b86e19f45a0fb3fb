"""Who may end a data worker."""

from __future__ import annotations

import multiprocessing
import os
import signal
from ctypes import c_bool
from multiprocessing.connection import Connection
from typing import Any

from hour_llava.train.signals import leave_to_parent


def work(is_over: Any, told: Connection) -> None:
    leave_to_parent(is_over, 0)
    told.send("ready")
    while True:
        told.send(told.recv())


def test_a_data_worker_ends_on_sigterm_when_training_is_over_and_not_before() -> None:
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    is_over = context.RawValue(c_bool, False)
    worker = context.Process(target=work, args=(is_over, there), daemon=True)
    worker.start()
    assert worker.pid is not None and here.poll(60) and here.recv() == "ready"
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
        os.kill(worker.pid, number)
        here.send("still there")
        assert here.poll(60) and here.recv() == "still there"
    is_over.value = True
    worker.terminate()
    worker.join(60)
    assert worker.exitcode == 0
