"""A video's split hangs on its id and the shares alone."""

from __future__ import annotations

from collections import Counter

import pytest

from hour_llava.videomarathon.release.splits import split_of
from hour_llava.videomarathon.settings import Splits


def test_shares_are_met_over_many_videos() -> None:
    counts = Counter(split_of(f"{n:016x}", Splits()) for n in range(4000))

    assert counts["train"] / 4000 == pytest.approx(0.9, abs=0.02)
    assert counts["validation"] / 4000 == pytest.approx(0.05, abs=0.01)
    assert counts["test"] / 4000 == pytest.approx(0.05, abs=0.01)


@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_a_split_with_everything_gets_everything(name: str) -> None:
    shares = Splits(**{"train": 0.0, "validation": 0.0, "test": 0.0, name: 1.0})

    assert {split_of(f"{n:016x}", shares) for n in range(500)} == {name}
