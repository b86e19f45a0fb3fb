"""Reports: TensorBoard by default, others by name."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hour_llava.errors import HourLlavaError
from hour_llava.train.watching.reports import open_reports

RUN = {"kind": "run", "name": "toy", "step": 0, "num_steps": 9}


def test_tensorboard_has_the_numbers_and_a_resumed_run_hides_what_it_does_again(
    tmp_path: Path,
) -> None:
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    ).EventAccumulator
    for first, loss in ((0, 1.0), (3, 2.0)):
        (report,) = open_reports(("tensorboard",), tmp_path, name="toy")
        report.begin(RUN | {"step": first})
        for step in range(first + 1, 6):
            report.take({"kind": "step", "step": step, "loss": loss, "lr/memaug": 0.1, "x": "y"})
        report.close()
        report.close()
    events = accumulator(str(tmp_path / "tensorboard")).Reload()
    assert events.Tags()["scalars"] == ["step/loss", "step/lr/memaug"]
    found = [(event.step, event.value) for event in events.Scalars("step/loss")]
    assert found == [(1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0), (5, 2.0)]


def test_tensorboard_that_is_not_installed_is_left_out_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert open_reports(("tensorboard",), tmp_path, name="toy") == []
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "pip install 'hour-llava[train]'" in said


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_reports_by_name_are_opened_fed_and_finished(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, Any, Any]] = []
    module = SimpleNamespace(
        init=lambda **given: calls.append(("init", given["project"], given["name"])),
        log=lambda numbers, step: calls.append(("log", numbers, step)),
        finish=lambda: calls.append(("finish", None, None)),
    )
    monkeypatch.setitem(sys.modules, name, module)
    (report,) = open_reports((name, name), tmp_path, name="toy")
    report.begin(RUN)
    report.take({"kind": "step", "step": 1, "loss": 0.5})
    report.close()
    report.close()
    assert calls == [
        ("init", "hour-llava", "toy"),
        ("log", {"step/loss": 0.5}, 1),
        ("finish", None, None),
    ]


def test_a_report_that_fails_says_so_at_once_or_ends_on_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("not logged in")

    module = SimpleNamespace(init=lambda **_: None, log=fail, finish=fail)
    monkeypatch.setitem(sys.modules, "wandb", module)
    (report,) = open_reports(("wandb",), tmp_path, name="toy")
    report.begin(RUN)
    report.take({"kind": "step", "step": 1, "loss": 0.5})
    report.take({"kind": "step", "step": 2, "loss": 0.5})
    report.close()
    assert capsys.readouterr().err.count("ends here (not logged in); log.jsonl goes on") == 1
    module.init = fail
    with pytest.raises(HourLlavaError, match=r"wandb does not begin \(not logged in\)"):
        report.begin(RUN)


def test_reports_that_do_not_exist_or_are_missing_are_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(HourLlavaError, match="tensorboard, wandb, trackio"):
        open_reports(("tensorbord",), tmp_path, name="toy")
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(HourLlavaError, match="pip install wandb"):
        open_reports(("wandb",), tmp_path, name="toy")
