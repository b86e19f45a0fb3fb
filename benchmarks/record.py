"""Where a measurement comes from, and how it is kept: one block of origin for every script here."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any


def origin(*packages: str, command: str | None = None) -> dict[str, Any]:
    """Say when, with which code, by which command and on what machine something was measured.

    Args:
        packages: distributions whose versions bear on the figures.
        command: what was typed; by default what this process was started with.
    """
    head = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": head.stdout.strip(),
        "command": command or " ".join(["python", *sys.argv]),
        "hardware": {
            "processor": processor(),
            "cores": os.cpu_count(),
            "load_average": os.getloadavg(),
            "threads": os.environ.get("OMP_NUM_THREADS", ""),
        },
        "versions": {"python": platform.python_version()}
        | {name: metadata.version(name) for name in packages},
    }


def processor() -> str:
    """Name the processor as the system does."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def keep_results(
    path: Path,
    results: Sequence[dict[str, Any]],
    origin: dict[str, Any],
    *,
    same: Sequence[str] = (),
) -> None:
    """Add results to a file's list, each with its origin, in the place of older ones of its kind.

    Args:
        path: a JSON file, a list of objects.
        results: what was measured.
        origin: of all of them.
        same: an older result that equals a new one in all these keys is dropped; none: all stay.
    """
    earlier = json.loads(path.read_text()) if path.exists() else []
    kinds = [[result[key] for key in same] for result in results]
    kept = [entry for entry in earlier if not same or [entry[key] for key in same] not in kinds]
    path.parent.mkdir(parents=True, exist_ok=True)
    new = [origin | result for result in results]
    path.write_text(json.dumps([*kept, *new], indent=2) + "\n")
