"""`remember` and `ask` as real processes: killed, interrupted, resumed, shared, on a full disk."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hour_llava.cli import main
from hour_llava.world.timeline import make_timeline
from hour_llava.world.video_file import write_video

NUM_FRAMES = 1200
COMMAND = (sys.executable, "-m", "hour_llava.cli")


@pytest.fixture(scope="module")
def long_mp4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return half an hour of video, small enough to be made in a moment."""
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    write_video(make_timeline(NUM_FRAMES, 3), path, fps=1, width=64, height=36)
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOUR_LLAVA_CACHE", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path / "memories"


def interrupt(command: list[str], cache: Path, number: signal.Signals) -> tuple[int, str]:
    """Run a command, and send it a signal as soon as it has committed more frames than before."""
    before = sum(path.stat().st_size for path in cache.glob("*.partial"))
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        for _ in range(20_000):
            now = sum(path.stat().st_size for path in cache.glob("*.partial"))
            if now > max(before, 70_000) or process.poll() is not None:
                break
            time.sleep(0.005)
        process.send_signal(number)
        _, stderr = process.communicate(timeout=120)
    finally:
        process.kill()
    return process.returncode, stderr


def watched_now(stderr: str) -> int:
    return int(stderr.split("(")[1].split(" watched")[0].replace(",", ""))


def test_interrupted_and_killed_it_resumes_and_keeps_what_it_had(
    tiny_model: Path, long_mp4: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["remember", str(long_mp4), "--model", str(tiny_model)]
    code, stderr = interrupt([*COMMAND, *arguments], cache, signal.SIGINT)
    assert (code, stderr.splitlines()[-1]) == (130, "hour-llava: interrupted")
    assert not list(cache.glob("*.hlm"))

    code, _ = interrupt([*COMMAND, *arguments], cache, signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert not list(cache.glob("*.hlm"))

    assert main(arguments) == 0
    captured = capsys.readouterr()
    assert "resuming long.mp4 at frame" in captured.err
    assert 0 < watched_now(captured.err) < NUM_FRAMES - 64  # two runs have left a batch each
    (file,) = cache.glob("*.hlm")
    assert captured.out.strip() == str(file)
    assert not list(cache.glob("*.partial"))

    assert main(["info", str(file), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["num_frames"], facts["last_seconds"]) == (NUM_FRAMES, NUM_FRAMES - 1.0)


def test_another_process_finds_the_memory(
    tiny_model: Path, minute_mp4: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--model", str(tiny_model)]
    assert main(["remember", str(minute_mp4), *arguments]) == 0
    capsys.readouterr()
    question = ["ask", str(minute_mp4), "What colour is the star?", "--json"]
    done = subprocess.run(
        [*COMMAND, *question, *arguments, "--max-new-tokens", "2"],
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["memory"]["cached"] is True
    assert answer["timings_seconds"]["encode"] == 0


def test_two_processes_share_the_work_of_one(tiny_model: Path, long_mp4: Path, cache: Path) -> None:
    command = [*COMMAND, "remember", str(long_mp4), "--model", str(tiny_model)]
    pair = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    results = [process.communicate(timeout=250) for process in pair]
    assert [process.returncode for process in pair] == [0, 0], results
    assert results[0][0] == results[1][0]
    assert sorted(watched_now(stderr) for _, stderr in results) == [0, NUM_FRAMES]
    assert len(list(cache.glob("*.hlm"))) == 1


@pytest.fixture
def small_files() -> Iterator[None]:
    """Let no file grow beyond 150 kB, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("small_files")
def test_a_full_disk_is_one_line_and_what_fitted_is_kept(
    tiny_model: Path, long_mp4: Path, cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["remember", str(long_mp4), "--model", str(tiny_model)]) == 1
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "the disk is full" in captured.err
    assert "HOUR_LLAVA_CACHE" in captured.err
    assert not list(cache.glob("*.hlm"))


@pytest.mark.usefixtures("small_files")
def test_a_full_disk_is_refused_before_any_work_where_it_is_foreseen(
    tiny_model: Path,
    long_mp4: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import shutil

    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    assert main(["remember", str(long_mp4), "--model", str(tiny_model)]) == 1
    assert "1,000 are free" in capfd.readouterr().err


def test_a_file_without_permission_is_one_line(
    tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "secret.mp4"
        video.write_bytes(b"x" * 100)
        video.chmod(0)
        Path(folder).chmod(0o755)
        is_root = os.geteuid() == 0
        if is_root:  # root may read everything, so this process is somebody else for a moment
            os.setresuid(65534, 65534, 0)
        try:
            code = main(["ask", str(video), "What is this?", "--model", str(tiny_model)])
        finally:
            if is_root:
                os.setresuid(0, 0, 0)
    captured = capsys.readouterr()
    assert code == 1
    assert captured.err.count("\n") == 1
    assert "may not be read by this user" in captured.err
