"""What `ask` prints of an answer."""

from __future__ import annotations

import pytest

from hour_llava.commands.ask import _print_answer
from hour_llava.schema import Evidence
from hour_llava.session.answer import Answer


def an_answer(text: str, spans: list[Evidence]) -> Answer:
    return Answer(
        text=text,
        evidence=spans,
        confidence=1.0,
        abstained=False,
        best_guess=text,
        model="m",
        domain=None,
        memory_tokens=1,
        kept_tokens=1,
        augment_seconds=0.0,
        generate_seconds=0.0,
    )


def test_spans_within_one_second_are_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    spans = [
        Evidence(start_seconds=3.1, end_seconds=3.2, score=0.5),
        Evidence(start_seconds=3.4, end_seconds=3.6, score=0.25),
    ]
    answer = an_answer("red", spans)
    _print_answer(answer, 10.0)
    assert capsys.readouterr().out == "red\n[00:03.1-00:03.2] 50%\n[00:03.4-00:03.6] 25%\n"
    _print_answer(answer, 1.0)
    assert "[00:03-00:03] 50%" in capsys.readouterr().out


def test_an_empty_answer_is_told_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    _print_answer(an_answer("", []), 1.0)
    captured = capsys.readouterr()
    assert captured.out == "\n"
    assert "ended its turn without a word" in captured.err
