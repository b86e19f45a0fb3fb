"""Which reader reads what: the layouts by name, and which one a path looks like."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Literal

from hour_llava.data.manifest import Sample, open_parquet, parse_json, read_manifest
from hour_llava.data.readers import llava_json, llava_onevision, llava_video_178k, videomarathon
from hour_llava.data.readers.bad_rows import Bad, refuse
from hour_llava.errors import DataError

ROWS_LOOKED_AT = 20
"""The first may be the bad one."""

Layout = Literal["manifest", "llava", "videomarathon", "llava-video-178k", "llava-onevision"]


def read_layout(
    path: Path, layout: Layout | None, *, media: Path, bad: Bad = refuse
) -> Iterator[Sample]:
    """Read the samples of a file or folder; paths are relative to `base_folder(path)`.

    Args:
        path: What to read.
        layout: How it is laid out; None: what it looks like.
        media: A folder for images that lie inside Parquet rows.
        bad: Takes rows that are no samples; by default the first ends the reading.

    Raises:
        DataError: no such path, a layout that is not known, a file that cannot be read; what `bad`
            raises.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    match layout or detect_layout(path):
        case "llava":
            yield from llava_json.to_samples(path, bad=bad)
        case "videomarathon":
            yield from videomarathon.to_samples(path, bad=bad)
        case "llava-video-178k":
            yield from llava_video_178k.to_samples(path, bad=bad)
        case "llava-onevision":
            yield from llava_onevision.to_samples(path, media=media, bad=bad)
        case "manifest":
            manifest = read_manifest(path)
            for index in range(len(manifest)):
                try:
                    yield manifest.raw(index)
                except DataError as error:
                    bad(error)


def base_folder(path: Path) -> Path:
    """Name the folder that a source's paths are relative to."""
    return path if path.is_dir() else path.parent


def detect_layout(path: Path) -> Layout:
    """Say what a file or folder looks like.

    Raises:
        DataError: like nothing that is known.
    """
    if path.is_dir():
        if list((path / "llava").glob("*.json")):
            return "llava"
        if list((path / "data").glob("*.parquet")) or list(path.glob("*.parquet")):
            first = next(iter([*(path / "data").glob("*.parquet"), *path.glob("*.parquet")]))
            return _parquet_layout(first)
        if list(path.glob("*/*.parquet")):
            return "llava-onevision"
        if list(path.glob("*/*.json")):
            return "llava-video-178k"
        if list(path.glob("*.json")):
            return "llava"
    elif path.suffix == ".parquet":
        return _parquet_layout(path)
    elif path.suffix == ".json":
        return "llava"
    elif path.suffix == ".jsonl":
        with path.open(encoding="utf-8-sig", errors="replace") as lines:
            first = list(islice((line for line in lines if line.strip()), ROWS_LOOKED_AT))
        return "videomarathon" if any(map(_has_question, first)) else "manifest"
    raise DataError(
        f"{path}: its layout is not known by its look; say which with --layout: manifest, llava, "
        "videomarathon, llava-video-178k or llava-onevision"
    )


def _parquet_layout(path: Path) -> Layout:
    names = set(open_parquet(path).schema_arrow.names)
    if {"question", "answer"} <= names:
        return "videomarathon"
    return "llava-onevision" if "image" in names else "manifest"


def _has_question(line: str) -> bool:
    try:
        return {"question", "answer"} <= set(parse_json(line))
    except (ValueError, TypeError):
        return False
