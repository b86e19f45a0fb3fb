"""A Trainer's run, told step by step; measuring it changes nothing."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import TrainerCallback

from hour_llava.errors import ResourceError
from hour_llava.train.watching import Measurement
from hour_llava.train.watching.log import read_log


def lines(tmp_path: Path, kind: str = "step") -> list[dict[str, Any]]:
    return [line for line in read_log(tmp_path / "out" / "log.jsonl") if line["kind"] == kind]


def test_every_step_has_one_line_with_all_its_numbers(run: Any, tmp_path: Path) -> None:
    run()
    (begin,), steps, (end,) = (lines(tmp_path, kind) for kind in ("run", "step", "end"))
    assert (begin["step"], begin["num_steps"], begin["name"], begin["seed"]) == (0, 20, "toy", 0)
    assert [line["step"] for line in steps] == list(range(1, 21))
    assert steps[4]["samples"] == 20
    assert steps[4]["loss/words"] == steps[4]["loss"] / 2
    assert steps[0]["lr/memaug"] == 0.01
    assert all(s["data_seconds"] <= s["seconds"] and s["grad_norm"] > 0 for s in steps)
    assert steps[0]["tokens"] == 24
    assert steps[0]["memory_bytes"] > 1e6
    assert end["reason"] == "done"
    assert (tmp_path / "out" / "curves.png").read_bytes()[:4] == b"\x89PNG"


def test_a_resumed_run_says_no_step_twice_and_the_same_as_one_that_was_never_stopped(
    run: Any, tmp_path: Path
) -> None:
    run()
    whole = [(line["step"], line["loss"], line["grad_norm"]) for line in lines(tmp_path)]
    log = tmp_path / "out" / "log.jsonl"
    with log.open("a") as file:
        file.write('{"kind": "step", "step": 21, "lo')  # torn by a kill
    run(resume=tmp_path / "checkpoints" / "checkpoint-10")
    assert [(line["step"], line["loss"], line["grad_norm"]) for line in lines(tmp_path)] == whole
    assert [line["step"] for line in lines(tmp_path, "run")] == [0, 10]
    assert [line["step"] for line in lines(tmp_path, "end")] == [20]


def test_measurements_come_at_their_steps_and_at_the_end_and_disturb_nothing(
    run: Any, tmp_path: Path
) -> None:
    plain = run().state_dict()
    seen: list[bool] = []

    def measure(model: torch.nn.Module) -> dict[str, float]:
        seen.append(model.training or torch.is_grad_enabled())
        torch.rand(3), np.random.rand(3), random.random()
        return {"open": 0.5, "open/colour": 1.0}

    exam = Measurement(name="exam", every_steps=8, measure=measure)
    last = Measurement(name="validation", every_steps=0, measure=lambda _: {"loss": 2.0})
    measured = run(measurements=[exam, last]).state_dict()
    assert [line["step"] for line in lines(tmp_path, "exam")] == [8, 16, 20]
    assert lines(tmp_path, "exam")[0]["open/colour"] == 1.0
    assert [line["step"] for line in lines(tmp_path, "validation")] == [20]
    assert not any(seen)
    assert all(torch.equal(plain[name], measured[name]) for name in plain)


@pytest.mark.parametrize("step", [10, 20])
def test_a_measurement_that_fails_costs_no_checkpoint(run: Any, tmp_path: Path, step: int) -> None:
    def fail(model: torch.nn.Module) -> dict[str, float]:
        raise MemoryError("the exam is too large")

    every = step if step < 20 else 0
    with pytest.raises(MemoryError):
        run(measurements=[Measurement(name="exam", every_steps=every, measure=fail)])
    assert (tmp_path / "checkpoints" / f"checkpoint-{step}").is_dir()


def test_a_run_that_is_told_to_end_measures_nothing_more(run: Any, tmp_path: Path) -> None:
    class EndsAtTen(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 10:
                control.should_training_stop = True

    asked: list[float] = []
    exam = Measurement(name="exam", every_steps=5, measure=lambda _: {"n": asked.append(1) or 0})
    run(measurements=[exam], also=[EndsAtTen()])
    assert len(asked) == 1
    assert (tmp_path / "checkpoints" / "checkpoint-10").is_dir()


def test_replaced_samples_are_named_in_the_log_and_aloud(
    run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(steps=4)
    note = "stream, sample 7: no file"
    assert [s.get("broken_samples") for s in lines(tmp_path)] == [None, None, [note], None]
    assert f"hour-llava: step 3: replaced: {note}\n" in capsys.readouterr().err


def test_a_run_that_fails_ends_its_log_and_draws_its_curves(run: Any, tmp_path: Path) -> None:
    def fail(model: torch.nn.Module) -> dict[str, float]:
        raise ArithmeticError("no number")

    with pytest.raises(ArithmeticError):
        run(measurements=[Measurement(name="exam", every_steps=3, measure=fail)])
    (end,) = lines(tmp_path, "end")
    assert (end["step"], end["reason"]) == (3, "failed")
    assert (tmp_path / "out" / "curves.png").is_file()


def test_a_full_disk_ends_the_run_with_one_clear_line(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "log.jsonl").symlink_to("/dev/full")
    with pytest.raises(ResourceError, match=r"log\.jsonl cannot be written \(No space left"):
        run(steps=2)
