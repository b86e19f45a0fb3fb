"""What a rule is: a name, what it looks at, and one pure function from a row to a verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from hour_llava.videomarathon.checks.tables import Tables
from hour_llava.videomarathon.records import Outcome, QAPair, Verdict

Finding = tuple[Outcome, str]
"""An outcome and the words or numbers that decided."""

Kind = Literal["automatic", "judged", "build"]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A rule for rows.

    Args:
        name: As it stands in verdicts, reasons and statistics.
        looks_at: What it reads, in a few words; goes into the docs.
        check: The function.
        tasks: Slugs that it is for; None for all.
        formats: "oe", "mc".
        asks: What a row must be, in one sentence; goes into the docs.
    """

    name: str
    looks_at: str
    asks: str
    check: Callable[[QAPair, Tables], Finding]
    tasks: frozenset[str] | None = None
    formats: tuple[str, ...] = ("oe", "mc")

    def applies_to(self, row: QAPair) -> bool:
        """Say whether the rule is for rows of this task and format."""
        return row.format in self.formats and (self.tasks is None or row.task in self.tasks)

    def verdict(self, row: QAPair, tables: Tables) -> Verdict:
        """Look at a row."""
        outcome, detail = self.check(row, tables)
        return Verdict(rule=self.name, outcome=outcome, detail=detail)


def passed(detail: str = "") -> Finding:
    """Say that the row is as it must be."""
    return ("pass", detail)


def failed(detail: str) -> Finding:
    """Say that it is not, and by what."""
    return ("fail", detail)


def skipped(detail: str) -> Finding:
    """Say that the rule cannot tell, and why."""
    return ("skip", detail)
