"""LLaVA-OneVision: Parquet rows whose images lie inside, or LLaVA JSON (multi-image, raw format).

    <configuration>/train-00000-of-00001.parquet     id, image {bytes, path} | null, conversations,
                                                     data_source

Images are written out once, under `media`, named by what they hold; a row without one is text.
Source: the layout of lmms-lab/LLaVA-OneVision-Data.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hour_llava.data.manifest import Sample, parquet_rows, sample_from_row
from hour_llava.data.readers import llava_json
from hour_llava.data.readers.bad_rows import Bad, refuse
from hour_llava.errors import DataError

COLUMNS = ("id", "image", "images", "conversations", "data_source")
_KINDS = ((b"\x89PNG", ".png"), (b"\xff\xd8", ".jpg"), (b"GIF8", ".gif"), (b"RIFF", ".webp"))


def to_samples(path: Path, *, media: Path, bad: Bad = refuse) -> Iterator[Sample]:
    """Read the dataset's folder, a configuration's, or one file.

    Args:
        path: Where the Parquet or JSON files are.
        media: A folder for the images of Parquet rows; their paths come out absolute.

    Raises:
        DataError: names the file, the row and the field.
    """
    files = [path] if path.is_file() else sorted([*path.rglob("*.parquet"), *path.rglob("*.json")])
    if not files:
        raise DataError(f"{path}: no .parquet or .json file")
    for file in files:
        if file.suffix != ".parquet":
            yield from llava_json.to_samples(file, bad=bad)
            continue
        for number, row in enumerate(parquet_rows(file, COLUMNS)):
            try:
                yield _sample(row, media, f"{file}:row {number}")
            except DataError as error:
                bad(error)


def _sample(row: dict[str, Any], media: Path, where: str) -> Sample:
    given = row.pop("images", None) or row.pop("image", None)
    pictures = given if isinstance(given, list) else [given] if given else []
    images = [_written(picture, media, where) for picture in pictures]
    return sample_from_row({**row, "images": images, "image": None}, where=where)


def _written(picture: Any, media: Path, where: str) -> str:
    """Give an image's path; its bytes are written once."""
    if isinstance(picture, str):
        return picture
    content = picture.get("bytes") if isinstance(picture, Mapping) else None
    if not isinstance(content, bytes) or not content:
        raise DataError(f"{where}: `image` holds no bytes")
    suffix = next((kind for magic, kind in _KINDS if content.startswith(magic)), ".img")
    name = hashlib.blake2b(content, digest_size=16).hexdigest()
    file = media / name[:2] / (name + suffix)
    if not file.is_file() or file.stat().st_size != len(content):
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_name(f".{file.name}")
        unfinished.write_bytes(content)
        unfinished.replace(file)
    return str(file.absolute())
