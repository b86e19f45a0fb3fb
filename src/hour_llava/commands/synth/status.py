"""`hour-llava synth status`: what is done, what failed and why, what is to do."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import Annotated

import tyro

from hour_llava.commands.synth.wording import dollars
from hour_llava.commands.terminal import printable
from hour_llava.videomarathon.build import Build
from hour_llava.videomarathon.status import BuildStatus, read_status


def status(
    build: Annotated[Path, tyro.conf.arg(metavar="BUILD_DIR")],
    /,
    *,
    json: bool = False,
) -> None:
    """Say what is done, what failed and why, what was set aside, and what was spent.

    Reads names of files only; a run may be under way.

    Args:
        build: the build's folder
        json: print one JSON object
    """
    found = read_status(Build.open(build))
    print(json_format.dumps(found.as_dict(), indent=2) if json else "\n".join(_lines(found)))


def _lines(found: BuildStatus) -> list[str]:
    names = ("done", "to do", "failed", "calls", "tokens", "usd")
    head = [f"{name:>{size}}" for name, size in zip(names, (9, 9, 7, 8, 12, 9), strict=True)]
    lines = [" ".join([f"{'stage':<15}", *head])]
    for one in found.stages:
        lines.append(
            f"{one.name:<15} {one.num_done:>9,} {one.num_todo:>9,} {one.num_failed:>7,} "
            f"{one.num_calls:>8,} {one.num_tokens:>12,} {dollars(one.usd):>9}"
        )
    lines.append(f"videos: {found.num_videos:,}, set aside: {len(found.set_aside):,}")
    lines += [f"  set aside ({s.reason}): {s.path}: {s.detail}" for s in found.set_aside]
    lines += [f"  failed ({f.failure}): {f.message}" for f in found.failures]
    lines += [f"  release: {name}" for name in found.releases]
    lines += [f"note: {found.note}"] if found.note else []
    lines.append(f"next: {found.next_step}")
    return [printable(line) for line in lines]
