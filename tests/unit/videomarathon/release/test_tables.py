"""The published columns keep their names and places; ours stand behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from hour_llava.tasks import TASKS, task_named
from hour_llava.videomarathon.release.content import read_content
from hour_llava.videomarathon.release.parquet import (
    PUBLISHED_COLUMNS,
    count_rows,
    write_tables,
)

Make = Callable[..., Any]


def _rows(make_memory_build: Make, folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    content = read_content(make_memory_build("truth", "endpoint"))
    write_tables(folder, {"train": content.videos}, {"kind": "training"})
    table = pq.read_table(folder / "data" / "train-00000-of-00001.parquet")
    return table.to_pylist(), table.column_names


def test_published_columns_come_first(make_memory_build: Make, tmp_path: Path) -> None:
    _, names = _rows(make_memory_build, tmp_path / "out")

    assert tuple(names[: len(PUBLISHED_COLUMNS)]) == (
        "id",
        "video",
        "URL",
        "question_type",
        "question",
        "answer",
        "data_source",
    )


def test_question_type_begins_with_the_topic_and_ends_with_the_format(
    make_memory_build: Make, tmp_path: Path
) -> None:
    rows, _ = _rows(make_memory_build, tmp_path / "out")

    for row in rows:
        topic, task, form = row["question_type"].split("/")
        assert (task, form) == (row["task"], row["format"])
        assert topic == task_named(task).topic.lower()
    assert {row["question_type"] for row in rows} == {
        f"{task.topic.lower()}/{task.slug}/{form}" for task in TASKS for form in task.formats
    } - {"event/overall_summarization/oe"}  # the last row of each video is rejected


def test_an_answer_is_one_of_the_options_and_has_their_letter(
    make_memory_build: Make, tmp_path: Path
) -> None:
    rows, _ = _rows(make_memory_build, tmp_path / "out")

    for row in rows:
        if row["format"] == "mc":
            assert row["options"]["ABCD".index(row["answer_letter"])] == row["answer"]
        else:
            assert row["options"] is None and row["answer_letter"] is None


def test_evidence_claims_and_verdicts_survive(make_memory_build: Make, tmp_path: Path) -> None:
    build = make_memory_build("truth")
    content = read_content(build)
    write_tables(tmp_path / "out", {"train": content.videos}, {})
    rows = pq.read_table(tmp_path / "out" / "data" / "train-00000-of-00001.parquet").to_pylist()
    records = {row.id: row for row in build.stages["balance"]}

    for row in rows:
        record = records[row["id"]]
        assert row["evidence"] == [item.model_dump(mode="json") for item in record.evidence]
        assert row["verdicts"] == [item.model_dump(mode="json") for item in record.verdicts]
        assert (row["claim"] is None) == (record.claim is None)
        if record.claim is not None:
            assert row["claim"]["items"][0]["span"] == {"start_ms": 0, "end_ms": 45_000}


def test_counting_without_writing_gives_the_same_numbers(
    make_memory_build: Make, tmp_path: Path
) -> None:
    videos = {"train": read_content(make_memory_build("truth")).videos, "test": ()}

    assert count_rows(videos) == write_tables(tmp_path / "out", videos, {})
