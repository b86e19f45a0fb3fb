"""Times, sizes and rates as people write them."""

from __future__ import annotations

import pytest

from hour_llava.commands.arguments import parse_bytes, parse_rate, parse_seconds
from hour_llava.commands.progress import readable_bytes, readable_seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("1:30", 90), ("01:02:03.5", 3723.5), ("0", 0), (" 2.25 ", 2.25)],
)
def test_times(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "-5", "a", "1:2:3:4", "nan", "inf", "1e9"])
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no time"):
        parse_seconds(text)


@pytest.mark.parametrize(
    ("text", "num_bytes"),
    [("2GB", 2 * 10**9), ("1.5 GiB", 3 * 2**29), ("512m", 512 * 10**6), ("100", 100)],
)
def test_sizes(text: str, num_bytes: int) -> None:
    assert parse_bytes(text) == num_bytes


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "2XB", "0", "0.1B"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="size"):
        parse_bytes(text)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "fast", "", "1e9", "1e-9"])
def test_rates_outside_the_range_are_refused_with_it(text: str) -> None:
    assert parse_rate("0.5") == 0.5
    with pytest.raises(ValueError, match=rf"{text!r} is no rate; write 1e-06 to 1000 frames"):
        parse_rate(text)


def test_numbers_are_readable() -> None:
    assert [readable_seconds(s) for s in (4.4, 99, 720, 12_000)] == [
        "4 s",
        "99 s",
        "12 min",
        "3 h 20 min",
    ]
    assert [readable_bytes(b) for b in (640, 3.7e6, 12e9)] == ["640 B", "3.7 MB", "12 GB"]
