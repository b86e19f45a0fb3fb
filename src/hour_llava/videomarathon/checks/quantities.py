"""Lengths and points of time as people write them: "1 minute 20 seconds", "01:20-02:05".

Everything comes back in milliseconds, with how exactly it was said: "about 3 minutes" is rounded to
a minute, "80 seconds" to a second.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType

from hour_llava.videomarathon.records import Span

_UNIT_MS = MappingProxyType(
    {"hour": 3_600_000, "hr": 3_600_000, "h": 3_600_000, "minute": 60_000, "min": 60_000}
    | {"m": 60_000, "second": 1000, "sec": 1000, "s": 1000, "millisecond": 1, "ms": 1}
)
_UP_TO_TWENTY = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty"
)
_NUMBER_WORDS = MappingProxyType(
    {word: number for number, word in enumerate(_UP_TO_TWENTY.split())}
    | {"thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "ninety": 90, "a": 1, "an": 1}
)
_DIGITS = r"\d+(?:\.\d+)?"
_WORDS = "|".join(sorted(_NUMBER_WORDS, key=len, reverse=True))
_LONG_UNIT = r"hours?|hrs?|minutes?|mins?|milliseconds?|seconds?|secs?"
_UNIT = rf"({_LONG_UNIT}|ms|h|m|s)"
# After a word a unit is spelt out and set apart: "last eighth" is no eight hours.
_QUANTITY = re.compile(
    rf"(?<![\w.:])(?:({_DIGITS})[\s-]*{_UNIT}|({_WORDS})[\s-]+({_LONG_UNIT}))(?!\w)", re.IGNORECASE
)
_CLOCK = re.compile(r"(?<![\d:])(?:(\d{1,2}):)?(\d{1,2}):(\d{2})(?:\.(\d{1,3}))?(?![\d:])")
_RANGE_BETWEEN = re.compile(r"^\s*(?:-|–|—|to|until|till|and|up to)\s*(?:about\s+|at\s+)?$")


@dataclass(frozen=True, kw_only=True)
class Length:
    """A length of time as said; `unit_ms` is the smallest unit named: what it is rounded to."""

    ms: int
    unit_ms: int


def lengths_in(text: str) -> list[Length]:
    """List all lengths in order; neighbours of falling units ("1 minute and 20 s") are one."""
    return [length for _, _, length in _placed_lengths(text)]


def _placed_lengths(text: str) -> list[tuple[int, int, Length]]:
    found: list[tuple[int, int, Length]] = []
    for match in _QUANTITY.finditer(text):
        start, end = match.span()
        number, unit_ms = _read(match)
        if found:
            first, last, whole = found[-1]
            between = text[last:start].strip(" ,").lower()
            if between in ("", "and") and unit_ms < whole.unit_ms:
                found[-1] = (first, end, Length(ms=whole.ms + number, unit_ms=unit_ms))
                continue
        found.append((start, end, Length(ms=number, unit_ms=unit_ms)))
    return found


def _read(match: re.Match[str]) -> tuple[int, int]:
    word = (match.group(1) or match.group(3)).lower()
    unit = (match.group(2) or match.group(4)).lower()
    unit_ms = _UNIT_MS[unit if unit in _UNIT_MS else unit.removesuffix("s")]
    number = float(_NUMBER_WORDS[word]) if word in _NUMBER_WORDS else float(word)
    fraction = word.partition(".")[2] if word not in _NUMBER_WORDS else ""
    return round(number * unit_ms), max(1, unit_ms // 10 ** len(fraction))


def single_length(text: str) -> Length | None:
    """Return the one length that a text names; None for none or several different ones."""
    lengths = lengths_in(text)
    return lengths[0] if len({length.ms for length in lengths}) == 1 else None


def times_in(text: str) -> list[tuple[int, int, int]]:
    """List all points of time as (start, end, milliseconds): clock times and "80 seconds"."""
    found = [(m.start(), m.end(), _clock_ms(m)) for m in _CLOCK.finditer(text)]
    if not found:
        found = [(start, end, length.ms) for start, end, length in _placed_lengths(text)]
    return found


def _clock_ms(match: re.Match[str]) -> int:
    hours, minutes, seconds, fraction = match.groups()
    whole = (int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds)) * 1000
    return whole + int((fraction or "0").ljust(3, "0"))


def span_in(text: str) -> Span | None:
    """Return the first "from .. to .." of a text; a bare "20-50 s" counts; None without one."""
    short = re.search(r"(?<![\d:.])(\d+(?:\.\d+)?)\s*(?:-|–|to)\s*(\d+(?:\.\d+)?)\s*" + _UNIT, text)
    if short is not None:
        unit = short.group(3).lower()
        unit_ms = _UNIT_MS[unit if unit in _UNIT_MS else unit.removesuffix("s")]
        return _span(round(float(short[1]) * unit_ms), round(float(short[2]) * unit_ms))
    times = times_in(text)
    for (_, end, first), (start, _, second) in pairwise(times):
        if _RANGE_BETWEEN.match(text[end:start].lower()):
            return _span(first, second)
    return None


def _span(start_ms: int, end_ms: int) -> Span | None:
    return Span(start_ms=start_ms, end_ms=end_ms) if end_ms > start_ms else None


def overlap_ratio(first: Span, second: Span) -> float:
    """Return intersection over union."""
    shared = first.overlap_ms(second)
    return shared / (first.duration_ms + second.duration_ms - shared)
