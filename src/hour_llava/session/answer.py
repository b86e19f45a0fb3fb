"""What `ask` gives back and what `remember` reports on its way. No torch here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hour_llava.schema import Evidence

UNSURE = "I don't know"


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far `remember` is.

    `seconds_left` is None until a batch behind the first has been timed; `is_kept` says whether an
    interruption costs nothing.
    """

    num_done: int
    num_frames: int
    seconds_left: float | None = None
    note: str | None = None
    is_kept: bool = True


ProgressCallback = Callable[[Progress], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """An answer, where it was read, and what it cost.

    `confidence` is the geometric mean of the probabilities of the answer's tokens, its end
    included (of its letter where options are scored by letter). A model with a measured threshold
    says "I don't know" below it: then `abstained` is True, and `best_guess` is what it would have
    said. `mass_F` is the share of the reading that fell on each frame, None unless asked for.
    """

    text: str
    evidence: list[Evidence]
    confidence: float
    abstained: bool
    best_guess: str
    model: str
    domain: str | None
    memory_tokens: int
    kept_tokens: int
    augment_seconds: float
    generate_seconds: float
    option_scores: tuple[float, ...] = ()
    mass_F: np.ndarray | None = None
    times_F: np.ndarray | None = None

    def __str__(self) -> str:
        return self.text
