"""Which split a video's rows go to: by a hash of the video's id, so that no video is in two.

A video keeps its split when others join the build; only other shares can move it.
"""

from __future__ import annotations

import hashlib

from hour_llava.videomarathon.settings import Splits

SPLITS = ("train", "validation", "test")


def split_of(video_id: str, shares: Splits) -> str:
    """Return the split of a video: where its hash lies among the shares, in `SPLITS`' order."""
    place = int.from_bytes(hashlib.sha256(video_id.encode()).digest()[:8], "big") / 2**64
    if place < shares.train or shares.train >= 1:
        return "train"
    if place < shares.train + shares.validation or shares.test == 0:
        return "validation"
    return "test"
