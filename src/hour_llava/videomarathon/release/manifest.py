"""MANIFEST.sha256: the checksum of every file of a release, as `sha256sum -c` reads it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from hour_llava.errors import BuildError

NAME = "MANIFEST.sha256"


def write_manifest(folder: Path, note: str = "") -> None:
    """Write the sums of all files below the folder, by name; a note becomes a comment line."""
    files = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.name != NAME
    )
    head = [f"# {note}\n"] if note else []
    sums = [_line(hash_file(folder / name), name) for name in files]
    (folder / NAME).write_text("".join(head + sums), encoding="utf-8")


def verify_manifest(folder: Path) -> int:
    """Compare every file with its sum and return their number.

    Raises:
        BuildError: the manifest is missing, or a file is missing, changed or not listed.
    """
    try:
        lines = (folder / NAME).read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise BuildError(f"{folder} is no whole release: {NAME} cannot be read") from error
    listed = dict(_split(line) for line in lines if line and not line.startswith("#"))
    for name, expected in listed.items():
        if not (folder / name).is_file() or hash_file(folder / name) != expected:
            raise BuildError(f"{folder / name} is missing or changed; seal the release again")
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name != NAME and name not in listed:
            raise BuildError(f"{path} is not in {NAME}; seal the release again")
    return len(listed)


def hash_file(path: Path) -> str:
    """Return the file's SHA-256 as hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _line(checksum: str, name: str) -> str:
    """Write a line as GNU coreutils do: a name with a newline or backslash is escaped."""
    escaped = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    mark = "\\" if escaped != name else ""
    return f"{mark}{checksum}  {escaped}\n"


def _split(line: str) -> tuple[str, str]:
    is_escaped = line.startswith("\\")
    checksum, name = line.lstrip("\\").split("  ", 1)
    if is_escaped:
        name = name.replace("\\\\", "\0").replace("\\n", "\n").replace("\\r", "\r")
        name = name.replace("\0", "\\")
    return name, checksum
