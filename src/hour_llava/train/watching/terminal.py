"""What a run says to who started it, outside its bar: lines on stderr."""

from __future__ import annotations

import sys


def say(text: str) -> None:
    """Print one line."""
    print(f"hour-llava: {text}", file=sys.stderr, flush=True)
