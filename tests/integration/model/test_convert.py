"""`hour-llava convert` as users run it: a process, its exit code, and one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parents[2] / "golden" / "checkpoint_A"


def convert(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hour_llava.cli", "convert", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240)


@pytest.mark.slow
def test_a_released_folder_is_converted_and_auto_classes_load_it(tmp_path: Path) -> None:
    done = convert(GOLDEN, tmp_path / "ours")
    assert done.returncode == 0, done.stderr
    assert "125 tensors" in done.stdout
    code = (
        "import sys, hour_llava\n"
        "from transformers import AutoModelForImageTextToText, AutoProcessor\n"
        "model = AutoModelForImageTextToText.from_pretrained(sys.argv[1])\n"
        "processor = AutoProcessor.from_pretrained(sys.argv[1])\n"
        "print(type(model).__name__, type(processor).__name__, processor.image_token_id)\n"
    )
    command = [sys.executable, "-W", "error::FutureWarning", "-c", code, tmp_path / "ours"]
    loaded = subprocess.run(command, capture_output=True, text=True)
    assert loaded.stdout.split() == [
        "HourLlavaForConditionalGeneration",
        "HourLlavaProcessor",
        "259",
    ], loaded.stderr
    again = convert(GOLDEN, tmp_path / "ours")
    assert again.returncode == 1
    assert "exists" in again.stderr
    assert len(again.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_a_name_that_is_nothing_is_one_clear_line(tmp_path: Path) -> None:
    done = convert("nowhere", tmp_path / "ours")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "no model is called nowhere" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
