"""The manifest: training samples by number, without reading them all.

    {"id": "v1:0000", "video": "videos/v1.mp4", "source": "ego4d", "conversations": [
      {"from": "human", "value": "<video>\\nWhy?"}, {"from": "gpt", "value": "So."}]}

JSONL (one sample a line), Parquet (the same fields as columns), or a LLaVA JSON list. Paths are
relative to the manifest's folder, or to `root`. Neither torch nor any decoder is imported.
"""

from __future__ import annotations

import codecs
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, overload

import numpy as np

from hour_llava.errors import DataError

IMAGE, VIDEO = "<image>", "<video>"
FEATURES_SUFFIX = ".safetensors"
_SCAN_BYTES = 16 * 2**20
_SHOWN_LETTERS = 300

Turns = tuple[Mapping[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One conversation and what it is about: text alone, images, or one video.

    Args:
        id: Names the sample in logs and errors.
        conversations: {"from": "human" | "gpt", "value": text}, in turn.
        images: Paths of the images, in the order of their `<image>`.
        video: Path of the video.
        features: Path of the video's features; read instead of the video where given.
        source: The dataset it came from.
    """

    id: str
    conversations: Turns
    images: tuple[str, ...] = ()
    video: str | None = None
    features: str | None = None
    source: str = ""

    @property
    def group(self) -> str:
        """Name what is read for the sample: samples of one video share it."""
        return self.features or self.video or (self.images[0] if self.images else self.id)

    def to_row(self) -> dict[str, Any]:
        """Give the manifest's fields, those that hold nothing left out."""
        row: dict[str, Any] = {"id": self.id}
        if self.images:
            row["images"] = list(self.images)
        for name in ("video", "features", "source"):
            if getattr(self, name):
                row[name] = getattr(self, name)
        return row | {"conversations": [dict(turn) for turn in self.conversations]}


def sample_from_row(row: Any, *, where: str) -> Sample:
    """Read a sample from a manifest's or a LLaVA JSON's fields.

    `image` (a path or a list) is taken as `images`, `data_source` as `source`; in a video's sample
    `<image>` means the video, as LLaVA writes it.

    Args:
        row: The fields; others are ignored.
        where: File and line, for the error.

    Raises:
        DataError: names the place, the field, and what stands there.
    """
    if not isinstance(row, Mapping):
        raise DataError(f"{where}: a sample is an object, this is {type(row).__name__}")
    video = _only_video(row, where)
    features = _text(row, "features", where) or None
    sample_id = row.get("id")
    given = row.get("images", row.get("image"))
    images = _paths(given, where)
    if images and (video or features):
        raise DataError(f"{where}: it has {len(images)} images and a video; a sample has one kind")
    turns = _turns(row.get("conversations"), where, is_video=bool(video or features))
    return Sample(
        id=_printable(str(sample_id)) if sample_id not in (None, "") else where,
        conversations=turns,
        images=images,
        video=video,
        features=features,
        source=_text(row, "source", where) or _text(row, "data_source", where),
    )


def shown(path: str) -> str:
    """Give a path as errors tell it: the end of a long one; what cannot be printed as its code."""
    text = path if path.isprintable() else path.encode("unicode_escape").decode()
    return text if len(text) <= _SHOWN_LETTERS else f"..{text[-_SHOWN_LETTERS:]}"


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _text(row: Mapping[str, Any], name: str, where: str) -> str:
    value = row.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DataError(f"{where}: `{name}` is {type(value).__name__}, it must be text")
    return value


def _only_video(row: Mapping[str, Any], where: str) -> str | None:
    given = row.get("video", row.get("videos"))
    if isinstance(given, list | tuple) and len(given) != 1:
        if not given:
            return None
        raise DataError(
            f"{where}: it has {len(given)} videos; a sample is about one video: split it"
        )
    if isinstance(given, list | tuple):
        given = given[0]
    return _text({"video": given}, "video", where) or None


def _paths(given: Any, where: str) -> tuple[str, ...]:
    paths = [given] if isinstance(given, str) else given
    if paths is None or (isinstance(given, str) and not given):
        return ()
    if not isinstance(paths, list | tuple) or not all(isinstance(p, str) and p for p in paths):
        raise DataError(f"{where}: `images` must be paths, it is {given!r:.80}")
    return tuple(paths)


def _turns(given: Any, where: str, *, is_video: bool) -> Turns:
    if not isinstance(given, list | tuple) or not given:
        raise DataError(f"{where}: no `conversations`: a list of {{from, value}} is needed")
    turns: list[Mapping[str, str]] = []
    for number, turn in enumerate(given):
        if not isinstance(turn, Mapping) or not {"from", "value"} <= turn.keys():
            raise DataError(f"{where}: turn {number} has no `from` and `value`")
        speaker, value = turn["from"], turn["value"]
        if not isinstance(speaker, str) or not isinstance(value, str):
            raise DataError(f"{where}: turn {number}: `from` and `value` must be text")
        turns.append({"from": speaker, "value": value.replace(IMAGE, VIDEO) if is_video else value})
    return tuple(turns)


class _Rows(Protocol):
    """Where a manifest's rows lie."""

    def __len__(self) -> int: ...
    def row(self, index: int) -> Any: ...
    def opened(self) -> AbstractContextManager[Callable[[int], Any]]: ...
    def where(self, index: int) -> str: ...


class Manifest(Sequence[Sample]):
    """The samples of a file, read one by one as asked for; paths come out absolute.

    Args:
        rows: Where they lie.
        root: What their paths are relative to.
        features: A folder of extracted features: a video that has some there is read from them.
    """

    def __init__(self, rows: _Rows, *, root: Path, features: Path | None = None) -> None:
        self._rows, self.root, self.features = rows, root, features

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | Sequence[Sample]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        sample = self.raw(number)
        return self._placed(sample)

    def raw(self, index: int) -> Sample:
        """Give a sample with its paths as they stand in the file."""
        return sample_from_row(self._rows.row(index), where=self._rows.where(index))

    def where(self, index: int) -> str:
        """Say where a sample stands: file and line."""
        return self._rows.where(index)

    def id_of(self, index: int) -> str:
        """Name a row that may be no sample; empty where it has no id, or cannot be read."""
        try:
            row = self._rows.row(index)
        except DataError:
            return ""
        found = row.get("id") if isinstance(row, Mapping) else None
        return "" if found is None else _printable(str(found))

    def groups(self) -> np.ndarray:
        """Number what each sample reads: equal numbers (n,) share a video; reads every row."""
        numbers: dict[str, int] = {}
        found = np.empty(len(self), dtype=np.int64)
        with self._rows.opened() as row:
            for index in range(len(self)):
                try:
                    group = sample_from_row(row(index), where=self.where(index)).group
                except DataError:  # it is named when its turn comes
                    group = f"\0{index}"
                found[index] = numbers.setdefault(group, len(numbers))
        return found

    def _placed(self, sample: Sample) -> Sample:
        video = None if sample.video is None else str(self.root / sample.video)
        features = None if sample.features is None else str(self.root / sample.features)
        if features is None and sample.video is not None and self.features is not None:
            extracted = features_path(self.features, sample.video)
            features = str(extracted) if is_file(extracted) else None
        images = tuple(str(self.root / image) for image in sample.images)
        return replace(sample, video=video, features=features, images=images)


def why_no_file(path: Path) -> str:
    """Say why there is nothing to read at a path; nothing where there is.

    A pipe would be waited for, for ever.
    """
    if path.is_dir():
        return "is a folder, not a file"
    if not path.is_file():
        return "is no regular file" if path.exists() else "does not exist"
    return "" if path.stat().st_size else "has 0 bytes"


def is_file(path: Path) -> bool:
    """Say whether there is a file; a path that no system takes, being too long, has none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def features_path(folder: Path, video: str) -> Path:
    """Say where the features of a video lie: its path in the manifest, under `folder`.

    Raises:
        DataError: the path names no file.
    """
    parts = [part for part in Path(video).parts if part not in ("..", Path(video).anchor)]
    if not parts:
        raise DataError(f"the video {video!r} names no file: its features have no place")
    return folder.joinpath(*parts[:-1], parts[-1] + FEATURES_SUFFIX)


def read_manifest(
    path: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str] | None = None,
    features: str | os.PathLike[str] | None = None,
) -> Manifest:
    """Open a manifest: `.jsonl`, `.parquet`, or a LLaVA `.json`.

    Args:
        path: The file.
        root: What its paths are relative to; default: the file's folder.
        features: A folder that `hour-llava extract` filled.

    Raises:
        DataError: no such file, another kind, nothing in it.

    Cost: for a million lines of 1 kB about a second, and 8 MB.
    """
    file = Path(path)
    if not file.is_file():
        kind = "is a folder" if file.is_dir() else "does not exist"
        raise DataError(f"{file}: the manifest {kind}; name a .jsonl, .parquet or .json file")
    kinds = {".jsonl": _JsonLines, ".parquet": _ParquetRows, ".json": _JsonList}
    if file.suffix not in kinds:
        raise DataError(
            f"{file}: a manifest is a {', '.join(kinds)} file; `hour-llava data group` makes one "
            "from other layouts"
        )
    if file.stat().st_size == 0:
        raise DataError(f"{file}: the manifest is empty (0 bytes)")
    rows = kinds[file.suffix](file)
    if not len(rows):
        raise DataError(f"{file}: the manifest has no samples")
    folder = None if features is None else Path(features)
    if folder is not None and not folder.is_dir():
        raise DataError(f"{folder}: no such folder of features; `hour-llava extract` makes one")
    return Manifest(
        rows, root=file.parent.absolute() if root is None else Path(root), features=folder
    )


def manifest_of(samples: Iterable[Sample], *, root: str | os.PathLike[str] = ".") -> Manifest:
    """Make a manifest of samples in memory."""
    return Manifest(_Listed([sample.to_row() for sample in samples], "sample"), root=Path(root))


def write_manifest(path: Path, samples: Iterable[Sample]) -> int:
    """Write samples as JSONL, whole or not at all, and return their number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    count = 0
    try:
        with open(number, "w", encoding="utf-8") as file:  # noqa: PTH123  a descriptor
            for sample in samples:
                file.write(_line(sample) + "\n")
                count += 1
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return count


def _line(sample: Sample) -> str:
    """Give a sample as JSON, readable; escaped where it holds what is no Unicode."""
    row = sample.to_row()
    text = json.dumps(row, ensure_ascii=False)
    return text if _printable(text) == text else json.dumps(row)


class _JsonLines:
    """Lines of a file found by their offsets; blank lines are no samples."""

    def __init__(self, path: Path) -> None:
        require_utf8(path)
        self._path = path
        self._starts, self._lines = _line_starts(path)

    def __len__(self) -> int:
        return len(self._starts)

    def where(self, index: int) -> str:
        return f"{self._path}:{int(self._lines[index]) + 1}"

    def row(self, index: int) -> Any:
        with self.opened() as row:
            return row(index)

    @contextmanager
    def opened(self) -> Iterator[Callable[[int], Any]]:
        """Open the file once for many rows."""
        with self._path.open("rb") as file:

            def row(index: int) -> Any:
                file.seek(int(self._starts[index]))
                try:
                    return parse_json(file.readline())
                except ValueError as error:
                    raise DataError(f"{self.where(index)}: no JSON: {error}") from error

            yield row


def _line_starts(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Find where lines begin that hold more than white space, and their numbers."""
    ends: list[np.ndarray] = []
    offset = 0
    with path.open("rb") as file:
        while block := file.read(_SCAN_BYTES):
            ends.append(offset + np.flatnonzero(np.frombuffer(block, dtype=np.uint8) == 10))
            offset += len(block)
        starts = np.concatenate([np.zeros(1, dtype=np.int64), *(end + 1 for end in ends)])
        lengths = np.diff(starts, append=offset)
        is_sample = lengths > 2
        for short in np.flatnonzero((lengths > 0) & (lengths <= 80)):
            file.seek(int(starts[short]))
            is_sample[short] = bool(file.read(int(lengths[short])).strip())
    return starts[is_sample], np.flatnonzero(is_sample)


class _Listed:
    """Rows in memory."""

    def __init__(self, rows: Sequence[Any], name: str) -> None:
        self._rows, self._name = rows, name

    def __len__(self) -> int:
        return len(self._rows)

    def where(self, index: int) -> str:
        return f"{self._name}:{index}"

    def row(self, index: int) -> Any:
        return self._rows[index]

    def opened(self) -> AbstractContextManager[Callable[[int], Any]]:
        return nullcontext(self.row)


class _JsonList(_Listed):
    """A LLaVA JSON: one list of samples, read whole."""

    def __init__(self, path: Path) -> None:
        super().__init__(read_json_list(path), str(path))


def require_utf8(path: Path) -> None:
    """Refuse JSON lines in UTF-16, as some editors save them: their ends are not to be found.

    Raises:
        DataError: the file begins with UTF-16's mark.
    """
    with path.open("rb") as file:
        if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            raise DataError(
                f"{path}: this is UTF-16, JSON lines are UTF-8: iconv -f UTF-16 -t UTF-8 FILE > NEW"
            )


def parse_json(text: str | bytes) -> Any:
    """Parse what somebody else wrote.

    Raises:
        ValueError: it is no JSON, or lists within lists beyond what Python reads.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def read_json_list(path: Path) -> list[Any]:
    """Read a JSON file that is one list.

    Raises:
        DataError: it is not; names the file and the place.
    """
    try:
        rows = parse_json(path.read_bytes())
    except (ValueError, OSError) as error:
        raise DataError(f"{path}: no JSON: {error}") from error
    if not isinstance(rows, list):
        raise DataError(f"{path}: a training JSON is a list, this is {type(rows).__name__}")
    return rows


class _ParquetRows:
    """Rows of a Parquet file, a row group at a time; the last one stays in memory."""

    def __init__(self, path: Path) -> None:
        self._path, self._file = path, open_parquet(path)
        counts = [
            self._file.metadata.row_group(i).num_rows for i in range(self._file.num_row_groups)
        ]
        self._ends = np.cumsum([0, *counts])
        self._held: tuple[int, list[Any]] = (-1, [])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def where(self, index: int) -> str:
        return f"{self._path}:row {index}"

    def row(self, index: int) -> Any:
        group = int(np.searchsorted(self._ends, index, side="right")) - 1
        if self._held[0] != group:
            self._held = (group, self._file.read_row_group(group).to_pylist())
        return self._held[1][index - int(self._ends[group])]

    def opened(self) -> AbstractContextManager[Callable[[int], Any]]:
        return nullcontext(self.row)

    def __getstate__(self) -> dict[str, Any]:  # data workers open it anew
        return {"path": self._path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"])


def open_parquet(path: Path) -> Any:
    """Open a Parquet file.

    Raises:
        DataError: pyarrow is not installed, or the file is no Parquet.
    """
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise DataError(
            f"{path}: reading Parquet needs pyarrow: pip install 'hour-llava[train]'"
        ) from error
    try:
        return pq.ParquetFile(path)
    except Exception as error:
        raise DataError(f"{path}: no readable Parquet file: {error}") from error


def parquet_rows(path: Path, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """Stream the rows of a Parquet file, or only those of its columns that are named."""
    file = open_parquet(path)
    names = None if columns is None else [n for n in columns if n in file.schema_arrow.names]
    for batch in file.iter_batches(batch_size=1024, columns=names):
        yield from batch.to_pylist()
