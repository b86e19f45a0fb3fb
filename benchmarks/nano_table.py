"""Draw the tables of docs/nano.md from benchmarks/results/nano_exam.json.

python benchmarks/nano_table.py
"""

from __future__ import annotations

import json
from typing import Any

from hour_llava.world.questions import FAMILIES
from nano_exam import ARMS, RESULTS

LENGTHS = {180: "3 min", 600: "10 min", 3600: "60 min"}
TARGETS: dict[str, tuple[float, float, float]] = {
    **dict.fromkeys(
        ("object", "colour", "digit", "scene", "position", "existence"), (0.98, 0.96, 0.93)
    ),
    **dict.fromkeys(("order", "when"), (0.97, 0.94, 0.90)),
    **dict.fromkeys(("next_scene", "action"), (0.96, 0.92, 0.85)),
    "duration": (0.92, 0.85, 0.70),
}
PEAK_TARGETS = (0.99, 0.99, 0.97)

Known = dict[str, Any]


def find(known: Known, key: str, family: str, format: str, wordings: str = "all") -> Any:
    """Find a score, None where it was not measured."""
    scores = known.get(key, {})
    scores = scores.get("evidence" if format == "peak" else "accuracy", [])
    wanted = (family, format, wordings)
    return next((s for s in scores if (s["family"], s["format"], s["wordings"]) == wanted), None)


def cell(score: Any, target: float | None = None) -> str:
    """Write a share with its interval; a missed target is marked."""
    if score is None:
        return "-"
    text = f"{score['share']:.3f} [{score['low']:.2f}, {score['high']:.2f}]"
    is_met = target is None or max(score["share"], score["high"]) >= target
    return text if is_met else f"**{text}**"


def row(*cells: str) -> str:
    """Write a line of a table."""
    return "| " + " | ".join(cells) + " |"


def header(*cells: str) -> list[str]:
    """Write a table's head."""
    return [row(*cells), row(*("---" for _ in cells))]


def main_table(known: Known, part: str) -> list[str]:
    """Open-ended accuracy a family and length beside its target; multiple choice behind it."""
    heads = [f"{name} {kind}" for name in LENGTHS.values() for kind in ("open", "target", "mc")]
    lines = header("family", *heads)
    for family in (*FAMILIES, "mean"):
        cells = [family]
        for number, seconds in enumerate(LENGTHS):
            key = f"{part}/{part}/{seconds}"
            target = TARGETS[family][number] if family in TARGETS else None
            cells.append(cell(find(known, key, family, "oe"), target))
            cells.append("" if target is None else f"{target:.2f}")
            choice = find(known, key, family, "mc")
            cells.append("-" if choice is None else f"{choice['share']:.3f}")
        lines.append(row(*cells))
    return lines


def wording_table(known: Known) -> list[str]:
    """Seen against unseen wordings, and the evidence peak."""
    kinds = ("seen", "unseen", "peak")
    lines = header("family", *(f"{name} {kind}" for name in LENGTHS.values() for kind in kinds))
    for family in (*FAMILIES, "mean"):
        cells = [family]
        for seconds in LENGTHS:
            key = f"mass/mass/{seconds}"
            pair = [find(known, key, family, "oe", w) for w in ("seen", "unseen")]
            peak = find(known, key, family, "peak")
            cells += ["-" if s is None else f"{s['share']:.3f}" for s in (*pair, peak)]
        lines.append(row(*cells))
    return lines


def arms_table(known: Known) -> list[str]:
    """The mean of all families with less memory, swapped and retrained, and the coverage."""
    lines = header("memory", *LENGTHS.values())
    arms = [(f"{arm}, swapped", f"swaps/{arm}") for arm in ARMS]
    arms += [(f"{arm}, retrained", f"retrained/{arm}") for arm in ARMS[2:]]
    for name, key in arms:
        scores = [find(known, f"{key}/{seconds}", "mean", "oe") for seconds in LENGTHS]
        lines.append(row(name.replace("_", " "), *(cell(score) for score in scores)))
    for arm in ARMS[2:]:
        shares = [known.get(f"coverage/{s}", {}).get("share", {}).get(arm) for s in LENGTHS]
        cells = ["-" if share is None else f"{share['all']:.2f}" for share in shares]
        lines.append(row(f"oracle coverage: {arm.replace('_', ' ')}", *cells))
    return lines


def main() -> None:
    """Print all tables."""
    known = json.loads(RESULTS.read_text())
    for title, lines in (
        ("Frames from the renderer", main_table(known, "mass")),
        ("mp4 files", main_table(known, "files")),
        ("Wordings and evidence", wording_table(known)),
        ("With less memory", arms_table(known)),
    ):
        print(f"### {title}\n")
        print("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
