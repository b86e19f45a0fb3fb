"""`doctor` and `bench`: what they say, and that a broken part is said to be broken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hour_llava.cli import main
from hour_llava.commands import bench, doctor


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUR_LLAVA_CACHE", str(tmp_path))


@pytest.mark.parametrize("name", [name for name in doctor._CHECKS if name != "nano"])
def test_every_part_works_here(name: str) -> None:
    status, detail = doctor._CHECKS[name]()
    assert status in ("ok", "note"), detail
    assert detail and "\n" not in detail


def test_a_broken_part_is_one_line_and_exit_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> tuple[doctor.Status, str]:
        raise RuntimeError("it is\nbroken")

    checks = {"good": lambda: ("ok", "works"), "bad": broken}
    monkeypatch.setattr(doctor, "_CHECKS", checks)
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in out] == ["ok", "FAIL"]
    assert "RuntimeError: it is broken" in out[1]
    assert main(["doctor", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is False
    assert [check["status"] for check in report["checks"]] == ["ok", "fail"]


def test_the_golden_self_test_notices_a_changed_number(monkeypatch: pytest.MonkeyPatch) -> None:
    from hour_llava.memory import attention

    true_rotate = attention.rotate
    from hour_llava.memory import memaug

    monkeypatch.setattr(memaug, "rotate", lambda x, tables: true_rotate(x, tables) * 1.001)
    status, detail = doctor._golden()
    assert status == "fail", detail


def test_bench_measures_every_part(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "_VIDEO_SECONDS", 15)
    assert main(["bench", "--model", str(tiny_model), "--runs", "1", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    names = [row["name"] for row in report["measured"]]
    assert names == ["load", "decode", "encode", "ask 10 min", "ask 60 min"]
    assert all(row["value"] > 0 for row in report["measured"])
