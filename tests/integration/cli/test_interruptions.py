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
# The same command with a tower that takes half a second a batch, as a large one would.
SLOW = (
    sys.executable,
    "-c",
    "import sys, time\n"
    "from hour_llava.cli import main\n"
    "from hour_llava.session.encoder import FrameEncoder\n"
    "encode = FrameEncoder.encode\n"
    "FrameEncoder.encode = lambda *a: (time.sleep(0.5), encode(*a))[1]\n"
    "sys.exit(main())",
)


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


def start(*command: str) -> subprocess.Popen[str]:
    """Start a command that hears Ctrl-C, also where the tests run in a shell's background."""
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )


def wait_for_a_commit(process: subprocess.Popen[str], cache: Path, known: int = 1) -> int:
    """Wait until the journal has more than `known` lines (its first names it), and count them."""
    while process.poll() is None:
        now = sum(path.read_bytes().count(b"\n") for path in cache.glob("*.journal"))
        if now > known:
            return now
        time.sleep(0.02)
    raise AssertionError(process.communicate())


def watched_now(stderr: str) -> int:
    return int(stderr.split(" watched now")[0].split("(")[-1].replace(",", ""))


@pytest.mark.timeout(900)
def test_interrupted_and_killed_it_resumes_and_keeps_what_it_had(
    tiny_model: Path, long_mp4: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["remember", str(long_mp4), "--model", str(tiny_model)]
    process = start(*SLOW, *arguments)
    known = wait_for_a_commit(process, cache)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=400)
    assert (process.returncode, stderr.splitlines()[-1]) == (130, "hour-llava: interrupted")
    assert not list(cache.glob("*.hlm"))

    process = start(*SLOW, *arguments)
    wait_for_a_commit(process, cache, known)
    process.kill()
    process.communicate(timeout=400)
    assert process.returncode == -signal.SIGKILL
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


@pytest.mark.timeout(900)
def test_a_second_process_waits_for_the_first_and_takes_its_memory(
    tiny_model: Path, long_mp4: Path, cache: Path
) -> None:
    model = ("--model", str(tiny_model))
    first = start(*SLOW, "remember", str(long_mp4), *model)
    wait_for_a_commit(first, cache)
    question = ("ask", str(long_mp4), "What colour is the star?", "--json")
    second = start(*COMMAND, *question, *model, "--max-new-tokens", "2")
    _, first_err = first.communicate(timeout=400)
    out, second_err = second.communicate(timeout=400)
    assert (first.returncode, second.returncode) == (0, 0), first_err + second_err
    assert watched_now(first_err) == NUM_FRAMES
    answer = json.loads(out)
    assert answer["memory"]["cached"] is True
    assert answer["video"]["num_frames"] == NUM_FRAMES
    assert answer["timings_seconds"]["encode"] == 0
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
