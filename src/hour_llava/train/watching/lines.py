"""Lines: what is known of a run at a step, as log.jsonl holds it and every watcher gets it.

    run     the step it begins behind, num_steps, name, time, facts: seed, commit, ranks ...
    step    samples, loss, loss/NAME, grad_norm, lr/PART, tokens, labels, broken, seconds,
            data_seconds, memory_bytes, broken_samples
    end     time, reason: "done", "stopped" (by a signal) or "failed"
    validation, exam, any other measurement: seconds, and its numbers

`samples` and `broken` count from the run's beginning; tokens, labels, seconds are the step's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

Line = Mapping[str, Any]


class Watcher(Protocol):
    """Takes a run's lines; only the first process has any."""

    def begin(self, run: Line) -> None:
        """Take the line of kind "run", before any other; its step may be a resumed one's."""

    def take(self, line: Line) -> None:
        """Take any other line."""

    def close(self) -> None:
        """Give back what is held; also after an error, and more than once."""


def numbers_of(line: Line) -> dict[str, float]:
    """Give a line's finite numbers, without its step and the flags."""
    return {
        name: float(value)
        for name, value in line.items()
        if name != "step"
        and isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
    }
