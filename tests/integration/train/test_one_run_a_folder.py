"""A run's folder belongs to one run at a time, and to the rows it was begun with."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hour_llava.cli import main
from hour_llava.errors import CheckpointError, ConfigError
from hour_llava.recipes import RECIPES
from hour_llava.train import run, run_folder
from hour_llava.train.checkpoint import list_checkpoints, read_facts
from hour_llava.train.config import CheckpointConfig, TrainConfig
from hour_llava.train.trainer import HourLlavaTrainer
from hour_llava.train.watching.log import LOG, JsonlLog

HOLDER = """
import sys
from pathlib import Path
from hour_llava.train.run_folder import own_folder
with own_folder(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def prepared(out: Path) -> TrainConfig:
    recipe = RECIPES["debug_stage1"]
    config = recipe.prepared(recipe.config(), out)
    return replace(
        config,
        batch=replace(config.batch, max_steps=2),
        watch=replace(config.watch, reports=(), progress=False),
    )


def held(out: Path) -> subprocess.Popen[str]:
    """Start a process that holds a run's folder until it is ended."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(out)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    return holder


def test_a_second_run_is_refused_while_one_is_at_work_and_not_after_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_folder, "_SECONDS_TO_LEAVE", 0.2)
    holder = held(tmp_path)
    with pytest.raises(ConfigError, match=rf"at work in .*process {holder.pid}"):
        run.train(prepared(tmp_path), tmp_path, resume=True)
    holder.kill()
    holder.communicate()
    assert run.train(prepared(tmp_path), tmp_path).is_dir()


def test_a_start_that_is_told_to_end_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    out = tmp_path / "runs" / "a"
    holder = held(out)
    assert out.is_dir()
    holder.terminate()  # as torchrun does where another rank failed
    assert holder.wait(30) == 143
    assert list(tmp_path.iterdir()) == []


def test_a_window_says_that_it_reads_all_rows_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = prepared(tmp_path)
    run.train(replace(config, data=replace(config.data, window=8)), tmp_path)
    said = capsys.readouterr().err
    assert "--data.window 8: reading" in said
    assert said.index("reading") < said.index("begins")


def test_a_run_goes_on_with_its_own_rows_alone(tmp_path: Path) -> None:
    config = prepared(tmp_path)
    run.train(config, tmp_path)
    manifest = config.data.manifest[0]
    manifest.write_bytes(b"".join(reversed(manifest.read_bytes().splitlines(keepends=True))))
    with pytest.raises(CheckpointError, match=r"other rows \(manifest 1: [\d,]+ bytes, \w+, now"):
        run.train(config, tmp_path, resume=True)


def test_a_log_that_lacks_steps_before_the_checkpoint_is_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = JsonlLog(tmp_path / LOG)
    log.begin({"kind": "run", "step": 0})
    for step in (1, 2, 3):
        log.take({"kind": "step", "step": step, "loss": 1.0})
    log.close()
    whole = log.path.read_bytes()
    for data, words in ((whole, ""), (whole[:-40], "lacks 1 of the 3 steps"), (b"", "lacks 3 of")):
        log.path.write_bytes(data)
        log.begin({"kind": "run", "step": 3})
        log.close()
        said = capsys.readouterr().err
        assert words in said and said.count("\n") == bool(words)


def test_an_out_that_is_a_broken_link_is_called_one(tmp_path: Path) -> None:
    link = tmp_path / "runs"
    link.symlink_to(tmp_path / "disk")
    for out in (link, link / "a"):
        with pytest.raises(ConfigError, match=r"/runs is a link to /.*/disk, which is not there"):
            run.train(prepared(tmp_path / "data"), out)


def test_a_newer_checkpoint_that_is_not_whole_is_passed_over_with_a_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = prepared(tmp_path)
    config = replace(config, checkpoints=replace(config.checkpoints, every_steps=1))
    run.train(config, tmp_path)
    first, second = (tmp_path / "checkpoints" / f"step-0000000{step}" for step in (1, 2))
    for folder, then in ((second, "goes on from step-00000001"), (first, "begins anew")):
        shutil.rmtree(tmp_path / "model")
        (second / "checkpoint.json").unlink()
        (folder / "checkpoint.json").unlink(missing_ok=True)
        capsys.readouterr()
        run.train(config, tmp_path, resume=True)
        said = [line for line in capsys.readouterr().err.splitlines() if "passed over" in line]
        assert said == [f"hour-llava: passed over: {second} has no checkpoint.json; the run {then}"]


def test_a_finished_run_without_checkpoints_is_not_replaced(tmp_path: Path) -> None:
    config, out = prepared(tmp_path / "data"), tmp_path / "out"
    (out / "model").mkdir(parents=True)
    (out / "model" / "model.safetensors").write_bytes(b"trained")
    for resume in (False, True):
        with pytest.raises(ConfigError, match=r"has a trained model, .*/model, and no checkpoint"):
            run.train(config, out, resume=resume)
    assert everything(out) == {"model/model.safetensors": b"trained"}


def test_how_often_is_saved_may_change_on_going_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = prepared(tmp_path)
    config = replace(config, batch=replace(config.batch, max_steps=5))
    seldom, often = (
        replace(config, checkpoints=CheckpointConfig(every_steps=steps, keep_last=9))
        for steps in (4, 1)
    )
    real: Any = HourLlavaTrainer._clip_grad_norm

    def end_in_the_second_step(trainer: HourLlavaTrainer, model: Any) -> Any:
        if trainer.state.global_step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(trainer, model)

    with pytest.raises(SystemExit), monkeypatch.context() as patched:
        patched.setattr(HourLlavaTrainer, "_clip_grad_norm", end_in_the_second_step)
        run.train(seldom, tmp_path)
    run.train(often, tmp_path, resume=True)
    saved = list_checkpoints(tmp_path / "checkpoints")
    assert [read_facts(folder).step for folder in saved] == [2, 3, 4, 5]


@pytest.mark.parametrize("has_cuda", [False, True])
def test_an_apple_gpu_is_passed_over_and_a_missing_gpu_is_said(
    has_cuda: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: has_cuda)
    assert run._device(None) == ("cuda" if has_cuda else "cpu")
    assert run._device("cpu") == "cpu"
    if has_cuda:
        assert run._device("cuda") == "cuda"
        return
    with pytest.raises(ConfigError, match="device cuda: torch sees no such GPU here; take cpu"):
        run._device("cuda")


def everything(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize(
    "flags",
    [
        ["--watch.reports", "tensorbord"],
        ["--model.start", "scratch:other"],
        ["--data.manifest", "texts.jsonl", "--data.weights", "1"],
        ["--model.start", "."],
    ],
)
def test_a_start_that_fails_leaves_its_folder_as_it_was_found(
    flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("texts.jsonl").write_text("{}\n")
    out = Path("runs/of today/try")
    assert main(["train", "debug_stage1", "--out", str(out), *flags]) == 1
    assert not Path("runs").exists()
    out.mkdir(parents=True)
    assert main(["train", "debug_stage1", "--out", str(out), *flags]) == 1
    assert list(out.iterdir()) == []
    mine = '{"config": {}, "run": {}}'
    (out / "config.json").write_text(mine)
    (out / "notes").mkdir()
    assert main(["train", "debug_stage1", "--out", str(out), *flags]) == 1
    assert everything(out) == {"config.json": mine.encode()} and (out / "notes").is_dir()


@pytest.mark.parametrize("text", ['{"model_type": "hour_llava"}', "no JSON"])
def test_a_models_folder_is_no_place_for_a_run(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text(text)
    assert main(["train", "debug_stage1", "--out", str(tmp_path)]) == 1
    assert "config.json is not a run's" in capsys.readouterr().err
    assert everything(tmp_path) == {"config.json": text.encode()}


def test_a_resumption_that_fails_leaves_the_run_as_it_was_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--out", str(tmp_path), "--batch.max-steps", "1", "--watch.reports"]
    assert main(["train", "debug_stage1", *flags]) == 0
    schedule = tmp_path / "checkpoints" / "step-00000001" / "scheduler.pt"
    schedule.write_bytes(b"damaged")
    before = everything(tmp_path)
    assert main(["train", "debug_stage1", *flags, "--resume", "--data.workers", "1"]) == 1
    assert "scheduler.pt is damaged" in capsys.readouterr().err
    assert everything(tmp_path) == before
