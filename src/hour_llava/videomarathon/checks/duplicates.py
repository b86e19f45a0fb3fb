"""Near-duplicates: rows that ask the same again, in other words or of the same footage.

Within a video, rows of one task and format are alike when the word 5-grams of question and answer
overlap by J >= 0.8. Across videos the same words are another question, unless the videos themselves
are alike: a film cut or encoded twice has other bytes and the same captions. So videos are compared
first, by what their rows quote, and rows then within such a family of videos. Only captions of
models say that two films are one: those of truth files and measurements are templates.
Comparisons go through MinHash where they would be quadratic, and every hit is confirmed exactly.
"""

from __future__ import annotations

import importlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hour_llava.videomarathon.checks.words import jaccard, ngrams, words_of
from hour_llava.videomarathon.records import QAPair

MIN_LIKENESS = 0.8
NGRAM = 5
NUM_PERMUTATIONS = 128
MAX_EXACT = 48
_RECALL_THRESHOLD = 0.7  # MinHash estimates; what it lets through is measured exactly

Grams = set[tuple[str, ...]]


def row_grams(row: QAPair) -> Grams:
    """Return the word 5-grams of question and answer; a short one is a gram as a whole."""
    return ngrams(words_of(row.question), NGRAM) | {
        ("answer:", *gram) for gram in ngrams(words_of(row.answer), NGRAM)
    }


def near_duplicates(rows: Sequence[QAPair]) -> dict[str, str]:
    """Find rows that repeat an earlier one.

    Args:
        rows: Accepted rows, in the order in which the first of a family is kept.

    Returns: id of a repeated row -> id of the row that is kept instead.
    """
    family = video_families(rows)
    groups: dict[tuple[str, str, str], list[QAPair]] = defaultdict(list)
    for row in rows:
        groups[(family[row.video_id], row.task, row.format)].append(row)
    found: dict[str, str] = {}
    for group in groups.values():
        found |= _repeats({row.id: row_grams(row) for row in group})
    return found


def video_families(rows: Iterable[QAPair]) -> dict[str, str]:
    """Return video id -> the first video of its family; most are alone in theirs."""
    grams: dict[str, Grams] = {}
    is_told: dict[str, bool] = {}
    for row in rows:
        own = grams.setdefault(row.video_id, set())
        is_told.setdefault(row.video_id, row.provenance.backend in ("endpoint", "mock"))
        for evidence in row.evidence:
            own |= ngrams(words_of(evidence.quote), NGRAM)
    told = {video: own for video, own in grams.items() if is_told[video] and own}
    repeats = _repeats(told)
    return {video: repeats.get(video, video) for video in grams}


def _repeats(grams: Mapping[str, Grams]) -> dict[str, str]:
    """Return each key that is like an earlier kept one -> that one."""
    find = _Exact() if len(grams) <= MAX_EXACT else _Hashed()
    kept: dict[str, Grams] = {}
    found: dict[str, str] = {}
    for key, own in grams.items():
        likes = [k for k in find.near(own) if jaccard(own, kept[k]) >= MIN_LIKENESS]
        if likes:
            found[key] = min(likes, key=list(kept).index)
        else:
            kept[key] = own
            find.add(key, own)
    return found


class _Exact:
    """Offers all kept keys: for small groups."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    def near(self, grams: Grams) -> list[str]:
        return self.keys

    def add(self, key: str, grams: Grams) -> None:
        self.keys.append(key)


class _Hashed:
    """Offers the kept keys whose MinHash is near."""

    def __init__(self) -> None:
        # It has no types, and takes a second to import that small builds need not pay.
        self.sketch: Any = importlib.import_module("datasketch")
        self.index = self.sketch.MinHashLSH(threshold=_RECALL_THRESHOLD, num_perm=NUM_PERMUTATIONS)

    def near(self, grams: Grams) -> list[str]:
        return sorted(str(key) for key in self.index.query(self._sign(grams)))

    def add(self, key: str, grams: Grams) -> None:
        self.index.insert(key, self._sign(grams))

    def _sign(self, grams: Grams) -> Any:
        signature = self.sketch.MinHash(num_perm=NUM_PERMUTATIONS, seed=1)
        signature.update_batch([" ".join(gram).encode() for gram in sorted(grams)])
        return signature
