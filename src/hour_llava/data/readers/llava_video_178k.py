"""LLaVA-Video-178K: a folder a configuration, with its JSON files beside its unpacked videos.

    0_30_s_academic_v0_1/0_30_s_academic_oe_v0_1_qa_processed.json    [{id, conversations,
    0_30_s_academic_v0_1/academic_source/...mp4                         data_source, video}]

`video` is relative to the configuration's folder, where the archives unpack.
Source: the layout of lmms-lab/LLaVA-Video-178K.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from hour_llava.data.manifest import Sample, read_json_list, sample_from_row
from hour_llava.data.readers.bad_rows import Bad, refuse
from hour_llava.errors import DataError


def to_samples(path: Path, *, bad: Bad = refuse) -> Iterator[Sample]:
    """Read all configurations of the dataset's folder, or one JSON; paths from that folder.

    Raises:
        DataError: names the file, the row and the field.
    """
    files = [path] if path.is_file() else sorted(path.glob("*/*.json"))
    if not files:
        raise DataError(f"{path}: no */*.json; name the folder that holds the configurations")
    for file in files:
        prefix = Path() if path.is_file() else Path(file.parent.name)
        for number, row in enumerate(read_json_list(file)):
            try:
                yield _sample(row, f"{file}:{number}", prefix, source=file.parent.name)
            except DataError as error:
                bad(error)


def _sample(row: Any, where: str, prefix: Path, *, source: str) -> Sample:
    sample = sample_from_row(row, where=where)
    if sample.video is None:
        raise DataError(f"{where}: it names no `video`")
    return replace(sample, video=str(prefix / sample.video), source=sample.source or source)
