"""Results carry where they come from; newer ones take the place of older ones of their kind."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def record() -> ModuleType:
    path = Path(__file__).parents[3] / "benchmarks" / "record.py"
    spec = importlib.util.spec_from_file_location("record", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_origin_names_when_what_where_and_how(record: ModuleType) -> None:
    origin = record.origin("numpy", command="python benchmarks/x.py")
    assert list(origin) == ["date", "commit", "command", "hardware", "versions"]
    assert origin["command"] == "python benchmarks/x.py"
    assert origin["hardware"]["processor"]
    assert set(origin["versions"]) == {"python", "numpy"}


def test_a_result_replaces_those_of_its_kind_alone(record: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "results" / "x.json"
    record.keep_results(file, [{"n": 1, "v": 1}, {"n": 2, "v": 1}], {"commit": "a"}, same=["n"])
    record.keep_results(file, [{"n": 2, "v": 5}], {"commit": "b"}, same=["n"])
    found = [(entry["n"], entry["v"], entry["commit"]) for entry in json.loads(file.read_text())]
    assert found == [(1, 1, "a"), (2, 5, "b")]


def test_results_without_a_kind_are_all_kept(record: ModuleType, tmp_path: Path) -> None:
    for number in range(2):
        record.keep_results(tmp_path / "x.json", [{"n": number}], {})
    assert [entry["n"] for entry in json.loads((tmp_path / "x.json").read_text())] == [0, 1]
