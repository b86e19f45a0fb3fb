"""What torchrun's processes have to say alike is said once; what one alone has to say names it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hour_llava.commands.ranks import LOST

pytestmark = pytest.mark.slow
ONE_FAILS = """
import os, runpy, sys
import hour_llava.data.manifest as manifest
from hour_llava.errors import DataError

def fail(*_, **__):
    raise DataError("this node has no such disk")

if os.environ["RANK"] == sys.argv.pop(1):
    manifest.read_manifest = fail
runpy.run_module("hour_llava.cli", run_name="__main__")
"""


def said(tmp_path: Path, *words: str) -> list[str]:
    """Run two processes that fail, and give our lines of what they said."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*command, "--nproc-per-node", "2", *words],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 1
    return [line for line in done.stderr.splitlines() if line.startswith("hour-llava")]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--model.start", "nowhere"], "error: no model is called nowhere"),  # before they meet
        (["--model.start", "scratch:other"], "error: --model.start scratch:other"),  # together
        (["--watch.reports", "nope"], "error: there is no report 'nope'"),  # the first alone
        (["--optim.lr-memag", "1"], "--optim.lr-memag"),  # wrong usage
    ],
)
def test_an_error_of_all_is_said_once(flags: list[str], words: str, tmp_path: Path) -> None:
    run = ("-m", "hour_llava.cli", "train", "debug_stage1", "--out", "x", *flags)
    (line,) = said(tmp_path, *run)
    assert words in line and "rank" not in line
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_one_process_alone_is_said_with_its_number(tmp_path: Path) -> None:
    (tmp_path / "one_fails.py").write_text(ONE_FAILS)
    turns = [{"from": "human", "value": "what"}, {"from": "gpt", "value": "red"}]
    (tmp_path / "m.jsonl").write_text(json.dumps({"id": "a", "conversations": turns}) + "\n")
    flags = ("train", "debug_stage1", "--out", "x", "--data.manifest", "m.jsonl")
    lines = said(tmp_path, "one_fails.py", "1", *flags)
    assert "hour-llava: rank 1: error: this node has no such disk" in lines
    assert all("rank 1" in line or LOST in line for line in lines)
