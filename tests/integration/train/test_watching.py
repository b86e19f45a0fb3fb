"""A run as a person watches it: `hour-llava train` on a terminal, stopped and gone on with."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from hour_llava.cli import main
from hour_llava.train.watching.log import read_log

ARGUMENTS = ("train", "debug_stage1", "--checkpoints.every-steps", "100")
A_STEP = re.compile(r"(?<!\d)[1-9]\d?/20")
"""The bar is drawn a few times a second: on a free machine it passes over steps."""


def on_a_terminal(*arguments: str, interrupt_at: re.Pattern[str]) -> tuple[int, str]:
    """Run hour-llava on a terminal; send Ctrl-C once such a text has been shown."""
    code = "import sys; from hour_llava.cli import main; sys.exit(main(sys.argv[1:]))"
    mine, its = pty.openpty()
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=its,
        stdout=its,
        stderr=its,
        env=environment,
        start_new_session=True,
    )
    os.close(its)
    shown, end, is_sent = "", time.monotonic() + 240, False
    while time.monotonic() < end:
        if not select.select([mine], [], [], 1)[0]:
            continue
        try:
            shown += os.read(mine, 65_536).decode(errors="replace")
        except OSError:  # the other end is closed
            break
        if not is_sent and interrupt_at.search(shown):
            process.send_signal(signal.SIGINT)
            is_sent = True
    os.close(mine)
    return process.wait(30), shown


def steps(out: Path) -> list[dict[str, Any]]:
    return [line for line in read_log(out / "log.jsonl") if line["kind"] == "step"]


@pytest.mark.slow
def test_a_bar_is_shown_ctrl_c_saves_and_gives_the_terminal_back_and_the_run_goes_on(
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    given = (*ARGUMENTS, "--out", str(out))
    code, shown = on_a_terminal(*given, interrupt_at=A_STEP)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert code == 130, plain[-2000:]
    assert re.search(r"debug_stage1 .* [1-9]\d?/20 .* left", plain)
    assert re.search(r"loss \d\.\d+  [\d.]+ samples/s  [\d.k]+ tokens/s  [\d.]+ MB", plain)
    assert shown.rfind("\x1b[?25h") > shown.rfind("\x1b[?25l")  # the cursor is back
    assert "Traceback" not in plain
    stopped = steps(out)
    assert 1 <= len(stopped) < 20
    assert [line["reason"] for line in read_log(out / "log.jsonl") if line["kind"] == "end"] == [
        "stopped"
    ]
    assert main([*given, "--resume"]) == 0
    assert [line["step"] for line in steps(out)] == list(range(1, 21))
    assert steps(out)[: len(stopped)] == stopped
    assert (out / "curves.png").is_file()


@pytest.mark.slow
def test_validation_and_an_exam_on_the_way_change_no_loss(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    losses = []
    for name, flags in (
        ("plain", ()),
        (
            "watched",
            (
                *("--watch.exam-every-steps", "2", "--watch.exam-videos", "1"),
                *("--watch.exam-seconds", "20", "--watch.validate-every-steps", "3"),
                *("--data.validation", str(tmp_path / "plain" / "material" / "images.jsonl")),
            ),
        ),
    ):
        out = tmp_path / name
        assert main([*ARGUMENTS, "--out", str(out), "--batch.max-steps", "5", *flags]) == 0
        losses.append([(line["loss"], line["grad_norm"]) for line in steps(out)])
    assert losses[0] == losses[1]
    said = capsys.readouterr().err
    assert re.search(r"exam at step 4: oe [\d.]+ \(chance 0\.\d\d\), mc [\d.]+ \(chance", said)
    kinds = [(line["kind"], line["step"]) for line in read_log(tmp_path / "watched" / "log.jsonl")]
    assert [kind for kind in kinds if kind[0] in ("exam", "validation")] == [
        *(("exam", 2), ("validation", 3), ("exam", 4), ("validation", 5), ("exam", 5))
    ]
