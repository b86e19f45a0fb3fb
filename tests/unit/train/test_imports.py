"""Training loads without what it does not need, and says in one line what it lacks when it does."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hour_llava.cli import main
from hour_llava.recipes import RECIPES


def test_training_and_recipes_load_without_decoder_command_line_and_extras() -> None:
    code = (
        "import sys\n"
        "for name in ('av', 'tyro', 'peft', 'pyarrow', 'tensorboard', 'wandb', 'trackio'):\n"
        "    sys.modules[name] = None\n"
        "import hour_llava.train.run, hour_llava.train.estimate, hour_llava.train.export\n"
        "from hour_llava.recipes import RECIPES\n"
        "assert all(recipe.config().stage in (1, 2, 3) for recipe in RECIPES.values())\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=200)


def test_recipes_and_their_settings_load_without_torch() -> None:
    code = (
        "import sys, hour_llava.commands.train, hour_llava.commands.merge\n"
        "from hour_llava.recipes import RECIPES\n"
        "RECIPES['hour_llava_3b_stage1'].config().as_dict()\n"
        "assert not {'torch', 'transformers', 'av', 'peft'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=200)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The model that the debug recipe begins with."""
    out = tmp_path_factory.mktemp("debug")
    recipe = RECIPES["debug_stage1"]
    return recipe.prepared(recipe.config(), out).model.start


def said(capsys: Any, *arguments: object) -> str:
    """Run a verb that fails, and give the one line it says."""
    assert main([str(argument) for argument in arguments]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_adapters_without_peft_end_in_one_line(
    start: str, capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    importlib.import_module("transformers.trainer")  # imports peft itself, where it was seen before
    monkeypatch.setitem(sys.modules, "peft", None)
    out = tmp_path / "run"
    line = said(capsys, "train", "debug_stage3", "--model.lora.rank", 4, "--out", out)
    assert "needs peft" in line
    assert "pip install 'hour-llava[train]'" in line
    assert not (out / "checkpoints").exists()


def test_a_parquet_manifest_without_pyarrow_ends_in_one_line(
    start: str, capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    manifest = tmp_path / "samples.parquet"
    manifest.write_bytes(b"PAR1")
    options = ("--model.start", start, "--data.manifest", manifest, "--out", tmp_path / "run")
    line = said(capsys, "train", "hour_llava_3b_stage1", *options, "--hardware.device", "cpu")
    assert f"{manifest}: reading Parquet needs pyarrow" in line
    assert "pip install 'hour-llava[train]'" in line


def test_a_report_that_is_not_installed_ends_in_one_line(
    start: str, capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    out = tmp_path / "run"
    line = said(capsys, "train", "debug_stage1", "--watch.reports", "wandb", "--out", out)
    assert "--watch.reports names wandb" in line


def test_a_start_that_is_on_no_disk_and_no_hub_ends_in_one_line(
    capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise OSError("no route\nto the hub")

    monkeypatch.setattr("huggingface_hub.snapshot_download", away)
    manifest = tmp_path / "samples.jsonl"
    manifest.write_text(
        '{"id": "a", "conversations": [{"from": "human", "value": "?"}, '
        '{"from": "gpt", "value": "!"}]}\n'
    )
    options = ("--data.manifest", manifest, "--out", tmp_path / "run", "--hardware.device", "cpu")
    line = said(capsys, "train", "hour_llava_3b_stage1", *options, "--anyway")
    assert "jylins/llava-onevision-qwen25-3b-si is no local folder" in line
    assert "no route" in line
