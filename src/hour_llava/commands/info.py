"""`hour-llava info`: say what a memory file holds, and verify it."""

from __future__ import annotations

import json as json_format
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import tyro

from hour_llava.commands.progress import readable_bytes
from hour_llava.commands.terminal import printable


def info(
    file: Annotated[Path, tyro.conf.arg(metavar="FILE.hlm")], /, *, json: bool = False
) -> None:
    """Say what a memory file holds, and check every byte of it.

    Args:
        file: a memory file made by `remember`
        json: print one JSON object
    """
    from hour_llava.memory.repository import MemoryRepository

    memory = MemoryRepository.open(file)
    memory.verify()
    facts: dict[str, Any] = {
        "path": str(file),
        "video": None if memory.info is None else asdict(memory.info) | {"damage": None},
        "duration_seconds": memory.duration_seconds,
        "num_frames": memory.num_frames,
        "tokens_per_frame": memory.tokens_per_frame,
        "feature_size": memory.shape[2],
        "dtype": str(memory.dtype).removeprefix("torch."),
        "num_bytes": memory.num_bytes,
        "first_seconds": float(memory.times_F[0]),
        "last_seconds": float(memory.times_F[-1]),
        "sampling": asdict(memory.sampling),
        "model": memory.model,
        "content_digest": memory.content_digest,
        "tower_digest": memory.tower_digest,
        "num_thumbnails": len(memory.thumbnails),
        "damage": [asdict(span) for span in memory.damage],
    }
    if json:
        print(json_format.dumps(facts))
    else:
        print("\n".join(_lines(facts)))


def _lines(facts: dict[str, Any]) -> list[str]:
    from hour_llava.session.picture import clock, clock_digits

    video = facts["video"]
    shape = f"{facts['num_frames']:,} frames x {facts['tokens_per_frame']} tokens"
    sampling = facts["sampling"]
    digits = clock_digits(sampling["fps"])
    first, last = (clock(facts[f"{end}_seconds"], digits) for end in ("first", "last"))
    lines = [
        f"file      {facts['path']}: sound",
        f"memory    {shape} x {facts['feature_size']} {facts['dtype']}, "
        f"{readable_bytes(facts['num_bytes'])}, {facts['num_thumbnails']} thumbnails",
        f"time      {first} to {last} of {facts['duration_seconds']:.1f} s, "
        f"{sampling['fps']:g} frames a second",
        f"made by   {facts['model'] or 'unknown'} (tower {facts['tower_digest'][:12]})",
    ]
    if video is not None:
        lines.insert(
            1,
            f"video     {video['path']}: {video['codec']} {video['width']} x {video['height']}, "
            f"{video['duration_seconds']:.1f} s",
        )
    lines += [
        f"damaged   {clock(span['start_seconds'], digits)} to "
        f"{clock(span['end_seconds'], digits)}: {span['reason']}"
        for span in facts["damage"]
    ]
    return [printable(line) for line in lines]
