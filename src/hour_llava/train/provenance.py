"""What made a run: the code's commit and versions; and of recipes whose settings are no
`TrainConfig`, the settings, written beside what came of them.
"""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from hour_llava.errors import ConfigError

_PACKAGES = ("hour-llava", "torch", "transformers", "accelerate", "peft")


def code_facts() -> dict[str, str]:
    """Give the commit, and the versions of Python and of what training rests on."""
    facts = {"commit": _commit(), "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            continue
    return facts


def keep_settings(path: Path, settings: Mapping[str, Any]) -> None:
    """Write settings and `code_facts` beside a run; one that goes on must have the same settings.

    Raises:
        ConfigError: it was begun with others; the first that differ are named.
    """
    now = json.loads(json.dumps(settings))
    if path.exists():
        found = json.loads(path.read_text(encoding="utf-8"))["settings"]
        other = list(_differences(found, now))
        if other:
            raise ConfigError(
                f"{path.parent} was begun with other settings ({'; '.join(other[:3])}): what is "
                "done there is not what these make; name another --out, or remove that folder"
            )
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"settings": now, "run": code_facts()}, indent=2)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text + "\n", encoding="utf-8")
    part.replace(path)


def _differences(before: Any, after: Any, name: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        pairs = [(key, before.get(key), after.get(key)) for key in dict.fromkeys([*before, *after])]
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = [(str(place), *both) for place, both in enumerate(zip(before, after, strict=True))]
    else:
        if before != after:
            yield f"{name}: {before}, now {after}"
        return
    for key, was, now in pairs:
        yield from _differences(was, now, f"{name}.{key}" if name else key)


def _commit() -> str:
    """Name the commit of the code, with "+" where files differ from it; "" outside a repository."""
    git = ["git", "-C", str(Path(__file__).parent)]
    options: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 20}
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], check=False, **options)
        if head.returncode:
            return ""
        changed = subprocess.run(
            [*git, "status", "--porcelain", "-uno", "--", "."], check=False, **options
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")
