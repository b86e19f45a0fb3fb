"""`ManifestCheck` says of a path what is there instead of a file."""

from __future__ import annotations

from pathlib import Path

from hour_llava.data.check import ManifestCheck
from hour_llava.data.manifest import Sample, read_manifest, write_manifest


def test_an_image_path_that_is_a_folder_is_called_one(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "empty.png").touch()
    turns = ({"from": "human", "value": "what"}, {"from": "gpt", "value": "a cat"})
    names = ("images", "none.png", "empty.png")
    rows = [Sample(id=name, conversations=turns, images=(name,)) for name in names]
    write_manifest(tmp_path / "m.jsonl", rows)
    found = ManifestCheck(read_manifest(tmp_path / "m.jsonl")).run()
    assert [fault.text for fault in found.faults] == [
        f"{tmp_path / 'images'} is a folder, not a file",
        f"{tmp_path / 'none.png'} does not exist",
        f"{tmp_path / 'empty.png'} has 0 bytes",
    ]


def test_a_row_that_is_no_sample_is_named_by_its_id_where_it_has_one(tmp_path: Path) -> None:
    rows = ['{"id": "two", "video": ["a", "b"]}', '{"id": 3}', "{}", "[]", "{"]
    (tmp_path / "m.jsonl").write_text("\n".join(rows))
    found = ManifestCheck(read_manifest(tmp_path / "m.jsonl")).run()
    assert [(fault.kind, fault.sample_id) for fault in found.faults] == [
        *(("row", "two"), ("row", "3"), ("row", ""), ("row", ""), ("row", "")),
    ]
