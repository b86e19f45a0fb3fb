"""export, card, browse and inspect on a real build of a real video."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from hour_llava.cli import main
from hour_llava.videomarathon.build import Build
from hour_llava.videomarathon.records import QAPair
from hour_llava.videomarathon.release.llava import read_samples
from hour_llava.videomarathon.release.manifest import verify_manifest


@pytest.fixture(scope="module")
def build(kit: Any, world_videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = kit.make_build(tmp_path_factory.mktemp("verbs") / "build", world_videos)
    done = kit.run("run", str(folder))
    assert done.returncode == 0, done.stderr
    return folder


def _accepted(build: Path) -> list[QAPair]:
    rows = Build.open(build).rows("balance")
    return [row for row in rows if isinstance(row, QAPair) and row.status == "accepted"]


def test_export_writes_a_release_under_another_name_and_place(
    build: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["synth", "export", str(build), "--name", "other", "--out", str(tmp_path)]) == 0

    rows = _accepted(build)
    assert f"{len(rows)} rows of 1 video (training data)" in capsys.readouterr().out
    verify_manifest(tmp_path / "other")
    tables = [pq.read_table(path) for path in (tmp_path / "other" / "data").iterdir()]
    assert {row["id"] for table in tables for row in table.to_pylist()} == {row.id for row in rows}
    (samples,) = (tmp_path / "other" / "llava").iterdir()
    num_turns = sum(len(sample.conversations) for sample in read_samples(samples))
    assert num_turns == 2 * len(rows)


def test_exporting_again_says_that_there_is_nothing_to_do(
    build: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["synth", "export", str(build)]) == 0

    assert "nothing to do" in capsys.readouterr().err


def test_card_prints_what_the_release_says(build: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["synth", "card", str(build)]) == 0

    (readme,) = (build / "release").glob("*/README.md")
    assert capsys.readouterr().out == readme.read_text(encoding="utf-8")


def test_a_card_of_a_demonstration_that_is_not_there_is_one_clear_error(
    build: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["synth", "card", str(build), "--demonstration"]) == 1

    assert "has no accepted rows" in capsys.readouterr().err


def test_browse_writes_a_page_whose_video_is_where_it_says(
    build: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["synth", "browse", str(build)]) == 0

    page = Path(capsys.readouterr().out.strip())
    block = re.search(r'id="video-0">(.*?)</script>', page.read_text(encoding="utf-8"))
    assert block is not None
    src = json.loads(block[1])["src"].replace("%20", " ")
    assert (page.parent / src).resolve().is_file()


def test_inspect_walks_from_a_row_to_its_frames(
    build: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = next(row for row in _accepted(build) if len(row.evidence) == 2)

    code = main(["synth", "inspect", str(build), row.id, "--out", str(tmp_path / "sheet.png")])

    out = capsys.readouterr().out
    assert code == 0
    assert row.question in out and row.evidence[1].quote in out
    assert "no call was made" in out
    with Image.open(tmp_path / "sheet.png") as picture:
        assert picture.height > 400


def test_an_unknown_row_and_a_folder_without_a_build_are_one_line_each(
    build: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["synth", "inspect", str(build), "nothing"]) == 1
    assert main(["synth", "browse", str(tmp_path)]) == 1

    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "no row 'nothing' in the build" in lines[0]
    assert "no build here" in lines[1]
