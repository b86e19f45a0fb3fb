"""The table of all automatic rules for rows, in the order in which they are asked and counted."""

from __future__ import annotations

from hour_llava.videomarathon.checks.computed import COMPUTED_RULES
from hour_llava.videomarathon.checks.evidence import EVIDENCE_RULES
from hour_llava.videomarathon.checks.found import FOUND_RULES
from hour_llava.videomarathon.checks.options import OPTION_RULES
from hour_llava.videomarathon.checks.rule import Rule
from hour_llava.videomarathon.checks.story import STORY_RULES
from hour_llava.videomarathon.checks.tables import Tables
from hour_llava.videomarathon.checks.wording import WORDING_RULES
from hour_llava.videomarathon.records import QAPair, Verdict

RULES: tuple[Rule, ...] = (
    *WORDING_RULES,
    *OPTION_RULES,
    *EVIDENCE_RULES,
    *COMPUTED_RULES,
    *FOUND_RULES,
    *STORY_RULES,
)

JUDGED_RULES: tuple[str, ...] = ("judged_entailed", "blind")
"""Asked of models in stages/verify.py, of rows that pass the automatic rules."""

BUILD_RULES: tuple[str, ...] = (
    "near_duplicate",
    "option_position",
    "longest_option",
    "yes_rate",
    "topic_mix",
)
"""Asked of all rows of a build together, in stages/dedup.py and stages/balance.py."""

ALL_RULES: tuple[str, ...] = (*(rule.name for rule in RULES), *JUDGED_RULES, *BUILD_RULES)


def check_row(row: QAPair, tables: Tables) -> tuple[Verdict, ...]:
    """Look at a row by every automatic rule that is for its task and format.

    Args:
        row: A candidate; its claim is recomputed, never believed.
        tables: Of its video.
    """
    return tuple(rule.verdict(row, tables) for rule in RULES if rule.applies_to(row))
