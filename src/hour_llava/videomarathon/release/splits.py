"""Which split a video's rows go to: by a hash of the video's id, so that no video is in two.

A video keeps its split when others join the build; only other shares can move it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from types import MappingProxyType

from hour_llava.errors import BuildError

SPLITS = ("train", "validation", "test")
DEFAULT_SHARES: Mapping[str, float] = MappingProxyType(
    {"train": 0.9, "validation": 0.05, "test": 0.05}
)


def check_shares(shares: Mapping[str, float]) -> None:
    """Refuse shares that are not shares.

    Raises:
        BuildError: an unknown split, a negative share, or a sum other than 1.
    """
    unknown = sorted(set(shares) - set(SPLITS))
    if unknown:
        raise BuildError(f"splits: no split {unknown[0]!r}; the splits are {', '.join(SPLITS)}")
    if any(share < 0 for share in shares.values()) or abs(sum(shares.values()) - 1) > 1e-6:
        raise BuildError(
            f"splits: shares are not negative and add up to 1, not to {sum(shares.values()):g}"
        )


def split_of(video_id: str, shares: Mapping[str, float] = DEFAULT_SHARES) -> str:
    """Return the split of a video: where its hash lies among the shares, in `SPLITS`' order.

    Raises:
        BuildError: the shares are not shares.
    """
    check_shares(shares)
    place = int.from_bytes(hashlib.sha256(video_id.encode()).digest()[:8], "big") / 2**64
    end = 0.0
    given = [split for split in SPLITS if shares.get(split, 0) > 0]
    for split in given:
        end += shares[split]
        if place < end:
            return split
    return given[-1]
