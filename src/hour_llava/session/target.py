"""Files that a user asks for by name: what cannot be written is said before any work is done."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from hour_llava.errors import ResourceError


def check_target(
    path: Path, *, what: str, suffixes: Sequence[str], source: str | Path | None = None
) -> None:
    """Refuse a file that cannot be made, or that would replace what it is made from.

    Args:
        path: the file that is asked for.
        what: it will be, for the message: "the evidence picture".
        suffixes: one of which its name has to end in.
        source: the file that is read.

    Raises:
        ResourceError: names the file, what is wrong with it, and what to do.
    """
    fault = _fault(path, suffixes, source)
    if fault:
        raise ResourceError(f"cannot write {what} {path}: {fault}")


def _fault(path: Path, suffixes: Sequence[str], source: str | Path | None) -> str:
    if path.suffix.lower() not in suffixes:
        return f"{path.suffix or 'no suffix'} is no format; end it in {', '.join(suffixes)}"
    try:
        if path.is_dir():
            return "it is a folder; name a file in it"
        if not path.parent.is_dir():
            return f"{path.parent} is no folder; make it first"
        if not os.access(path.parent, os.W_OK):
            return f"{path.parent} may not be written by this user; name another folder"
        both_exist = source is not None and path.exists() and Path(source).exists()
        if source is not None and both_exist and path.samefile(source):
            return "it is the video itself; name another file"
    except OSError as error:
        return f"{error.strerror}; name another file"
    return ""
