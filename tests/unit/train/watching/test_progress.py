"""What a person sees: plain lines in a log, a bar on a terminal."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from hour_llava.train.watching.progress import Pace, PlainLines, ProgressBar, figures, measured

RUN = {"kind": "run", "name": "debug_stage1", "step": 0, "num_steps": 1000}


def step(number: int, **more: Any) -> dict[str, Any]:
    line = {"kind": "step", "step": number, "samples": 8 * number, "loss": 2.0, "tokens": 4000}
    return line | {"memory_bytes": 3_100_000_000} | more


def test_pace_and_time_left_are_means_over_the_last_steps() -> None:
    pace = Pace()
    pace.begin(RUN, now=0.0)
    for number in range(1, 201):
        pace.add(step(number), now=100.0 + 2.0 * number)
    assert pace.seconds_per_step == pytest.approx(2.0)
    assert figures(step(200), pace) == "loss 2  4 samples/s  2k tokens/s  3.1 GB"
    assert pace.left(200) == "0:26:40"
    assert "7 broken" in figures(step(200, broken=7), pace)


def test_plain_lines_come_at_the_first_every_nth_and_the_last_step(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = PlainLines(every_steps=400)
    lines.begin(RUN)
    for number in range(1, 1001):
        lines.take(step(number))
    lines.take({"kind": "end", "step": 1000, "reason": "done"})
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "hour-llava: debug_stage1 begins: 1,000 steps"
    assert [line.split()[2] for line in said[1:-1]] == [
        *("1/1,000", "400/1,000", "800/1,000", "1,000/1,000")
    ]
    assert said[-1] == "hour-llava: done at step 1,000"


def test_a_resumed_run_says_where_it_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    PlainLines(every_steps=10).begin(RUN | {"step": 400})
    assert "goes on behind step 400: 1,000 steps" in capsys.readouterr().err


def test_measurements_are_told_without_their_details() -> None:
    line = {"kind": "exam", "step": 1200, "seconds": 3.21, "oe": 0.75, "oe/colour": 1.0}
    said = measured(line | {"mc": 0.5, "chance/mc": 0.3333})
    assert said == "exam at step 1,200: oe 0.75, mc 0.5 (chance 0.33); 3.21 s"


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_bar_fits_its_terminal_and_gives_the_cursor_back(width: int) -> None:
    screen = io.StringIO()
    bar = ProgressBar(Console(file=screen, force_terminal=True, width=width))
    bar.begin(RUN)
    bar.take(step(500))
    bar.take({"kind": "exam", "step": 500, "seconds": 3.21, "oe": 0.75})
    bar.close()
    bar.close()
    shown = screen.getvalue()
    assert "500/1000" in shown
    assert "loss 2" in shown
    assert "exam at step 500: oe 0.75" in shown
    assert shown.rstrip().endswith("\x1b[?25h")
