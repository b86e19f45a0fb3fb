"""SIGTERM to all processes of a run, as torchrun, `timeout` and Slurm send it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from hour_llava.train.checkpoint import last_checkpoint, verify
from hour_llava.train.watching.log import read_log

RUN = ("-m", "hour_llava.cli", "train", "debug_stage1", "--data.workers", "1")
MANY = ("--batch.max-steps", "5000", "--checkpoints.every-steps", "5000", "--batch.epochs", "1000")


def test_a_run_whose_workers_are_told_to_end_too_saves_and_leaves_none_of_them(
    tmp_path: Path,
) -> None:
    command = [sys.executable, *RUN, *MANY, "--out", str(tmp_path)]
    with (tmp_path / "stderr").open("w") as stderr:
        run = subprocess.Popen(command, start_new_session=True, stderr=stderr)
    try:
        while not any(line["kind"] == "step" and line["step"] > 2 for line in log_of(tmp_path)):
            assert run.poll() is None, (tmp_path / "stderr").read_text()
            time.sleep(0.1)
        os.killpg(run.pid, signal.SIGTERM)
        assert run.wait(120) == 143, (tmp_path / "stderr").read_text()
    finally:
        run.kill()
    saved = last_checkpoint(tmp_path / "checkpoints")
    assert saved is not None
    verify(saved)
    assert [p for p in psutil.process_iter() if is_of_session(p.pid, run.pid)] == []


def log_of(out: Path) -> list[dict[str, object]]:
    path = out / "log.jsonl"
    return list(read_log(path)) if path.exists() else []


def is_of_session(process: int, session: int) -> bool:
    try:
        return os.getsid(process) == session
    except ProcessLookupError:
        return False
