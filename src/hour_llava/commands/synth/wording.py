"""Numbers as people read them: dollars that may be unknown, one row and two rows."""

from __future__ import annotations


def dollars(usd: float | None) -> str:
    """Return "0.42", or "unknown" where no price is known: 0.00 would say that it was free."""
    return "unknown" if usd is None else f"{usd:,.2f}"


def counted(number: int, noun: str) -> str:
    """Return "1 video" or "1,204 videos"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
