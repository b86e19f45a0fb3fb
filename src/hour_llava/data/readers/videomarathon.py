"""VideoMarathon: one question a row, in the published columns, with or without ours behind.

    id, video, URL, question_type, question, answer, data_source | options, answer_letter, ...

A row of ours that has `options` becomes the question with lettered options, answered by the letter.
A published multiple-choice row carries its options inside `question`; both texts stay as they are.
Source: the columns of jylins/videomarathon.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from hour_llava.data.manifest import VIDEO, Sample, parquet_rows, sample_from_row
from hour_llava.data.readers.bad_rows import Bad, refuse
from hour_llava.data.readers.llava_json import rows_of
from hour_llava.errors import DataError

COLUMNS = ("id", "video", "question_type", "question", "answer", "data_source")
OUR_COLUMNS = ("options", "answer_letter")
LETTER_PROMPT = "Answer with the option's letter from the given choices directly."


def to_samples(path: Path, *, bad: Bad = refuse) -> Iterator[Sample]:
    """Read a Parquet, JSON or JSONL file of rows, or the training split of a release's folder.

    Raises:
        DataError: names the file, the row, and the column that is missing.
    """
    for file in _files(path):
        if file.suffix == ".parquet":
            rows = enumerate(parquet_rows(file, (*COLUMNS, *OUR_COLUMNS)))
        else:
            rows = rows_of(file, bad)
        for number, row in rows:
            try:
                yield _sample(row, f"{file}:{number}")
            except DataError as error:
                bad(error)


def _sample(row: Any, where: str) -> Sample:
    if not isinstance(row, Mapping):
        raise DataError(f"{where}: a row is an object, this is {type(row).__name__}")
    if "video" not in row and "family" in row:
        raise DataError(
            f"{where}: a question of MarathonWorld, which names no video; `hour-llava synth init` "
            "makes training rows of the folder of its videos"
        )
    for name in ("video", "question", "answer"):
        if not isinstance(row.get(name), str):
            raise DataError(f"{where}: column `{name}` is {row.get(name)!r}, it must be text")
    question, answer = _plain(row["question"]), _plain(row["answer"])
    if row.get("options"):
        options, answer = _options(row, where)
        question = "\n".join([question, *options, LETTER_PROMPT])
    fields = {
        "id": row.get("id"),
        "video": row["video"],
        "source": row.get("data_source"),
        "conversations": [
            {"from": "human", "value": f"{VIDEO}\n{question}"},
            {"from": "gpt", "value": answer},
        ],
    }
    return sample_from_row(fields, where=where)


def _options(row: Mapping[str, Any], where: str) -> tuple[list[str], str]:
    """Give lettered lines and the right letter."""
    options, letter = row["options"], row.get("answer_letter")
    if not isinstance(options, list) or not all(isinstance(text, str) for text in options):
        raise DataError(f"{where}: column `options` is {options!r}, it must be a list of texts")
    if len(options) > len(ascii_uppercase):
        raise DataError(f"{where}: column `options` has {len(options)} texts, there are 26 letters")
    letters = ascii_uppercase[: len(options)]
    if not isinstance(letter, str) or len(letter) != 1 or letter not in letters:
        raise DataError(
            f"{where}: column `answer_letter` is {letter!r}, it must be one of {letters}"
        )
    return [f"{a}. {_plain(text)}" for a, text in zip(letters, options, strict=True)], letter


def _plain(text: str) -> str:
    """Take out what a loader would obey: a second placeholder would ask for a second video."""
    return text.replace("<image>", "").replace(VIDEO, "").strip()


def _files(path: Path) -> list[Path]:
    """Choose the training shards, so that held-out videos are not trained on."""
    if path.is_file():
        return [path]
    folder = path / "data" if (path / "data").is_dir() else path
    files = sorted(file for kind in ("parquet", "jsonl") for file in folder.glob(f"*.{kind}"))
    training = [file for file in files if file.stem.startswith("train")]
    if not files:
        raise DataError(f"{path}: no .parquet or .jsonl rows here, nor in {path / 'data'}")
    return training or files
