"""The decoding child: it is watched, it ends with its parent, and it leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hour_llava.errors import BrokenVideoError, DecoderHungError
from hour_llava.video import probe, read_frames
from hour_llava.video.reader import FrameReader

Corpus = Any
PYTHON = [sys.executable, "-c"]


def child_of(reader: FrameReader) -> subprocess.Popen[bytes]:
    return reader._source._process  # type: ignore[attr-defined]


def shorten_the_watchdog(reader: FrameReader, seconds: float) -> None:
    """Only once the child runs: to start it takes seconds on a busy machine."""
    reader._source._timeout_seconds = seconds  # type: ignore[attr-defined]


def wait_until(is_done: Callable[[], bool], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if is_done():
            return True
        time.sleep(0.05)
    return is_done()


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_a_child_that_says_nothing_is_ended_and_named(corpus: Corpus) -> None:
    path = corpus["h264_mp4"].path
    stuck = [*PYTHON, "import time; time.sleep(600)"]
    with pytest.raises(DecoderHungError, match=r"second 0\.0 while reading its packets") as caught:
        read_frames(path, worker=stuck, timeout_seconds=0.3)
    assert str(path) in str(caught.value) and "0.3 s" in str(caught.value)


def test_a_child_that_stops_in_the_middle_is_ended_and_its_second_named(corpus: Corpus) -> None:
    path = corpus["one_key_frame_in_ten_minutes"].path
    with read_frames(path) as reader:
        child = child_of(reader)
        shorten_the_watchdog(reader, 1.0)
        with pytest.raises(DecoderHungError, match=r"at second [1-9]\d*\.\d while decoding"):
            for frame in reader:
                if frame.index == 7:
                    os.kill(child.pid, signal.SIGSTOP)
    assert child.returncode is not None


def test_progress_marks_keep_a_slow_child_alive(corpus: Corpus) -> None:
    """A worker that needs longer than the timeout, but says so, is let work."""
    slow = (
        "import sys, time\n"
        "from hour_llava.video import worker\n"
        "original = worker._Channel.send\n"
        "def send(self, kind, **values):\n"
        "    for second in range(8 if kind == 'frame' else 0):\n"
        "        time.sleep(0.25)\n"
        "        original(self, 'progress', seconds=float(second))\n"
        "    original(self, kind, **values)\n"
        "worker._Channel.send = send\n"
        "worker.main()\n"
    )
    with read_frames(corpus["single_frame_mp4"].path, worker=[*PYTHON, slow]) as reader:
        shorten_the_watchdog(reader, 1.5)
        assert len(list(reader)) == 1


def test_a_consumer_may_be_slower_than_the_watchdog(corpus: Corpus) -> None:
    with read_frames(corpus["h264_mp4"].path, fps=10) as reader:
        shorten_the_watchdog(reader, 1.5)
        frames = []
        for frame in reader:
            frames.append(frame.index)
            if frame.index == 1:
                time.sleep(2.0)
    assert frames == list(range(60))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "signal 11"),
        ("raise SystemExit('no such library')", "no such library"),
        ("import os; os._exit(7)", "exit code 7"),
    ],
)
def test_a_child_that_crashes_becomes_one_line(corpus: Corpus, code: str, words: str) -> None:
    with pytest.raises(BrokenVideoError, match=words) as caught:
        read_frames(corpus["h264_mp4"].path, worker=[*PYTHON, code])
    assert "\n" not in str(caught.value)


def test_leaving_early_ends_the_child_and_frees_its_files(corpus: Corpus) -> None:
    before = set(Path("/proc/self/fd").iterdir())
    with read_frames(corpus["one_key_frame_in_ten_minutes"].path) as reader:
        child = child_of(reader)
        next(iter(reader))
    assert child.returncode is not None
    with pytest.raises(DecoderHungError):
        read_frames(corpus["h264_mp4"].path, worker=[*PYTHON, "input()"], timeout_seconds=0.2)
    del reader
    assert set(Path("/proc/self/fd").iterdir()) <= before


PARENT = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell has it ignored
from hour_llava.video import read_frames
reader = read_frames(sys.argv[1])
frames = iter(reader)
next(frames)
print(reader._source._process.pid, flush=True)
{then}
"""


def start_parent(path: Path, then: str, **options: Any) -> tuple[subprocess.Popen[str], int]:
    parent = subprocess.Popen(
        [*PYTHON, PARENT.format(then=then), str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )
    assert parent.stdout is not None
    return parent, int(parent.stdout.readline())


@pytest.mark.parametrize("then", ["time.sleep(600)", "import os\nos.fork()\ntime.sleep(600)"])
def test_the_child_dies_with_a_parent_that_is_killed(corpus: Corpus, then: str) -> None:
    """Also if the parent has forked a process that keeps the pipe open."""
    path = corpus["one_key_frame_in_ten_minutes"].path
    parent, child = start_parent(path, then, start_new_session=True)
    try:
        time.sleep(0.2)
        assert is_running(child)
        parent.kill()
        parent.wait()
        assert wait_until(lambda: not is_running(child))
    finally:
        os.killpg(parent.pid, signal.SIGKILL) if "fork" in then else None
        for stream in (parent.stdout, parent.stderr):
            stream.close()


def test_ctrl_c_shows_no_traceback_of_the_child(corpus: Corpus) -> None:
    path = corpus["one_key_frame_in_ten_minutes"].path
    then = (
        "try:\n    print('ready', flush=True)\n    time.sleep(600)\n"
        "except KeyboardInterrupt:\n    sys.exit(130)"
    )
    parent, child = start_parent(path, then, process_group=0)
    assert parent.stdout is not None and parent.stdout.readline() == "ready\n"
    os.killpg(parent.pid, signal.SIGINT)  # as a terminal does, to the whole group
    try:
        _, stderr = parent.communicate(timeout=60)
    finally:
        parent.kill()
    assert parent.returncode == 130 and stderr == ""
    assert wait_until(lambda: not is_running(child))


def test_the_users_input_is_left_alone(corpus: Corpus) -> None:
    parent, child = start_parent(
        corpus["h264_mp4"].path, "print(sys.stdin.read())", stdin=subprocess.PIPE
    )
    out, _ = parent.communicate("for the parent only", timeout=20)
    assert out.strip() == "for the parent only"
    assert wait_until(lambda: not is_running(child))


def test_files_in_the_users_folder_are_not_imported(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("av", "numpy", "json", "hour_llava"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported from the wrong place')")
    path = corpus["h264_mp4"].path.resolve()
    monkeypatch.chdir(tmp_path)
    assert probe(path).codec == "h264"


def test_the_parents_own_import_path_reaches_the_child(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert probe(corpus["h264_mp4"].path).num_packets == 60
