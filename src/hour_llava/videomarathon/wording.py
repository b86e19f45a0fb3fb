"""How times are written in prompts, questions and answers, and read back.

key        "20-50s", "12.5-40s"      a stretch in prompts and in models' answers
duration   "1 minute 10 seconds"     an answer
span       "from 0:20 to 1:10"       an answer
"""

from __future__ import annotations

import re
from types import MappingProxyType

from hour_llava.videomarathon.records import Span

_NUMBER = r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d+)?)"
_KEY = re.compile(
    rf"[\[(\s]*{_NUMBER}\s*s?(?:ec(?:onds?)?)?\s*(?:-|–|—|to)\s*{_NUMBER}\s*s?(?:ec(?:onds?)?)?[\])\s]*",
    re.IGNORECASE,
)

_LANGUAGES = MappingProxyType(
    {"en": "English", "de": "German", "fr": "French", "es": "Spanish", "it": "Italian"}
    | {"pt": "Portuguese", "zh": "Chinese", "ja": "Japanese", "ko": "Korean", "ru": "Russian"}
)


def say_seconds(ms: int) -> str:
    """Write milliseconds as seconds, "12.5", with no more digits than needed."""
    return f"{ms / 1000:.3f}".rstrip("0").rstrip(".")


def say_key(span: Span) -> str:
    """Write a stretch as prompts do: "20-50s"."""
    return f"{say_seconds(span.start_ms)}-{say_seconds(span.end_ms)}s"


def read_key(text: str) -> tuple[int, int] | None:
    """Read a stretch in (start, end) milliseconds; "20-50s", "20s to 50s", "0:20-0:50"."""
    match = _KEY.fullmatch(text.strip())
    if match is None:
        return None
    start, end = (_read_ms(*match.groups()[i : i + 3]) for i in (0, 3))
    return start, end


def _read_ms(hours: str | None, minutes: str | None, seconds: str) -> int:
    return round((int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(seconds)) * 1000)


def say_duration(ms: int) -> str:
    """Write a length of time to the second, "1 hour 2 minutes 5 seconds"."""
    whole = max(1, round(ms / 1000))
    parts = (("hour", whole // 3600), ("minute", whole // 60 % 60), ("second", whole % 60))
    return " ".join(f"{n} {unit}{'s' if n != 1 else ''}" for unit, n in parts if n)


def say_clock(ms: int) -> str:
    """Write a point of time to the second, "1:10" or "1:01:10"."""
    whole = round(ms / 1000)
    hours, minutes, seconds = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def say_span(span: Span) -> str:
    """Write a stretch as an answer: "from 0:20 to 1:10"."""
    return f"from {say_clock(span.start_ms)} to {say_clock(span.end_ms)}"


def say_language(code: str) -> str:
    """Name a language for prompts: "en" is "English"; what is not known is said as it stands."""
    return _LANGUAGES.get(code.lower(), code)
