"""Who may end a data worker."""

from __future__ import annotations

import multiprocessing
import signal
import subprocess
import sys
import time
from multiprocessing.connection import Connection

import pytest

from hour_llava.train.signals import leave_to_parent


def work(told: Connection) -> None:
    leave_to_parent(0)
    told.send("ready")
    while True:
        told.send(told.recv())


@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="nobody says who signalled")
def test_a_data_worker_ends_on_sigterm_of_its_own_trainer_alone() -> None:
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    worker = context.Process(target=work, args=(there,), daemon=True)
    worker.start()
    assert here.poll(60) and here.recv() == "ready"
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
        code = f"import os; os.kill({worker.pid}, {int(number)})"
        subprocess.run([sys.executable, "-S", "-c", code], check=True)
    time.sleep(0.2)
    here.send("still there")
    assert here.poll(60) and here.recv() == "still there"
    worker.terminate()
    worker.join(60)
    assert worker.exitcode == 0
