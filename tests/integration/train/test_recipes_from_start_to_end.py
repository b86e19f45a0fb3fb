"""The three debug stages as a researcher runs them: each from the one before, then asked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hour_llava.train.config import TrainConfig


def hour_llava(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "hour_llava.cli", *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    return done


def test_a_run_prints_its_model_and_leaves_its_settings(tmp_path: Path) -> None:
    flags = ("debug_stage1", "--out", "run", "--batch.max-steps", "2", "--watch.reports")
    done = hour_llava("train", *flags, cwd=tmp_path)
    assert done.stdout == "run/model\n"
    assert "next: hour-llava train debug_stage2 --model.start run/model" in done.stderr
    document = json.loads((tmp_path / "run" / "config.json").read_text())
    config = TrainConfig.from_dict(document["config"])
    assert (config.name, config.batch.max_steps, config.watch.reports) == ("debug_stage1", 2, ())
    assert {"commit", "torch", "transformers"} <= document["run"].keys()
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").open()]
    assert [line["step"] for line in lines if line["kind"] == "step"] == [1, 2]


@pytest.mark.slow
def test_three_stages_follow_each_other_and_the_last_one_answers(tmp_path: Path) -> None:
    short = ("--batch.max-steps", "3", "--watch.reports")
    start: tuple[str, ...] = ()
    for stage in (1, 2, 3):
        hour_llava(
            "train", f"debug_stage{stage}", "--out", f"s{stage}", *start, *short, cwd=tmp_path
        )
        start = ("--model.start", f"s{stage}/model")
    video = "s3/material/clips/0.mp4"
    done = hour_llava("ask", video, "Which scene is this?", "--model", "s3/model", cwd=tmp_path)
    assert "16 frames" in done.stderr
