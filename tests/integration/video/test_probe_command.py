"""`hour-llava probe` prints what a file is, for people and for programs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tyro

from hour_llava.commands.probe import probe

Corpus = Any


def test_the_text_names_every_figure(corpus: Corpus, capsys: pytest.CaptureFixture[str]) -> None:
    tyro.cli(probe, args=[str(corpus["rotated_90_mp4"].path)])
    text = capsys.readouterr().out
    for words in ("h264, yuv420p", "192 x 96", "90 degrees", "6.000 s", "10.000 a second", "none"):
        assert words in text
    assert len(text.splitlines()) == 12


def test_json_is_one_object_with_damage(corpus: Corpus, capsys: pytest.CaptureFixture[str]) -> None:
    tyro.cli(probe, args=[str(corpus["cut_off_mkv"].path), "--json"])
    values = json.loads(capsys.readouterr().out)
    assert values["codec"] == "h264" and values["num_packets"] < 60
    assert "ends early" in values["damage"][0]["reason"]


def test_a_name_of_odd_letters_stays_on_its_line(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = tmp_path / "a\nduration   9 s\x1b[31m.mp4"
    shutil.copy(corpus["rotated_90_mp4"].path, odd)
    tyro.cli(probe, args=[str(odd)])
    text = capsys.readouterr().out
    assert r"a\nduration   9 s\x1b[31m.mp4" in text
    assert len(text.splitlines()) == 12
