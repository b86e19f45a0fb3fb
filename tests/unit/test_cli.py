"""The command line's frame: verbs, exit codes, one-line errors; no verb is run for real here."""

from __future__ import annotations

import errno
import gc
import subprocess
import sys

import pytest

from hour_llava import cli
from hour_llava.errors import QuestionError


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hour_llava.cli", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def raising(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def dispatch(_: list[str]) -> int:
        raise error

    monkeypatch.setattr(cli, "_dispatch", dispatch)


def test_help_names_every_verb_and_exits_0() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert done.stderr == ""
    assert all(f"\n  {verb} " in done.stdout for verb in cli.VERBS)


def test_nothing_typed_is_wrong_usage() -> None:
    assert run().returncode == 2


def test_version_names_the_program() -> None:
    done = run("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("hour-llava ")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("aks", "ask"),
        ("remeber", "remember"),
        ("data checks", "data check"),
        ("synth rnu", "synth run"),
    ],
)
def test_a_mistyped_verb_gets_a_suggestion(
    typed: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(typed.split()) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"did you mean `{meant}`?" in captured.err


def test_a_word_unlike_any_verb_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["xyzzy"]) == 2
    assert "remember" in capsys.readouterr().err


def test_half_a_verb_names_its_second_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["world"]) == 2
    assert "world make" in capsys.readouterr().err


@pytest.mark.parametrize("group", ["synth", "data", "world"])
@pytest.mark.parametrize("words", [["--help"], ["-h"], []])
def test_the_first_word_of_verbs_lists_them_with_their_summaries(
    group: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([group, *words]) == (0 if words else 2)
    captured = capsys.readouterr()
    said, silent = (captured.out, captured.err) if words else (captured.err, captured.out)
    assert silent == ""
    listed = dict(line.split(maxsplit=2)[1:] for line in said.splitlines()[2:])
    assert listed == {
        verb.split()[1]: summary
        for verb, (_, summary) in cli.VERBS.items()
        if verb.startswith(f"{group} ")
    }


def test_an_unknown_second_word_names_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["synth", "rnu"]) == 2
    assert "synth run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "expected"),
    [
        (QuestionError("the question\nis empty"), 1, "error: the question is empty\n"),
        (QuestionError("no \x1b[31mred\udcff"), 1, r"error: no \x1b[31mred\udcff"),
        (KeyboardInterrupt(), 130, "hour-llava: interrupted\n"),
        (MemoryError(), 1, "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"), 1, "--max-memory"),
        (OSError(errno.ENOSPC, "No space left on device", "x.hlm"), 1, "HOUR_LLAVA_CACHE"),
        (OSError(errno.EFBIG, "File too large", "x.hlm"), 1, "HOUR_LLAVA_CACHE"),
        (PermissionError(errno.EACCES, "Permission denied", "x.hlm"), 1, "x.hlm"),
        (TypeError("a bug"), 1, "TypeError: a bug"),
        (RuntimeError("x" * 10_000), 1, "x" * 1000 + " .. (unexpected"),
    ],
)
def test_an_error_is_one_line_with_its_exit_code(
    error: BaseException,
    code: int,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    raising(error, monkeypatch)
    assert cli.main(["ask"]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("hour-llava: ")
    assert expected in captured.err


def test_an_accelerator_out_of_memory_is_known_by_its_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class OutOfMemoryError(RuntimeError):
        """Stands for torch's, which must not be imported to recognise it."""

    raising(OutOfMemoryError("CUDA out of memory"), monkeypatch)
    assert cli.main(["ask"]) == 1
    assert "--max-memory" in capsys.readouterr().err


def test_debug_anywhere_lets_the_traceback_out(monkeypatch: pytest.MonkeyPatch) -> None:
    raising(QuestionError("empty"), monkeypatch)
    for words in (["--debug", "ask", "a"], ["ask", "a", "--debug"]):
        with pytest.raises(QuestionError):
            cli.main(words)


def test_debug_behind_a_bare_double_dash_is_a_word() -> None:
    assert cli._take_debug(["ask", "--", "--debug"]) == (["ask", "--", "--debug"], False)


def test_every_verb_has_its_function() -> None:
    for target, summary in cli.VERBS.values():
        module, _, function = target.partition(":")
        assert module.startswith("hour_llava.commands.")
        assert function.isidentifier()
        assert summary == summary.strip(" .")


def test_a_closed_pipe_is_no_error() -> None:
    command = f"{sys.executable} -m hour_llava.cli --help | true"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_closed_stdout_is_no_error() -> None:
    command = f"{sys.executable} -m hour_llava.cli --version >&-"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("is_program", [True, False])
def test_only_the_program_itself_ends_without_a_search_for_garbage(
    is_program: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "_dispatch", lambda _: 3)
    monkeypatch.setattr("sys.argv", ["hour-llava", "ask"])
    gc.unfreeze()
    try:
        assert cli.main(None if is_program else ["ask"]) == 3
        assert (gc.get_freeze_count() > 0) == is_program
    finally:
        gc.unfreeze()
