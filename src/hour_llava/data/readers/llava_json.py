"""LLaVA's training JSON: a list (or lines) of {id, image | video, conversations}.

So are our own releases' `llava/*.json`, and LLaVA-OneVision's multi-image and text parts. `image`
is a path or a list of paths; `<image>` in a video's sample stands for the video.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hour_llava.data.manifest import (
    Sample,
    parse_json,
    read_json_list,
    require_utf8,
    sample_from_row,
)
from hour_llava.data.readers.bad_rows import Bad, refuse
from hour_llava.errors import DataError


def to_samples(path: Path, *, bad: Bad = refuse) -> Iterator[Sample]:
    """Read a file, or the `llava/*.json` of a release's folder.

    Raises:
        DataError: names the file, the row and the field.
    """
    for file in _files(path):
        for number, row in rows_of(file, bad):
            try:
                yield sample_from_row(row, where=f"{file}:{number}")
            except DataError as error:
                bad(error)


def rows_of(file: Path, bad: Bad = refuse) -> Iterator[tuple[int, Any]]:
    """Give the rows of a JSON list (numbered from 0) or of JSON lines (from 1)."""
    if file.suffix != ".jsonl":
        yield from enumerate(read_json_list(file))
        return
    require_utf8(file)
    with file.open("rb") as lines:  # a line that is no UTF-8 is one bad row
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    yield number, parse_json(line)
                except ValueError as error:
                    bad(DataError(f"{file}:{number}: no JSON: {error}"))


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    files = sorted((path / "llava").glob("*.json")) or sorted(path.glob("*.json"))
    training = [file for file in files if file.stem.startswith("train")]
    if not files:
        raise DataError(f"{path}: no LLaVA JSON here, nor in {path / 'llava'}")
    return training or files
