"""`synth check`, `stats` and `review` on a real build, by the real command."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hour_llava.cli import main


@pytest.fixture(scope="module")
def build(kit: Any, world_videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = kit.make_build(tmp_path_factory.mktemp("checked") / "build", world_videos)
    done = kit.run("run", str(folder))
    assert done.returncode == 0, done.stderr
    return folder


def type_into(build: Path, typed: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hour_llava.cli", "synth", "review", str(build), *words]
    return subprocess.run(command, input=typed, capture_output=True, text=True, timeout=280)


def test_a_sound_build_and_its_release_are_in_order(kit: Any, build: Path) -> None:
    done = kit.run("check", str(build))
    assert done.returncode == 0, done.stderr
    assert [line.split(": ")[1] for line in done.stdout.splitlines()] == [
        "build in order",
        "training release in order",
    ]


@pytest.mark.parametrize("victim", ["stats.json", "data/*.parquet", "llava/*.json"])
def test_a_changed_file_of_a_release_is_named(
    build: Path, tmp_path: Path, victim: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (release,) = (path.parent for path in (build / "release").glob("*/release.json"))
    copy = tmp_path / "release"
    shutil.copytree(release, copy)
    file = next(iter(sorted(copy.glob(victim))))
    file.write_bytes(file.read_bytes() + b" ")
    assert main(["synth", "check", str(copy)]) == 1
    said = capsys.readouterr().err
    assert file.name in said
    assert len(said.strip().splitlines()) == 1


def test_a_damaged_part_of_a_build_is_named(
    build: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "build"
    shutil.copytree(build, copy)
    part = next(iter(sorted((copy / "stages" / "verify").rglob("*.zst"))))
    part.write_bytes(part.read_bytes()[:-7])
    assert main(["synth", "check", str(copy)]) == 1
    assert part.name in capsys.readouterr().err


def test_another_folder_is_refused_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["synth", "check", str(tmp_path)]) == 1
    assert "neither a build" in capsys.readouterr().err


def test_stats_are_printed_and_given_as_json(
    kit: Any, build: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = kit.run("stats", str(build))
    assert text.returncode == 0, text.stderr
    for words in ("candidates", "failed %", "claim_recomputed", "Temporality", "LLaVA-Hound"):
        assert words in text.stdout
    assert main(["synth", "stats", str(build), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["num_videos"] == 1
    assert len(values["tasks"]) == 22
    assert all(task["num_open_ended"] for task in values["tasks"])


def test_a_review_is_saved_resumed_and_reported(build: Path) -> None:
    first = type_into(build, "r\n\nw\nnot so\n", "--number", "4")
    assert first.returncode == 0, first.stderr
    assert "2 of 4 are left" in first.stderr
    second = type_into(build, "r\n\nu\n\n", "--number", "4")
    assert "left" not in second.stderr
    assert len((build / "review.jsonl").read_text().splitlines()) == 4
    done = type_into(build, "", "--report")
    all_rows = next(line for line in done.stdout.splitlines() if line.startswith("all"))
    assert all_rows.split()[1:5] == ["2", "1", "1", "66.7%"]
    assert "78.7%" in done.stdout.splitlines()[-1]
