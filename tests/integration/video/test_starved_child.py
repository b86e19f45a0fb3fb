"""A child that gets no CPU is waited for; one that hangs, asleep or spinning, is not."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import pytest

from hour_llava.errors import DecoderHungError
from hour_llava.video import isolation, read_frames
from hour_llava.video.isolation import cpu_seconds, is_starved


def test_a_sleeping_process_is_not_starved() -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        time.sleep(0.5)
        assert not is_starved(process.pid, cpu_seconds(process.pid), 1.0)
        process.kill()


def test_a_runnable_process_is_starved_exactly_when_it_got_less_than_half_a_core() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        while cpu_seconds(process.pid) < 0.2:
            time.sleep(0.05)
        spent = cpu_seconds(process.pid)
        assert not is_starved(process.pid, spent - 10.0, 10.0)
        assert is_starved(process.pid, spent, 10_000.0)
        process.kill()


def test_a_process_that_is_gone_is_not_starved() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert not is_starved(process.pid, 0.0, 10.0)


def test_a_child_that_speaks_is_never_looked_at(
    corpus: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    monkeypatch.setattr(isolation, "cpu_seconds", lambda pid: looks.append(pid) or 0.0)
    with read_frames(corpus["h264_mp4"].path, fps=10, timeout_seconds=120.0) as reader:
        assert len(list(reader)) == 60
    assert looks == []


def test_a_silent_child_is_looked_at_when_half_of_the_timeout_is_over(
    corpus: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    monkeypatch.setattr(isolation, "cpu_seconds", lambda pid: looks.append(pid) or 0.0)
    stuck = (sys.executable, "-c", "import time; time.sleep(600)")
    with pytest.raises(DecoderHungError):
        read_frames(corpus["h264_mp4"].path, worker=stuck, timeout_seconds=0.4)
    assert len(looks) == 1
