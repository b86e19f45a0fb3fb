"""A release holds what it says, says what it is, and stands whole or not at all."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from hour_llava.errors import BuildError
from hour_llava.videomarathon.records import SetAside
from hour_llava.videomarathon.release import seal as seal_module
from hour_llava.videomarathon.release.content import DEMONSTRATION_NOTE
from hour_llava.videomarathon.release.manifest import verify_manifest
from hour_llava.videomarathon.release.seal import seal
from hour_llava.videomarathon.settings import Splits

Make = Callable[..., Any]


@pytest.fixture(autouse=True)
def _quick_plots(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the drawing, half a second a release, to the tests that look at pictures or bytes."""
    if "plots" not in request.node.name and "bytes" not in request.node.name:
        monkeypatch.setattr(seal_module, "draw_plots", lambda folder, *_, **__: folder.mkdir())


def _bytes(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_real_rows_and_mocked_rows_go_to_two_releases(make_memory_build: Make) -> None:
    build = make_memory_build("truth", "endpoint", "embedded", "mock")

    training, demonstration = seal(build).releases

    assert (training.name, demonstration.name) == ("kites", "kites-demonstration")
    assert (training.num_videos, training.num_rows) == (2, 2 * 42)  # the 43rd is rejected
    assert (demonstration.num_videos, demonstration.num_rows) == (2, 2 * 42)
    for release, backends in (
        (training, {"truth", "endpoint"}),
        (demonstration, {"embedded", "mock"}),
    ):
        table = pq.read_table(release.folder / "data" / "train-00000-of-00001.parquet")
        found = {row["provenance"]["backend"] for row in table.to_pylist()}
        assert found == backends
        assert set(table["status"].to_pylist()) == {"accepted"}
        assert verify_manifest(release.folder) > 10


def test_a_demonstration_says_so_in_every_file(make_memory_build: Make) -> None:
    build = make_memory_build("embedded", "mock", minutes=10)

    (release,) = seal(build).releases

    for path in (path for path in release.folder.rglob("*") if path.is_file()):
        if path.suffix == ".parquet":
            metadata = pq.read_schema(path).metadata
            assert metadata[b"hour_llava.note"].decode() == DEMONSTRATION_NOTE
            assert metadata[b"hour_llava.kind"] == b"demonstration"
        elif path.suffix != ".png":  # a picture says so in its title: the test of plots
            assert "DEMONSTRATION, not training data" in path.read_text(encoding="utf-8"), path
    samples = json.loads((release.folder / "llava" / "train.json").read_text())
    assert all("DEMONSTRATION" in sample["note"] for sample in samples)


def test_training_data_is_never_called_a_demonstration(make_memory_build: Make) -> None:
    (release,) = seal(make_memory_build("truth")).releases

    for name, data in _bytes(release.folder).items():
        assert b"DEMONSTRATION" not in data, name


def test_one_mocked_caption_makes_a_video_a_demonstration(make_memory_build: Make) -> None:
    build = make_memory_build("endpoint")
    caption = build.stages["caption_check"][3]
    mocked = caption.provenance.model_copy(update={"backend": "mock"})
    build.stages["caption_check"][3] = caption.model_copy(update={"provenance": mocked})

    assert [release.kind for release in seal(build).releases] == ["demonstration"]


def test_equal_rows_give_equal_bytes_whatever_their_order_and_place(
    make_memory_build: Make,
) -> None:
    one = make_memory_build("truth", "endpoint", "mock", folder="one")
    two = make_memory_build("truth", "endpoint", "mock", folder="two")
    for records in two.stages.values():
        random.Random(4).shuffle(records)
    video = two.stages["ingest"][0]
    moved = {"truth_path": "/elsewhere/x.truth.json"} if video.kind == "video" else {}
    two.stages["ingest"][0] = video.model_copy(update=moved)

    seal(one)
    seal(two)

    first, second = _bytes(one.folder / "release"), _bytes(two.folder / "release")
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []
    machine = os.fsencode(one.folder.parent)
    assert [name for name, data in first.items() if machine in data or b"/tmp/" in data] == []


def test_sealing_again_writes_nothing(make_memory_build: Make) -> None:
    build = make_memory_build("truth", "mock")
    assert seal(build).is_new
    before = {path: path.stat().st_mtime_ns for path in (build.folder / "release").rglob("*")}

    report = seal(build)

    assert not report.is_new and len(report.releases) == 2
    before.pop(build.folder / "release" / ".seal.lock")
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_release_with_a_file_gone_is_written_again(make_memory_build: Make) -> None:
    build = make_memory_build("truth")
    (release,) = seal(build).releases
    (release.folder / "README.md").unlink()

    assert seal(build).is_new
    assert verify_manifest(release.folder)


def test_other_rows_replace_the_release_and_leave_nothing_beside_it(
    make_memory_build: Make,
) -> None:
    build = make_memory_build("truth", "mock")
    seal(build)
    rows = build.stages["balance"]
    build.stages["balance"] = [row for row in rows if row.provenance.backend == "truth"][:5]

    (release,) = seal(build).releases

    assert (release.kind, release.num_rows, release.is_new) == ("training", 5, True)
    assert _names(build.folder / "release") == [".seal.lock", "kites"]


def test_a_failure_leaves_the_old_release_as_it_was(
    make_memory_build: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = make_memory_build("truth")
    (release,) = seal(build).releases
    before = _bytes(release.folder)
    build.stages["balance"].pop()
    build.stages["balance"].pop()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(seal_module, "write_manifest", fail)
    with pytest.raises(BuildError, match=r"No space left.*make room, then `hour-llava synth exp"):
        seal(build)

    assert _bytes(release.folder) == before
    assert _names(build.folder / "release") == [".seal.lock", "kites"]


def test_a_folder_that_is_no_release_is_never_replaced(make_memory_build: Make) -> None:
    build = make_memory_build("truth")
    mine = build.folder / "release" / "kites" / "thesis.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("years of work")

    with pytest.raises(BuildError, match="exists and is no release"):
        seal(build)

    assert mine.read_text() == "years of work"


def test_a_release_folder_that_is_a_file_is_one_clear_error(make_memory_build: Make) -> None:
    build = make_memory_build("truth")
    (build.folder / "release").write_text("")

    with pytest.raises(BuildError, match="cannot write the release into"):
        seal(build)


def test_a_name_with_a_slash_is_refused(make_memory_build: Make) -> None:
    with pytest.raises(BuildError, match="cannot name a release"):
        seal(make_memory_build("truth"), "../kites")


def test_an_empty_build_says_what_to_run(make_memory_build: Make) -> None:
    build = make_memory_build()
    build.stages.clear()

    with pytest.raises(BuildError, match="holds no video yet; run `hour-llava synth run"):
        seal(build)


def test_a_build_without_accepted_rows_has_no_release(make_memory_build: Make) -> None:
    build = make_memory_build("truth")
    build.stages["balance"] = [
        row.model_copy(update={"status": "rejected"}) for row in build.stages["balance"]
    ]

    assert seal(build).releases == ()


def test_rows_that_have_not_been_through_all_stages_are_no_release(
    make_memory_build: Make,
) -> None:
    build = make_memory_build("truth")
    (release,) = seal(build).releases
    before = _bytes(release.folder)
    build.add("verify", *build.stages.pop("balance"))

    with pytest.raises(BuildError, match=r"as far as verify.*hour-llava synth run"):
        seal(build)
    build.stages.pop("verify")  # as behind another captioner: nothing is built anew yet
    assert seal(build).releases == ()

    assert _bytes(release.folder) == before


def test_builds_that_share_a_folder_leave_each_others_releases_alone(
    make_memory_build: Make, add_memory_video: Make, tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    seal(make_memory_build("truth", "mock", folder="one"), out=shared)
    same = make_memory_build("truth", folder="two")
    other = make_memory_build(folder="three")
    add_memory_video(other, 99, "truth")

    assert [release.name for release in seal(same, out=shared).releases] == ["kites"]
    before = _bytes(shared)
    with pytest.raises(BuildError, match="release of other videos; name this one with --name"):
        seal(other, out=shared)

    assert _names(shared) == [".seal.lock", "kites", "kites-demonstration"]
    assert _bytes(shared) == before


def test_a_video_that_was_set_aside_later_is_in_no_release(make_memory_build: Make) -> None:
    build = make_memory_build("truth", "truth")
    aside = SetAside(
        stage="events",
        path="sub folder/video 1.mp4",
        video_id=f"{1:016x}",
        reason="too_few_events",
        detail="2 of 3",
    )
    build.add("events", aside)

    (release,) = seal(build).releases

    assert release.num_videos == 1
    assert json.loads((release.folder / "stats.json").read_text())["set_aside"] == {
        "no_video": 1,
        "too_few_events": 1,
    }


def test_splits_part_videos_not_rows(make_memory_build: Make) -> None:
    build = make_memory_build(*["truth"] * 12)
    even = Splits(train=0.4, validation=0.3, test=0.3)
    build.settings = build.settings.model_copy(update={"splits": even})

    (release,) = seal(build).releases

    videos = {
        split: {row["video_id"] for row in pq.read_table(path).to_pylist()}
        for split in ("train", "validation", "test")
        for path in (release.folder / "data").glob(f"{split}-*.parquet")
    }
    assert sum(map(len, videos.values())) == 12 == len(set().union(*videos.values()))
    assert len(videos) == 3
    described = json.loads((release.folder / "release.json").read_text())
    assert {split: set(ids) for split, ids in described["videos"].items()} == videos


def test_pixels_are_copied_only_where_the_licence_allows_it(
    make_memory_build: Make, add_memory_video: Make
) -> None:
    build = make_memory_build("truth")
    add_memory_video(build, 7, "truth", licence="all rights reserved", path="theirs.mp4")
    add_memory_video(build, 8, "truth", licence=None, path="whose.mp4")
    for name in ("sub folder/video 1.mp4", "theirs.mp4", "whose.mp4"):
        (build.source / name).parent.mkdir(parents=True, exist_ok=True)
        (build.source / name).write_bytes(b"pixels")

    (release,) = seal(build, with_videos=True).releases

    media = [path for path in (release.folder / "media").rglob("*") if path.is_file()]
    assert [path.name for path in media] == ["video 1.mp4"]
    assert {item.video: item.reason for item in release.left_out} == {
        "theirs.mp4": "licence: all rights reserved",
        "whose.mp4": "licence: not stated",
    }


def test_plots_are_pictures_of_a_readable_size_that_name_their_release(
    make_memory_build: Make,
) -> None:
    (release,) = seal(make_memory_build("mock")).releases

    pictures = sorted((release.folder / "plots").iterdir())
    assert [path.name for path in pictures] == ["evidence_gaps.png", "statistics.png", "yield.png"]
    for path in pictures:
        with Image.open(path) as picture:
            assert picture.width >= 800 and "Software" not in picture.info
            assert picture.info["Description"].startswith("kites-demonstration (DEMONSTRATION, not")


def test_importing_releases_loads_neither_torch_nor_ray() -> None:
    code = (
        "import sys, hour_llava.videomarathon.release.seal, hour_llava.videomarathon.browse, "
        "hour_llava.videomarathon.inspect; "
        "print([m for m in ('torch', 'ray', 'openai', 'matplotlib') if m in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
