"""Draw nano's tables from benchmarks/results/nano_exam.json.

    python benchmarks/nano_table.py             print all of them
    python benchmarks/nano_table.py --write     put them into docs/nano.md and README.md

A table stands between `<!-- nano_table: NAME -->` and `<!-- /nano_table -->`.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tyro

from hour_llava.tasks import TASKS
from hour_llava.world.families import ALL_FAMILIES, TASK_OF, families_of
from nano_exam import ARMS, RESULTS

LENGTHS = {180: "3 min", 600: "10 min", 3600: "60 min"}
PAGES = ("docs/nano.md", "README.md")
Targets = tuple[float, float, float]
TARGETS: dict[str, Targets] = {
    **dict.fromkeys(ALL_FAMILIES, (0.75, 0.65, 0.50)),
    **dict.fromkeys(
        ("object", "colour", "digit", "scene", "position", "existence"), (0.98, 0.96, 0.93)
    ),
    **dict.fromkeys(("order", "when"), (0.97, 0.94, 0.90)),
    **dict.fromkeys(("next_scene", "action"), (0.96, 0.92, 0.85)),
    "duration": (0.92, 0.85, 0.70),
}
PEAK_TARGETS: Targets = (0.99, 0.99, 0.97)
BASELINES = {
    "no_memaug": "retrained without MemAug",
    "uniform_32": "retrained on 32 frames",
    "uniform_64": "retrained on 64 frames",
    "no_rope": "retrained without rotary positions",
}
ARM_NAMES = {
    "full": "all",
    "blind": "another video's",
    "decayed": "the decayed tokens alone",
    "uniform_32": "32 frames",
    "uniform_64": "64 frames",
    "quarter": "every fourth second",
    "no_rope": "all, without rotary positions",
}

Known = dict[str, Any]


def task_targets(task: str) -> Targets:
    """Give the mean of the targets of a task's families."""
    of_families = [TARGETS[family] for family in families_of(task)]
    first, second, third = (
        sum(of_length) / len(of_families) for of_length in zip(*of_families, strict=True)
    )
    return first, second, third


def find(
    known: Known, key: str, kind: str, name: str, format: str = "oe", wordings: str = "all"
) -> Any:
    """Find a score, None where it was not measured."""
    wanted = (name, format, wordings)
    scores = known.get(key, {}).get(kind, [])
    return next((s for s in scores if (s["family"], s["format"], s["wordings"]) == wanted), None)


def mean_of(known: Known, key: str, format: str = "oe", wordings: str = "all") -> Any:
    """Find the mean of all families."""
    kind = "single_evidence" if format == "peak" else "accuracy"
    return find(known, key, kind, "mean", format, wordings)


def mean_of_needles(known: Known, key: str) -> Any:
    """Find the open-ended mean of the eleven families of needles and scenes."""
    return find(known.get(key, {}), "groups", "needles", "mean")


def cell(score: Any, target: float | None = None) -> str:
    """Write a share with its interval; a missed target is marked."""
    if score is None:
        return "-"
    text = f"{score['share']:.2f} [{score['low']:.2f}, {score['high']:.2f}]"
    is_met = target is None or max(score["share"], score["high"]) >= target
    return text if is_met else f"**{text}**"


def plain(score: Any) -> str:
    """Write a share alone."""
    return "-" if score is None else f"{score['share']:.2f}"


def row(*cells: str) -> str:
    """Write a line of a table."""
    return "| " + " | ".join(cells) + " |"


def header(*cells: str) -> list[str]:
    """Write a table's head."""
    return [row(*cells), row(*("---" for _ in cells))]


def task_table(known: Known, part: str) -> list[str]:
    """A row a task: open-ended beside target, chance and multiple choice."""
    heads = [f"{name} {kind}" for name in LENGTHS.values() for kind in ("open", "target", "mc")]
    lines = header("task", "chance open, mc", *heads)
    for task in (task.slug for task in TASKS):
        cells = [task, _chances(known, part, task)]
        for number, seconds in enumerate(LENGTHS):
            key, target = f"{part}/{seconds}", task_targets(task)[number]
            cells.append(cell(find(known, key, "tasks", task), target))
            cells.append(f"{target:.2f}")
            cells.append(plain(find(known, key, "tasks", task, "mc")))
        lines.append(row(*cells))
    return [*lines, _mean_row(known, part, ("mean of families", ""))]


def _chances(known: Known, part: str, task: str) -> str:
    """Write what guessing gets, openly and with options."""
    chances: list[str] = []
    for format in ("oe", "mc"):
        scores = (find(known, f"{part}/{s}", "tasks", task, format) for s in LENGTHS)
        score = next((s for s in scores if s is not None), None)
        chances.append("-" if score is None else f"{score['chance']:.2f}")
    return ", ".join(chances)


def _mean_row(known: Known, part: str, heads: Sequence[str]) -> str:
    cells = [*heads]
    for seconds in LENGTHS:
        key = f"{part}/{seconds}"
        cells += [cell(mean_of(known, key)), "", plain(mean_of(known, key, "mc"))]
    return row(*cells)


def family_table(known: Known, part: str) -> list[str]:
    """A row a family, as in the table of tasks."""
    heads = [f"{name} {kind}" for name in LENGTHS.values() for kind in ("open", "target", "mc")]
    lines = header("family", "task", *heads)
    for family in ALL_FAMILIES:
        cells = [family, TASK_OF[family]]
        for number, seconds in enumerate(LENGTHS):
            key, target = f"{part}/{seconds}", TARGETS[family][number]
            cells.append(cell(find(known, key, "accuracy", family), target))
            cells.append(f"{target:.2f}")
            cells.append(plain(find(known, key, "accuracy", family, "mc")))
        lines.append(row(*cells))
    return [*lines, _mean_row(known, part, ("mean", ""))]


def wording_table(known: Known) -> list[str]:
    """Seen against unseen wordings, and the evidence peak of questions with one piece of it."""
    kinds = ("seen", "unseen", "peak")
    lines = header("family", *(f"{name} {kind}" for name in LENGTHS.values() for kind in kinds))
    for family in (*ALL_FAMILIES, "mean"):
        cells = [family]
        for number, seconds in enumerate(LENGTHS):
            key = f"mass/{seconds}"
            if family == "mean":
                pair = [mean_of(known, key, "oe", w) for w in ("seen", "unseen")]
                peak = mean_of(known, key, "peak")
                cells += [*map(plain, pair), cell(peak, PEAK_TARGETS[number])]
                continue
            pair = [find(known, key, "accuracy", family, "oe", w) for w in ("seen", "unseen")]
            cells += [*map(plain, pair)]
            cells.append(plain(find(known, key, "single_evidence", family, "peak")))
        lines.append(row(*cells))
    return lines


def memory_table(known: Known) -> list[str]:
    """The means of the needles' and of all families with less memory, and the coverage."""
    kinds = ("needles", "all")
    lines = header("memory", *(f"{name} {kind}" for name in LENGTHS.values() for kind in kinds))
    arms = [(f"{ARM_NAMES[arm]}, swapped", f"swaps/{arm}") for arm in ARMS]
    arms += [(name, f"{baseline}/swaps/full") for baseline, name in BASELINES.items()]
    for name, key in arms:
        cells = [name]
        for seconds in LENGTHS:
            cells.append(cell(mean_of_needles(known, f"{key}/{seconds}")))
            cells.append(plain(mean_of(known, f"{key}/{seconds}")))
        lines.append(row(*cells))
    for arm in ("decayed", "uniform_32", "uniform_64"):
        shares = [known.get(f"coverage/{s}", {}).get("share", {}).get(arm) for s in LENGTHS]
        cells = [["", "-" if share is None else f"{share['all']:.2f}"] for share in shares]
        lines.append(row(f"has all evidence: {ARM_NAMES[arm]}", *itertools.chain(*cells)))
    return lines


def summary_table(known: Known) -> list[str]:
    """README's: a row a task, three lengths, and an hour with less memory beside it."""
    lines = header("task", *LENGTHS.values(), "targets", "chance", "60 min blind", "32 frames")
    for task in (task.slug for task in TASKS):
        targets, cells = task_targets(task), [task]
        for number, seconds in enumerate(LENGTHS):
            cells.append(cell(find(known, f"mass/{seconds}", "tasks", task), targets[number]))
        cells.append(" / ".join(f"{target:.2f}" for target in targets))
        cells.append(_chances(known, "mass", task).split(",")[0])
        for arm in ("blind", "uniform_32"):
            cells.append(plain(find(known, f"swaps/{arm}/3600", "tasks", task)))
        lines.append(row(*cells))
    cells = [cell(mean_of(known, f"mass/{seconds}")) for seconds in LENGTHS]
    swapped = [plain(mean_of(known, f"swaps/{arm}/3600")) for arm in ("blind", "uniform_32")]
    return [*lines, row("mean of families", *cells, "", "", *swapped)]


TABLES: dict[str, Callable[[Known], list[str]]] = {
    "tasks": lambda known: task_table(known, "mass"),
    "families": lambda known: family_table(known, "mass"),
    "files": lambda known: task_table(known, "files"),
    "file families": lambda known: family_table(known, "files"),
    "wordings": wording_table,
    "memory": memory_table,
    "summary": summary_table,
}


def draw_all(results: Path = RESULTS) -> dict[str, list[str]]:
    """Draw every table by its name."""
    known = json.loads(results.read_text())
    return {name: draw(known) for name, draw in TABLES.items()}


def put_into(text: str, name: str, lines: Sequence[str]) -> str:
    """Replace what stands between a table's two marks; a text without them stays as it is."""
    between = re.compile(rf"(<!-- nano_table: {name} -->\n).*?(<!-- /nano_table -->)", re.DOTALL)
    table = "\n" + "\n".join(lines) + "\n\n"
    return between.sub(lambda found: f"{found[1]}{table}{found[2]}", text)


def main(write: bool = False, results: Path = RESULTS) -> None:
    """Print all tables, or put them where they belong.

    Args:
        write: replace them in docs/nano.md and README.md.
        results: the exam's scores.
    """
    tables = draw_all(results)
    if not write:
        for name, lines in tables.items():
            print(f"### {name}\n\n" + "\n".join(lines) + "\n")
        return
    for page in (Path(__file__).parents[1] / page for page in PAGES):
        text = page.read_text()
        for name, lines in tables.items():
            text = put_into(text, name, lines)
        page.write_text(text)


if __name__ == "__main__":
    tyro.cli(main)
