"""Nano's tables: what they mark, and that the pages show what was measured."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from hour_llava.tasks import TASKS
from hour_llava.world.families import ALL_FAMILIES

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def table() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        return importlib.import_module("nano_table")


def score(name: str, share: float, format: str = "oe", wordings: str = "all") -> dict[str, Any]:
    about = {"family": name, "format": format, "wordings": wordings, "chance": 0.25}
    return about | {"share": share, "low": share - 0.1, "high": min(1.0, share + 0.05)}


def known(share: float) -> dict[str, Any]:
    both = [score(f, share, kind) for f in (*ALL_FAMILIES, "mean") for kind in ("oe", "mc")]
    tasks = [score(t.slug, share, kind) for t in TASKS for kind in ("oe", "mc")]
    entry = {"accuracy": both, "tasks": tasks}
    entry |= {"single_evidence": [score("mean", share, "peak")]}
    entry |= {"groups": {"needles": [score("mean", share - 0.5)]}}
    parts = ("mass", "files", "swaps/full", "swaps/blind")
    return {f"{part}/{s}": entry for part in parts for s in (180, 600, 3600)}


def test_a_missed_target_is_bold_and_one_within_the_interval_is_not(table) -> None:
    assert table.cell(score("colour", 0.90), 0.98) == "**0.90 [0.80, 0.95]**"
    assert table.cell(score("colour", 0.94), 0.98) == "0.94 [0.84, 0.99]"
    assert table.cell(None) == "-"


def test_every_task_has_a_row_with_its_target(table) -> None:
    lines = table.task_table(known(0.9), "mass")
    assert len(lines) == 2 + len(TASKS) + 1
    assert table.task_targets("temporal_order") == pytest.approx((0.86, 0.795, 0.70))


def test_less_memory_is_shown_for_the_needles_and_for_all(table) -> None:
    full, blind, *others = table.memory_table(known(0.9))[2:]
    assert full.startswith("| all, swapped | 0.40 [0.30, 0.45] | 0.90 |")
    assert blind.count("0.90") == 3
    assert all("0.90" not in line for line in others)


def test_a_page_without_marks_stays_as_it_is_and_marks_are_filled(table) -> None:
    page = "a\n<!-- nano_table: tasks -->\nold\n<!-- /nano_table -->\nb\n"
    assert table.put_into("a\nb\n", "tasks", ["x"]) == "a\nb\n"
    filled = table.put_into(page, "tasks", ["x", "y"])
    assert filled == "a\n<!-- nano_table: tasks -->\n\nx\ny\n\n<!-- /nano_table -->\nb\n"


def test_the_pages_show_the_recorded_scores(table) -> None:
    for page in table.PAGES:
        text = (ROOT / page).read_text()
        for name, lines in table.draw_all().items():
            assert table.put_into(text, name, lines) == text, f"{page}: {name}"
