"""Wrong usage is one line on stderr that says what is wrong and where to read on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hour_llava.cli import main

END = "; see hour-llava ask --help\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "VIDEO|FILE.hlm, QUESTION are missing"),
        (("a.mp4",), "QUESTION is missing"),
        (("a.mp4", "b", "--jsn"), "unrecognized options: --jsn (did you mean --json?)"),
        (("a.mp4", "b", "c"), "unrecognized options: c"),
        (("a.mp4", "b", "--seed", "x"), "--seed: 'x' is no whole number"),
        (("a.mp4", "b", "--seed"), "--seed needs a value"),
        (
            ("a.mp4", "b", "--start", "noon"),
            "--start: 'noon' is no time; write seconds (90) or mm:ss (1:30)",
        ),
    ],
)
def test_each_fault_is_one_line(
    words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ask", *words]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", f"hour-llava ask: {said}{END}")


def test_long_words_stay_whole_on_any_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    word = "/".join(["folder"] * 30) + "/x.mp4"
    assert main(["ask", "a.mp4", "b", word]) == 2
    assert capsys.readouterr().err == f"hour-llava ask: unrecognized options: {word}{END}"


@pytest.mark.parametrize("exists", [False, True])
def test_a_name_that_begins_with_a_dash_is_told_how_to_be_passed(
    exists: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    name = "--dash.mp4" if exists else "-dash.mp4"
    if exists:
        Path(name).touch()
    assert main(["ask", name, "b"]) == 2
    assert f"write ./{name} or put -- before it, behind all flags" in capsys.readouterr().err
    for words in ((f"./{name}", "b"), ("--", name, "b")):
        assert main(["ask", *words]) == 1
        assert name in capsys.readouterr().err


def test_a_negative_number_is_no_such_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", "a.mp4", "b", "--fps", "-1"]) == 2
    assert "before it" not in capsys.readouterr().err


def test_a_mistake_inside_a_verb_is_not_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", "missing.mp4", "b"]) == 1
    assert "--help" not in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_tyro_frames_its_box_or_not(encoding: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hour_llava.cli", "ask", "a.mp4", "b", "--jsn"],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        text=True,
        timeout=60,
    )
    said = "unrecognized options: --jsn (did you mean --json?)"
    assert (done.returncode, done.stderr) == (2, f"hour-llava ask: {said}{END}")
