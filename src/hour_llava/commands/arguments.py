"""Types of command-line arguments: times, sizes and rates, checked where they are typed."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Annotated, Any

import tyro

from hour_llava.video.sampling import MAX_FPS, MIN_FPS

_UNITS = {
    "": 1,
    "B": 1,
    **{unit + "B": 1000**power for power, unit in enumerate("KMGT", start=1)},
    **{unit + "IB": 1024**power for power, unit in enumerate("KMGT", start=1)},
    **dict(zip("KMGT", (1000, 1000**2, 1000**3, 1000**4), strict=True)),
}


def parse_seconds(text: str) -> float:
    """Return the seconds of "90", "1:30" or "1:02:03.5".

    Raises:
        ValueError: another form, or a negative time.
    """
    match = re.fullmatch(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?)", text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no time; write seconds (90) or mm:ss (1:30)")
    hours, minutes, seconds = match.groups(default="0")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def parse_bytes(text: str) -> int:
    """Return the bytes of "2GB", "512MiB" or "1000000".

    Raises:
        ValueError: another form, or nothing.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text.strip())
    if match is None or match[2].upper() not in _UNITS:
        raise ValueError(f"{text!r} is no size; write 2GB, 512MiB or a number of bytes")
    num_bytes = round(float(match[1]) * _UNITS[match[2].upper()])
    if num_bytes <= 0:
        raise ValueError("a size of 0 holds nothing; write 2GB, 512MiB or a number of bytes")
    return num_bytes


def parse_rate(text: str) -> float:
    """Return a number of frames a second that videos can be read at.

    Raises:
        ValueError: no number, or out of range; the range is named.
    """
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not MIN_FPS <= rate <= MAX_FPS:
        raise ValueError(
            f"{text!r} is no rate; write {MIN_FPS:g} to {MAX_FPS:g} frames a second, for example 1"
        )
    return rate


def _spec(metavar: str, parse: Callable[[str], float]) -> Any:
    def instance(values: list[str]) -> float | None:
        return None if values[0] == "None" else parse(values[0])

    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=instance,
        is_instance=lambda value: value is None or isinstance(value, int | float),
        str_from_instance=lambda value: ["None" if value is None else f"{value:g}"],
    )


Seconds = Annotated[float | None, _spec("TIME", parse_seconds)]
NumBytes = Annotated[int | None, _spec("SIZE", parse_bytes)]
Rate = Annotated[float, _spec("RATE", parse_rate)]
OptionalRate = Annotated[float | None, _spec("RATE", parse_rate)]
