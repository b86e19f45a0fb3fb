"""What a memory file says about itself, and its JSON: data that is parsed, never run."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from hour_llava.schema import DamagedSpan, Sampling, VideoInfo

FORMAT_VERSION = 1
MAX_DAMAGED_SPANS = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryHeader:
    """Which stretch of which video a memory holds, and what made it.

    `content_digest` names the video stream's bytes, `tower_digest` the vision tower's weights:
    together with `sampling` they are all that the features depend on. `duration_seconds` is the
    length of the remembered stretch; `info` is None for a memory that no file was read for.
    """

    content_digest: str = ""
    tower_digest: str = ""
    model: str = ""
    duration_seconds: float = 0.0
    sampling: Sampling = field(default_factory=Sampling)
    info: VideoInfo | None = None
    damage: tuple[DamagedSpan, ...] = ()

    def identity(self) -> dict[str, Any]:
        """Give what the features depend on: equal identities may continue each other."""
        return {
            "content_digest": self.content_digest,
            "tower_digest": self.tower_digest,
            "sampling": asdict(self.sampling),
        }


def header_to_json(header: MemoryHeader) -> dict[str, Any]:
    """Give the header as plain JSON values; a very long damage report is shortened."""
    info = None if header.info is None else asdict(replace(header.info, damage=()))
    plain = asdict(replace(header, info=None, damage=_shorten(header.damage)))
    return plain | {"info": info}


def header_from_json(plain: dict[str, Any]) -> MemoryHeader:
    """Read a header back, checking the type of every value.

    Raises:
        ValueError: a field is missing, unknown, or of another type; the message names it.
    """
    _check_fields(MemoryHeader, plain)
    sampling = _record(Sampling, plain["sampling"])
    info = None if plain["info"] is None else _record(VideoInfo, plain["info"] | {"damage": ()})
    damage = tuple(_record(DamagedSpan, span) for span in plain["damage"])
    return _record(MemoryHeader, plain | {"sampling": sampling, "info": info, "damage": damage})


def checksum(plain: dict[str, Any]) -> str:
    """Digest JSON values, whatever the order of their keys."""
    return hashlib.blake2b(canonical_json(plain).encode(), digest_size=16).hexdigest()


def canonical_json(plain: Any) -> str:
    """Write JSON that is the same for the same values."""
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _shorten(damage: tuple[DamagedSpan, ...]) -> tuple[DamagedSpan, ...]:
    """Fold the spans beyond the limit into one, so that the header keeps its reserved room."""
    if len(damage) <= MAX_DAMAGED_SPANS:
        return damage
    rest = damage[MAX_DAMAGED_SPANS - 1 :]
    folded = DamagedSpan(
        start_seconds=min(span.start_seconds for span in rest),
        end_seconds=max(span.end_seconds for span in rest),
        reason=f"{len(rest)} more damaged spans between these times",
    )
    return (*damage[: MAX_DAMAGED_SPANS - 1], folded)


def _check_fields(kind: type[Any], plain: Any) -> None:
    if not isinstance(plain, dict):
        raise ValueError(f"{kind.__name__} is {type(plain).__name__}, not an object")
    names = {f.name for f in fields(kind)}
    if names != set(plain):
        odd = sorted(names ^ set(plain))
        raise ValueError(f"{kind.__name__} has missing or unknown fields: {', '.join(odd)}")


def _record(kind: type[Any], plain: Any) -> Any:
    """Build a record, holding each value to the type its field is declared with."""
    _check_fields(kind, plain)
    for f in fields(kind):
        declared = str(f.type)
        value = plain[f.name]
        if not (value is None and declared.endswith("| None")) and not _is_a(value, declared):
            raise ValueError(f"{kind.__name__}.{f.name} is {value!r}, expected {declared}")
    return kind(**plain)


def _is_a(value: Any, declared: str) -> bool:
    """Hold a JSON value to a field's declared type; records and lists are checked elsewhere."""
    match declared.removesuffix(" | None"):
        case "str":
            return isinstance(value, str)
        case "bool":
            return isinstance(value, bool)
        case "int":
            return isinstance(value, int) and not isinstance(value, bool)
        case "float":
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            return is_number and math.isfinite(value)
        case _:
            return True
