"""Are the options of a multiple-choice row fair: one right, none twice, none that eats others."""

from __future__ import annotations

import re
from itertools import combinations

from hour_llava.videomarathon.checks.quantities import overlap_ratio, single_length, span_in
from hour_llava.videomarathon.checks.rule import Finding, Rule, failed, passed, skipped
from hour_llava.videomarathon.checks.tables import Tables
from hour_llava.videomarathon.checks.words import fold
from hour_llava.videomarathon.records import QAPair

MIN_APART_SHARE = 0.25
MAX_SPAN_OVERLAP = 0.5
LENGTH_TASKS = frozenset({"duration_perception", "temporal_gap_estimation"})

_EATS_OTHERS = re.compile(
    r"\b(?:all|none|both|neither|either|any|some|most)\s+of\s+(?:the\s+)?(?:above|these|those|them|"
    r"options|choices|answers)\b|\b(?:both|neither|either)\s+\(?[a-e]\)?\s+(?:and|n?or)\s+\(?[a-e]\b|"
    r"\b(?:all|both|none)\s+(?:options|choices|answers)\b|\ball\s+(?:are|is)\s+(?:correct|right|"
    r"true)\b|\b(?:cannot|can't|can not) be (?:determined|answered|told)\b|"
    r"\bnot enough information\b|"
    r"\b(?:options|choices)\s+\(?[a-e]\)?\s+(?:and|or)\s+\(?[a-e]\)?",
    re.IGNORECASE,
)


def normalised_option(text: str) -> str:
    """Return an option as it is compared: one case, no article, no letter, no end stop."""
    bare = re.sub(r"^\s*\(?[a-e][).:]\s+", "", fold(text))
    bare = re.sub(r"^(?:the|a|an)\s+", "", bare)
    return bare.strip(" .,;:!?\"'")


def _has_one_right(row: QAPair, _: Tables) -> Finding:
    if row.options is None or len(row.options) < 2:
        return failed(f"{len(row.options or ())} options; two are the least")
    num_exact = sum(option == row.answer for option in row.options)
    num_same = sum(normalised_option(o) == normalised_option(row.answer) for o in row.options)
    if num_exact != 1:
        return failed(f"{num_exact} options are the answer; one must be")
    if num_same != 1:
        return failed(f"{num_same} options say the same as the answer")
    return passed(f"one of {len(row.options)}")


def _has_no_twins(row: QAPair, _: Tables) -> Finding:
    options = row.options or ()
    if not all(normalised_option(option) for option in options):
        return failed("an empty option")
    for first, second in combinations(options, 2):
        if normalised_option(first) == normalised_option(second):
            return failed(f'"{first}" stands twice')
    return passed()


def _eats_no_others(row: QAPair, _: Tables) -> Finding:
    for option in row.options or ():
        if _EATS_OTHERS.search(option):
            return failed(f'"{option}"')
    return passed()


def _is_spread(row: QAPair, _: Tables) -> Finding:
    """Lengths of time only: the digit 7 beside the digit 8 is fair, 9 beside 10 minutes is not."""
    options = row.options or ()
    lengths = [single_length(option) for option in options]
    if any(length is None for length in lengths):
        if row.task in LENGTH_TASKS:
            return failed("an option is no length of time")
        return skipped("no lengths of time")
    for (a, one), (b, other) in combinations(zip(options, lengths, strict=True), 2):
        assert one is not None and other is not None
        apart = abs(one.ms - other.ms) / max(one.ms, other.ms, 1)
        if apart < MIN_APART_SHARE - 1e-9:
            return failed(f'"{a}" and "{b}" are {apart:.0%} apart; {MIN_APART_SHARE:.0%} is asked')
    return passed()


def _is_apart_in_time(row: QAPair, _: Tables) -> Finding:
    right = span_in(row.answer)
    if right is None:
        return skipped("the answer is no span")
    for option in row.options or ():
        span = span_in(option)
        if option == row.answer or span is None:
            continue
        shared = overlap_ratio(right, span)
        if shared >= MAX_SPAN_OVERLAP:
            return failed(f'"{option}" shares {shared:.0%} with the answer')
    return passed()


OPTION_RULES: tuple[Rule, ...] = (
    Rule(
        name="one_right_option",
        looks_at="options, answer",
        asks="exactly one option is the answer",
        check=_has_one_right,
        formats=("mc",),
    ),
    Rule(
        name="options_differ",
        looks_at="options",
        asks="no option empty or twice, whatever its case, article or end stop",
        check=_has_no_twins,
        formats=("mc",),
    ),
    Rule(
        name="no_all_of_the_above",
        looks_at="options",
        asks='no "all of the above", "both A and B", "cannot be determined"',
        check=_eats_no_others,
        formats=("mc",),
    ),
    Rule(
        name="options_spread",
        looks_at="options",
        asks="lengths of time differ by a quarter of the longer one at least",
        check=_is_spread,
        formats=("mc",),
    ),
    Rule(
        name="options_apart_in_time",
        looks_at="options, answer",
        asks="no wrong span shares half with the right one (intersection over union)",
        check=_is_apart_in_time,
        formats=("mc",),
        tasks=frozenset({"action_localization"}),
    ),
)
