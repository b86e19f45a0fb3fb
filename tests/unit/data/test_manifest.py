"""Manifests: rows by number, paths in place, and what is no sample refused by name."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from hour_llava.data.manifest import (
    Sample,
    features_path,
    manifest_of,
    read_manifest,
    sample_from_row,
    write_manifest,
)
from hour_llava.errors import DataError

TURNS = [{"from": "human", "value": "<image>\nwhy"}, {"from": "gpt", "value": "so"}]


def row(**fields: Any) -> dict[str, Any]:
    return {"id": "a", "conversations": TURNS, **fields}


def test_samples_come_back_as_they_were_written_whatever_the_blank_lines(tmp_path: Path) -> None:
    samples = [
        Sample(id="v", video="x/v.mp4", conversations=tuple(TURNS), source="s"),
        Sample(id="i", images=("1.png", "2.png"), conversations=tuple(TURNS)),
        Sample(id="t", conversations=({"from": "human", "value": "é\n" * 5000},)),
    ]
    path = tmp_path / "m.jsonl"
    assert write_manifest(path, samples) == 3
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("\n", "\n\n   \n").rstrip(), encoding="utf-8")
    manifest = read_manifest(path, root="/data")
    assert len(manifest) == 3
    assert manifest[0].video == "/data/x/v.mp4"
    assert manifest[0].conversations[0]["value"] == "<video>\nwhy"
    assert manifest[1].images == ("/data/1.png", "/data/2.png")
    assert manifest[-1] == samples[2]
    assert manifest.where(1).endswith("m.jsonl:4")
    assert [sample.id for sample in manifest[1:]] == ["i", "t"]
    assert pickle.loads(pickle.dumps(manifest))[0] == manifest[0]


def test_a_parquet_and_a_json_list_are_the_same_manifest(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    rows = [row(id=str(n), video=f"{n}.mp4", source="s") for n in range(7)]
    (tmp_path / "m.json").write_text(json.dumps(rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "m.parquet", row_group_size=3)
    listed, table = (read_manifest(tmp_path / f"m.{kind}") for kind in ("json", "parquet"))
    assert list(table) == list(listed)
    assert pickle.loads(pickle.dumps(table))[6].id == "6"


def test_extracted_features_are_found_under_the_videos_path(tmp_path: Path) -> None:
    manifest = tmp_path / "m.jsonl"
    write_manifest(
        manifest,
        [Sample(id=n, video=f"../{n}.mp4", conversations=tuple(TURNS)) for n in ("a", "b")],
    )
    file = features_path(tmp_path / "f", "../a.mp4")
    file.parent.mkdir()
    file.touch()
    found = read_manifest(manifest, features=tmp_path / "f")
    assert [sample.features for sample in found] == [str(tmp_path / "f/a.mp4.safetensors"), None]
    assert manifest_of(list(found)).groups().tolist() == [0, 1]


@pytest.mark.parametrize("video", ["..", "/", "../.."])
def test_a_video_that_names_no_file_has_no_features(tmp_path: Path, video: str) -> None:
    with pytest.raises(DataError, match="names no file"):
        features_path(tmp_path, video)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ([], "is list"),
        (row(video=["a", "b"]), "2 videos"),
        (row(video="a", image="b"), "a sample has one kind"),
        (row(video=3), "`video` is int"),
        (row(image=[1]), "must be paths"),
        ({"id": "a"}, "no `conversations`"),
        (row(conversations=[{"from": "human"}]), "turn 0 has no"),
        (row(conversations=[{"from": "human", "value": None}]), "turn 0"),
    ],
)
def test_what_is_no_sample_is_refused_with_its_place(bad: Any, said: str) -> None:
    with pytest.raises(DataError, match=f"m:3: .*{said}"):
        sample_from_row(bad, where="m:3")


def test_what_is_no_manifest_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "blank.jsonl").write_text("\n \n")
    (tmp_path / "m.txt").write_text("x")
    (tmp_path / "m.json").write_text("{}")
    (tmp_path / "cut.jsonl").write_text('{"id": 1\n')
    (tmp_path / "m.parquet").write_text("x")
    for name, said in {
        "no.jsonl": "does not exist",
        "": "is a folder",
        "empty.jsonl": "0 bytes",
        "blank.jsonl": "no samples",
        "m.txt": "data group",
        "m.json": "is a list, this is dict",
        "m.parquet": "Parquet",
    }.items():
        with pytest.raises(DataError, match=said):
            read_manifest(tmp_path / name)
    with pytest.raises(DataError, match=r"cut\.jsonl:1: no JSON"):
        read_manifest(tmp_path / "cut.jsonl")[0]
    with pytest.raises(DataError, match="no such folder of features"):
        (tmp_path / "ok.jsonl").write_text(json.dumps(row()))
        read_manifest(tmp_path / "ok.jsonl", features=tmp_path / "none")
