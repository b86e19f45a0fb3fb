"""What parent and decoding child say to each other: JSON lines, and pixels in shared memory.

    child -> parent   info, progress, frame (which slot of the ring holds it), done, error
    parent -> child   one byte per slot that may be written again; end of file means: stop

The ring is an unnamed file mapped by both; the child sizes it once it knows the size of a frame.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from hour_llava.schema import DamagedSpan, Sampling, VideoInfo

NUM_SLOTS = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What the child shall read; it travels as its only argument."""

    path: str
    sampling: Sampling
    first_index: int
    threads: int | None
    ring: int

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Request:
        values: dict[str, Any] = json.loads(text)
        sampling = Sampling(**values.pop("sampling"))
        return cls(sampling=sampling, **values)


def info_to_json(info: VideoInfo) -> dict[str, Any]:
    """Turn the record into plain JSON values."""
    return asdict(info)


def info_from_json(values: dict[str, Any]) -> VideoInfo:
    """Read back what `info_to_json` wrote."""
    others = {name: value for name, value in values.items() if name != "damage"}
    return VideoInfo(damage=damage_from_json(values["damage"]), **others)


def damage_from_json(values: list[dict[str, Any]]) -> tuple[DamagedSpan, ...]:
    """Read back a list of damaged spans."""
    return tuple(DamagedSpan(**span) for span in values)
