"""Others' layouts, in miniature: each schema as its dataset has it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from hour_llava.data.readers import llava_json, llava_onevision, llava_video_178k, videomarathon
from hour_llava.data.readers.layouts import detect_layout, read_layout
from hour_llava.errors import DataError
from hour_llava.world.questions import make_questions
from hour_llava.world.timeline import make_timeline

pa = pytest.importorskip("pyarrow")
import pyarrow.parquet as pq  # noqa: E402

TURNS = [{"from": "human", "value": "<image>\nwhy"}, {"from": "gpt", "value": "so"}]
PUBLISHED = {
    "id": "1",
    "video": "ego4d/1.mp4",
    "URL": "https://example.org/1",
    "question_type": "scene/mc",
    "question": "Where?\nA. here\nB. there",
    "answer": "B. there",
    "data_source": "ego4d",
}


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def test_published_rows_stay_as_they_are_and_ours_get_letters(tmp_path: Path) -> None:
    ours = {**PUBLISHED, "question": "Where <image>?", "answer": "there", "topic": "Scene"}
    ours |= {"options": ["here", "there"], "answer_letter": "B"}
    folder = tmp_path / "release"
    write_parquet(folder / "data/train-00000-of-00001.parquet", [ours, {**ours, "options": None}])
    write_parquet(folder / "data/test-00000-of-00001.parquet", [ours])
    lettered, plain = videomarathon.to_samples(folder)
    assert lettered.conversations[0]["value"] == (
        "<video>\nWhere ?\nA. here\nB. there\n"
        "Answer with the option's letter from the given choices directly."
    )
    assert [lettered.conversations[1]["value"], plain.conversations[1]["value"]] == ["B", "there"]
    (tmp_path / "rows.jsonl").write_text(json.dumps(PUBLISHED) + "\n")
    (published,) = read_layout(tmp_path / "rows.jsonl", None, media=tmp_path)
    assert published.conversations[0]["value"] == "<video>\nWhere?\nA. here\nB. there"
    assert (published.video, published.source, published.id) == ("ego4d/1.mp4", "ego4d", "1")
    with pytest.raises(DataError, match="column `answer`"):
        (tmp_path / "rows.jsonl").write_text(json.dumps({**PUBLISHED, "answer": None}))
        list(videomarathon.to_samples(tmp_path / "rows.jsonl"))


def test_llava_json_holds_images_videos_and_text(tmp_path: Path) -> None:
    rows = [
        {"id": 1, "image": "a.png", "conversations": TURNS},
        {"id": 2, "image": ["a.png", "b.png"], "conversations": TURNS},
        {"id": 3, "video": "v.mp4", "data_source": "ego4d", "conversations": TURNS},
        {"id": 4, "conversations": TURNS[1:]},
    ]
    (tmp_path / "llava").mkdir()
    (tmp_path / "llava/train.json").write_text(json.dumps(rows))
    (tmp_path / "llava/test.json").write_text(json.dumps(rows))
    one, two, three, four = llava_json.to_samples(tmp_path)
    assert (one.images, two.images) == (("a.png",), ("a.png", "b.png"))
    assert three.conversations[0]["value"] == "<video>\nwhy"
    assert (three.source, four.video, four.id) == ("ego4d", None, "4")
    assert detect_layout(tmp_path) == "llava"


def test_llava_video_178k_paths_lie_in_their_configuration(tmp_path: Path) -> None:
    folder = tmp_path / "0_30_s_academic_v0_1"
    folder.mkdir()
    rows = [{"id": "1", "conversations": TURNS, "data_source": "x", "video": "academic/1.mp4"}]
    (folder / "0_30_s_academic_oe_v0_1_qa_processed.json").write_text(json.dumps(rows))
    assert detect_layout(tmp_path) == "llava-video-178k"
    (sample,) = llava_video_178k.to_samples(tmp_path)
    assert sample.video == "0_30_s_academic_v0_1/academic/1.mp4"
    (alone,) = llava_video_178k.to_samples(next(folder.glob("*.json")))
    assert alone.video == "academic/1.mp4"


def test_llava_onevision_writes_its_images_out_once(tmp_path: Path) -> None:
    box = io.BytesIO()
    Image.new("RGB", (3, 2), (9, 9, 9)).save(box, "PNG")
    picture = {"bytes": box.getvalue(), "path": None}
    rows = [
        {"id": "1", "image": picture, "conversations": TURNS, "data_source": "s"},
        {"id": "2", "image": picture, "conversations": TURNS, "data_source": "s"},
        {"id": "3", "image": None, "conversations": TURNS[1:], "data_source": "s"},
    ]
    write_parquet(tmp_path / "set/cfg/train-00000-of-00001.parquet", rows)
    assert detect_layout(tmp_path / "set") == "llava-onevision"
    samples = list(llava_onevision.to_samples(tmp_path / "set", media=tmp_path / "media"))
    assert samples[0].images == samples[1].images
    assert Image.open(samples[0].images[0]).size == (3, 2)
    assert samples[2].images == ()
    assert len([p for p in (tmp_path / "media").rglob("*") if p.is_file()]) == 1


def test_what_looks_like_nothing_asks_for_the_layout(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--layout"):
        detect_layout(tmp_path)
    with pytest.raises(DataError, match="no such file"):
        list(read_layout(tmp_path / "none", None, media=tmp_path))


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_lines_in_utf_16_are_refused_once_and_by_name(tmp_path: Path, encoding: str) -> None:
    path, row = tmp_path / "rows.jsonl", {"id": "a", "conversations": TURNS, "image": "a.png"}
    path.write_bytes(f"\ufeff{json.dumps(row)}\n".encode(encoding) * 2)
    for layout in (None, "llava", "videomarathon", "manifest"):
        with pytest.raises(DataError, match=r"rows\.jsonl: this is UTF-16.*iconv"):
            list(read_layout(path, layout, media=tmp_path, bad=lambda error: None))


def test_the_worlds_own_questions_are_told_from_training_rows(tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    question = make_questions(make_timeline(20, seed=1), seed=1)[0]
    path.write_text(question.to_json() + "\n")
    with pytest.raises(DataError, match=r"questions\.jsonl:1: a question of MarathonWorld.*synth"):
        list(read_layout(path, None, media=tmp_path))
