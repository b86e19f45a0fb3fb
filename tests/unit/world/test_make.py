from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hour_llava.cli import main
from hour_llava.errors import HourLlavaError
from hour_llava.world.make import make_world, read_world

FILES = {"video.mp4", "truth.json", "questions.jsonl"}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_folder_holds_video_truth_and_questions_and_reads_back(tmp_path: Path):
    world = make_world(tmp_path / "a" / "b", seconds=14, seed=3)
    assert names(tmp_path / "a" / "b") == FILES
    assert read_world(tmp_path / "a" / "b") == world


def test_the_same_seed_gives_the_same_bytes_of_truth_and_questions(tmp_path: Path):
    for folder in ("a", "b"):
        make_world(tmp_path / folder, seconds=20, seed=3)
    for name in ("truth.json", "questions.jsonl"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_existing_files_are_kept_unless_overwritten(tmp_path: Path):
    first = make_world(tmp_path, seconds=14, seed=1)
    with pytest.raises(HourLlavaError, match="--overwrite"):
        make_world(tmp_path, seconds=14, seed=2)
    assert read_world(tmp_path) == first
    second = make_world(tmp_path, seconds=14, seed=2, overwrite=True)
    assert read_world(tmp_path) == second != first


def test_a_folder_without_a_world_is_one_clear_error(tmp_path: Path):
    with pytest.raises(HourLlavaError, match="world make"):
        read_world(tmp_path)
    (tmp_path / "truth.json").write_text("{}")
    (tmp_path / "questions.jsonl").write_text("")
    with pytest.raises(HourLlavaError, match=r"truth\.json"):
        read_world(tmp_path)


def test_the_command_writes_the_files_and_prints_the_video(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "w"
    assert main(["world", "make", "--minutes", "0.25", "--seed", "7", "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{out / 'video.mp4'}\n"
    assert "15 seconds" in printed.err
    assert names(out) == FILES
    assert read_world(out).timeline.duration_seconds == 15


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--minutes", "0"], "0.25 to 1440 minutes"),
        (["--minutes", "-3"], "0.25 to 1440 minutes"),
        (["--minutes", "nan"], "0.25 to 1440 minutes"),
        (["--minutes", "1e300"], "0.25 to 1440 minutes"),
        (["--minutes", "0.1"], "6 seconds"),
        (["--width", "321"], "even numbers"),
        (["--fps", "0"], "at least 1 frame"),
        (["--per-family", "0"], "at least 1 question"),
    ],
)
def test_wrong_arguments_are_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
):
    assert main(["world", "make", "--out", str(tmp_path / "w"), *arguments]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert message in lines[0]
    assert not (tmp_path / "w").exists() or names(tmp_path / "w") == set()


def test_a_file_in_the_folders_place_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "file").write_text("")
    assert main(["world", "make", "--minutes", "1", "--out", str(tmp_path / "file")]) == 1
    assert "cannot be written" in capsys.readouterr().err


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path):
    """A limit on file sizes stands in for the disk: writing fails in the midst of the video."""
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000));"
        "from hour_llava.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    command = ["world", "make", "--minutes", "2", "--out", str(tmp_path)]
    done = subprocess.run([sys.executable, "-c", script, *command], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "disk is full" in done.stderr
    assert names(tmp_path) == set()


def start_long_run(out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "hour_llava.cli", "world", "make", "--minutes", "600"]
    process = subprocess.Popen([*command, "--out", str(out)], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while not (out / "video.mp4.partial").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return process


def test_an_interrupted_run_leaves_nothing(tmp_path: Path):
    process = start_long_run(tmp_path)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors.strip() == "hour-llava: interrupted"
    assert names(tmp_path) == set()


def test_a_killed_run_leaves_no_finished_file_and_can_be_repeated(tmp_path: Path):
    process = start_long_run(tmp_path)
    process.kill()
    process.communicate(timeout=30)
    assert all(name.endswith(".partial") for name in names(tmp_path))
    world = make_world(tmp_path, seconds=14, seed=1)
    assert names(tmp_path) == FILES
    assert read_world(tmp_path) == world
