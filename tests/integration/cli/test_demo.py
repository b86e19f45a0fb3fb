"""`make demo` from end to end, half a minute long and with a model of random weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from hour_llava import demo


def test_the_demo_asks_the_video_alone_and_marks_every_answer(
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HOUR_LLAVA_CACHE", "")  # the demo sets its own; this puts it back
    asked = demo.run(tmp_path, seed=4, seconds=60, model=str(tiny_model))
    out = capsys.readouterr().out
    assert [(item.question.family, item.question.format) for item in asked] == list(demo.KINDS)
    assert out.count("WRONG") + out.count("right") >= len(asked)
    for item in asked:
        assert item.is_right == (item.answer.best_guess == item.question.answer)
        assert item.question.answer in out
    folder = tmp_path / "seed-4"
    assert sorted(path.name for path in folder.glob("*.mp4")) == ["video.mp4"]
    assert len(list(folder.glob("evidence-*.png"))) == len(asked)
    assert "memory file" in out and "most RAM used" in out


@pytest.mark.parametrize(
    ("given", "truth", "same"),
    [("Red.", "red", True), (" top left", "top left", True), ("red", "green", False)],
)
def test_answers_are_the_same_up_to_case_and_full_stop(given: str, truth: str, same: bool) -> None:
    assert demo.same_answer(given, truth) is same


def test_the_most_memory_ever_held_is_known() -> None:
    assert demo.peak_memory_bytes() > 10**7
