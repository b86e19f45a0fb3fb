"""Lines for people: nothing that a file is called can break or colour them."""

from __future__ import annotations

import sys

PROGRAM = "hour-llava"


def printable(text: str) -> str:
    r"""Escape what a terminal would obey or choke on: a line feed becomes \n, a byte \udcff."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def say(text: str) -> None:
    """Print one line on stderr."""
    print(f"{PROGRAM}: {printable(text)}", file=sys.stderr, flush=True)
