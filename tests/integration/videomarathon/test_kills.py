"""`kill -9` at random times: nothing lost, nothing paid twice but what was under way."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

CONCURRENCY = 8  # captioner and llm, four each


def stored_keys(build: Path) -> set[str]:
    """Read the keys of all calls in the ledger."""
    keys: set[str] = set()
    for file in (build / "calls").glob("*.sqlite"):
        with (
            suppress(sqlite3.OperationalError),  # just being made
            sqlite3.connect(f"file:{file}?mode=ro", uri=True) as connection,
        ):
            keys |= {row[0] for row in connection.execute("SELECT key FROM calls")}
    return keys


def kill_until_done(kit: Any, build: Path, num_kills: int, seed: int) -> int:
    """Run and kill, then run to the end; returns how often a run was killed."""
    rng = random.Random(seed)
    killed = 0
    for _ in range(num_kills):
        process = kit.start("run", str(build))
        # Not a clock but the ledger says when: so many new answers from now. Few: the whole build
        # asks about a hundred, and up to eight more come before the kill does.
        goal = len(stored_keys(build)) + rng.randint(1, 3)
        while process.poll() is None and len(stored_keys(build)) < goal:
            time.sleep(0.05)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            killed += 1
        process.communicate()
    done = kit.run("run", str(build))
    assert done.returncode == 0, done.stderr
    return killed


def check_kills(kit: Any, source: Path, mock: Any, folder: Path, num_kills: int) -> None:
    build = kit.make_build(folder / "killed", source, mock, min_events=2)
    killed = kill_until_done(kit, build, num_kills, seed=num_kills)
    after = mock.stats()
    num_stored = len(stored_keys(build))
    repeated = after["answered"] - num_stored
    print(json.dumps({"kills": killed, "answered": after["answered"], "repeated": repeated}))
    assert killed >= num_kills - 1
    assert repeated <= killed * CONCURRENCY
    assert after["answered_twice"] <= killed * CONCURRENCY

    quiet = kit.make_build(folder / "quiet", source, mock, min_events=2)
    assert kit.run("run", str(quiet)).returncode == 0
    assert kit.releases(build) == kit.releases(quiet)
    assert kit.parts(build) >= kit.parts(quiet)
    assert not list((build / "stages").rglob("*.tmp"))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_three_kills_lose_nothing(
    kit: Any, plain_videos: Path, slow_mock_server: Any, tmp_path: Path
) -> None:
    check_kills(kit, plain_videos, slow_mock_server, tmp_path, 3)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_twenty_kills_lose_nothing(
    kit: Any, plain_videos: Path, slow_mock_server: Any, tmp_path: Path
) -> None:
    check_kills(kit, plain_videos, slow_mock_server, tmp_path, 20)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_interrupt_drains_and_the_next_run_repeats_no_call(
    kit: Any, plain_videos: Path, slow_mock_server: Any, tmp_path: Path
) -> None:
    build = kit.make_build(tmp_path / "b", plain_videos, slow_mock_server, min_events=2)
    process: subprocess.Popen[str] = kit.start("run", str(build))
    while process.poll() is None and len(stored_keys(build)) < 3:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130
    assert f"synth run {build}" in errors
    assert "Traceback" not in errors
    assert kit.run("run", str(build)).returncode == 0
    stats = slow_mock_server.stats()
    assert stats["answered"] == len(stored_keys(build))
    assert stats["answered_twice"] == 0
