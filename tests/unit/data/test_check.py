"""`ManifestCheck` says of a path what is there instead of a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image

from hour_llava.data.check import ManifestCheck
from hour_llava.data.extraction import taken_fault
from hour_llava.data.features import FeaturesHeader, open_features, write_features
from hour_llava.data.manifest import Sample, read_manifest, write_manifest
from hour_llava.video import probe


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


def test_an_image_of_which_pillow_would_warn_is_noted(tmp_path: Path) -> None:
    turns = ({"from": "human", "value": "what"}, {"from": "gpt", "value": "a cat"})
    for name, width in (("huge.png", 10_000), ("large.png", 9_000)):
        Image.new("1", (width, 9_000)).save(tmp_path / name)
    rows = [
        Sample(id=name, conversations=turns, images=(name,)) for name in ("huge.png", "large.png")
    ]
    write_manifest(tmp_path / "m.jsonl", rows)
    found = ManifestCheck(read_manifest(tmp_path / "m.jsonl"), open_media=False).run()
    assert (found.faults, found.notices["huge"]) == ([], 1)
    (note,) = found.notes
    assert note.text == f"{tmp_path / 'huge.png'}, 10000 x 9000 pixels"


def test_a_row_nested_too_deeply_is_one_fault_among_others(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text('{"id": "a"}\n' + "[" * 100_000 + '\n{"id": "c"}\n')
    found = ManifestCheck(read_manifest(tmp_path / "m.jsonl")).run()
    assert [fault.kind for fault in found.faults] == ["row", "row", "row"]
    assert "m.jsonl:2: no JSON: nested too deeply" in found.faults[1].text


def test_a_row_that_is_no_sample_is_named_by_its_id_where_it_has_one(tmp_path: Path) -> None:
    rows = ['{"id": "two", "video": ["a", "b"]}', '{"id": 3}', "{}", "[]", "{"]
    (tmp_path / "m.jsonl").write_text("\n".join(rows))
    found = ManifestCheck(read_manifest(tmp_path / "m.jsonl")).run()
    assert [(fault.kind, fault.sample_id) for fault in found.faults] == [
        *(("row", "two"), ("row", "3"), ("row", ""), ("row", ""), ("row", "")),
    ]


def test_what_no_file_can_be_called_and_what_is_no_unicode_are_faults_of_their_rows(
    tmp_path: Path,
) -> None:
    asked, said = {"from": "human", "value": "what"}, {"from": "gpt", "value": "a cat"}
    rows = [
        Sample(id="long", conversations=(asked, said), images=("i" * 5000,)),
        Sample(id="NUL", conversations=(asked, said), images=("a\0.png",)),
        Sample(id="features", conversations=(asked, said), features="f" * 5000),
        Sample(id="video", conversations=(asked, said), video="v" * 5000),
        Sample(id="path", conversations=(asked, said), images=("\ud800.png",)),
        Sample(id="\ud800", conversations=({**asked, "value": "q\ud800?"}, said)),
        Sample(id="who", conversations=({**asked, "from": "\udfff"}, said)),
        Sample(id="pair", conversations=({**asked, "value": "\U0001f600"}, said)),
    ]
    write_manifest(tmp_path / "m.jsonl", rows)
    manifest = read_manifest(tmp_path / "m.jsonl", features=tmp_path)
    found = ManifestCheck(manifest, open_media=False).run()
    assert [(fault.kind, fault.sample_id) for fault in found.faults] == [
        *(("image", "long"), ("image", "NUL"), ("features", "features"), ("video", "video")),
        *(("image", "path"), ("unicode", "\\ud800"), ("role", "who")),
    ]
    texts = [fault.text for fault in found.faults]
    assert texts[0] == f"..{'i' * 300} cannot be opened: File name too long"
    assert texts[5] == "turn 0 holds \\ud800, half of a character"
    assert all(text.isprintable() and len(text) < 400 for text in texts)


def test_damaged_videos_and_features_of_another_video_are_faults(tmp_path: Path) -> None:
    from hour_llava.world.timeline import make_timeline
    from hour_llava.world.video_file import write_video

    for seed, name in enumerate(("a.mp4", "b.mp4")):
        write_video(make_timeline(16, seed), tmp_path / name)
    whole = (tmp_path / "b.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) * 6 // 10])
    header = FeaturesHeader(
        tower_digest="t",
        duration_seconds=16.0,
        video=str(tmp_path / "a.mp4"),
        content_digest=probe(tmp_path / "a.mp4").content_digest,
    )
    write_features(tmp_path / "f", torch.zeros(16, 4, 8), torch.arange(16), header)
    turns = ({"from": "human", "value": "what"}, {"from": "gpt", "value": "a cat"})
    rows = [
        Sample(id="own", video="a.mp4", features="f", conversations=turns),
        Sample(id="other", video="b.mp4", features="f", conversations=turns),
        Sample(id="cut", video="cut.mp4", conversations=turns),
    ]
    write_manifest(tmp_path / "m.jsonl", rows)
    found = ManifestCheck(read_manifest(tmp_path / "m.jsonl")).run()
    faults = {fault.sample_id: fault for fault in found.faults}
    assert {name: fault.kind for name, fault in faults.items()} == {
        "other": "features",
        "cut": "video",
    }
    assert "a.mp4 with the content" in faults["other"].text
    file, other = open_features(tmp_path / "f"), str(tmp_path / "b.mp4")
    assert taken_fault(other, file) == f"{tmp_path}/f is of {tmp_path}/a.mp4, not of {other}"
    assert taken_fault(str(tmp_path / "a.mp4"), file) == ""
    (tmp_path / "a.mp4").rename(tmp_path / "moved.mp4")
    assert taken_fault(other, file) == ""  # the start has looked at one of them
    assert "cut.mp4 is damaged for" in faults["cut"].text


def test_a_video_that_training_would_not_read_as_pixels_is_a_fault(
    tmp_path: Path, black_video: Callable[[Path, int], None]
) -> None:
    turns = ({"from": "human", "value": "what"}, {"from": "gpt", "value": "a cat"})
    for num_frames in (1024, 1025):
        black_video(tmp_path / f"{num_frames}.mp4", num_frames)
    names = ("1024.mp4", "1025.mp4")
    rows = [Sample(id=name, video=name, conversations=turns) for name in names]
    write_manifest(tmp_path / "m.jsonl", rows)
    found = ManifestCheck(read_manifest(tmp_path / "m.jsonl")).run()
    assert [(fault.kind, fault.sample_id) for fault in found.faults] == [("video", "1025.mp4")]
    assert "has 1,025 frames, at most 1,024 are read as pixels" in found.faults[0].text
    assert found.num_frames == 2049
