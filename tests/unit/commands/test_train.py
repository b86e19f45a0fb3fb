"""`hour-llava train` before anything is trained: recipes, flags, settings, plans, refusals."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from hour_llava import cli
from hour_llava.recipes import RECIPES
from hour_llava.train.config import TrainConfig


def run(
    capsys: pytest.CaptureFixture[str], *words: str, code: int = 0, says: tuple[str, ...] = ()
) -> str:
    """Run `hour-llava train`; what went wrong is one line on stderr that holds `says`."""
    assert cli.main(["train", *words]) == code
    captured = capsys.readouterr()
    if code:
        assert captured.out == ""
        assert captured.err.count("\n") == 1, captured.err
        for text in says:
            assert text in captured.err
    return captured.out


def test_help_lists_every_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    listed = run(capsys, "--help")
    assert all(f"\n  {name} " in listed for name in RECIPES)
    assert "  nano, the built-in model, has a command of its own: " in listed
    assert cli.main(["train"]) == 2
    assert capsys.readouterr().err == listed


def test_a_recipe_s_help_shows_every_setting_with_its_value(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    box = run(capsys, "hour_llava_7b_stage2", "--help")
    shown = " ".join(box.replace("│", " ").split())
    for words in (
        "--optim.lr-vision FLOAT",
        "0 freezes it (default: 5e-06)",
        "--optim.lr-language-model FLOAT",
        "(default: 1e-05)",
        "--data.manifest [PATH [PATH ...]]",
        "--model.lora.rank INT",
        "--hardware.gradient-checkpointing {True,False}",
        "--watch.exam-every-steps INT",
    ):
        assert words in shown


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["debug_stage4"], "did you mean debug_stage3?"),
        (["nano"], "nano, the built-in model, has a command of its own: python -m hour_llava."),
        (["xyzzy"], "recipes are hour_llava_3b_stage1, "),
        (["--out", "x"], "the recipe stands first"),
        (["debug_stage1", "--optim.lr-memag", "3"], "did you mean --optim.lr-memaug?"),
        (["debug_stage1", "--optim.lr-memaug", "fast"], "'fast' is no number"),
        (["debug_stage1", "--data.mode", "mixed"], "--data.mode"),
    ],
)
def test_wrong_usage_is_one_line(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, *words, code=2, says=(says,))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["debug_stage1", "--optim.lr-memaug", "0"], "nothing would be trained"),
        (["debug_stage1", "--batch.micro-batch-size", "3"], "no multiple of"),
        (["debug_stage1", "--stage", "2"], "name the recipe of the other stage"),
        (["debug_stage1", "--plan-for", "h200"], "belong to --dry-run"),
        (["hour_llava_3b_stage1"], "name it with --data.manifest FILE.jsonl"),
    ],
)
def test_settings_that_do_not_fit_are_one_line(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, *words, code=1, says=(says,))


def test_print_config_is_the_recipe_with_what_was_typed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = ("--optim.lr-memaug", "3e-4", "--data.manifest", "a.jsonl", "b.jsonl", "--seed", "7")
    printed = run(capsys, "hour_llava_3b_stage3", *flags, "--print-config")
    config = TrainConfig.from_dict(json.loads(printed))
    assert (config.optim.lr_memaug, config.seed) == (3e-4, 7)
    assert config.data.manifest == (Path("a.jsonl"), Path("b.jsonl"))
    assert config.optim.lr_language_model == 2e-5


@pytest.mark.parametrize("name", [name for name in RECIPES if name.startswith("hour_llava")])
def test_every_paper_recipe_has_a_plan_without_a_network(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = json.loads(run(capsys, name, "--dry-run", "--plan-for", "h200x8", "--json"))
    assert plan["fits"]
    assert plan["parameters"]["memaug"]["trained"] > 0
    assert plan["memory_bytes"] == pytest.approx(sum(plan["memory"].values()), rel=1e-6)


def test_a_plan_that_does_not_fit_exits_1_behind_its_table(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["train", "hour_llava_7b_stage3", "--dry-run", "--plan-for", "4090"]) == 1
    captured = capsys.readouterr()
    assert "DOES NOT FIT" in captured.out
    assert "GB on each 4090, which has 25.0 GB" in captured.err
    assert captured.err.count("\n") == 1


def test_a_debug_plan_counts_its_own_data_and_leaves_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plan = json.loads(run(capsys, "debug_stage1", "--dry-run", "--json"))
    assert plan["streams"][0]["num_samples"] == 32
    assert plan["num_steps"] == 20
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--data.manifest", "lost.jsonl"], "lost.jsonl: the manifest does not exist"),
        (["--data.manifest", "a.txt"], "a manifest is a .jsonl, .parquet, .json file"),
        (["--data.validation", "lost.jsonl"], "lost.jsonl: the manifest does not exist"),
        (["--model.start", "scratch:other"], "what is made from scratch is scratch:debug"),
        (["--model.start", "nowhere/at-all"], "nowhere/at-all"),
        (["--watch.reports", "trackio"], "trackio, which is not installed: pip install trackio"),
    ],
)
def test_what_is_not_there_is_named_before_anything_is_made(
    flags: list[str],
    says: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setitem(sys.modules, "trackio", None)
    (tmp_path / "a.txt").write_text("x")
    run(capsys, "debug_stage1", "--out", "run", *flags, code=1, says=(says,))
    assert not (tmp_path / "run" / "material" / "material.json").exists()
