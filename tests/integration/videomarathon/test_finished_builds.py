"""What a build says when its videos are away, its price unknown, its release not what it should be.

Nothing is shown as 0 that is not known, and no accepted row is lost unseen.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from hour_llava.videomarathon.build import Build
from hour_llava.videomarathon.records import QAPair


@pytest.fixture
def videos(tmp_path: Path, plain_videos: Path) -> Path:
    """Return a folder of one's own with one short video."""
    (tmp_path / "videos").mkdir()
    shutil.copy(plain_videos / "b.mkv", tmp_path / "videos")
    return tmp_path / "videos"


@pytest.fixture
def finished(kit: Any, videos: Path, tmp_path: Path) -> Path:
    """Return a build of measured facts that is sealed."""
    build = kit.make_build(tmp_path / "build", videos, min_events=2)
    done = kit.run("run", str(build))
    assert done.returncode == 0, done.stderr
    return build


def test_a_finished_build_can_be_looked_at_without_its_videos(
    kit: Any, finished: Path, videos: Path
) -> None:
    before = kit.releases(finished)
    videos.rename(videos.with_name("away"))
    done = kit.run("status", str(finished))
    assert done.returncode == 0, done.stderr
    assert "next: nothing: complete" in done.stdout
    assert "no folder of videos" in done.stdout
    done = kit.run("run", str(finished))
    assert done.returncode == 0, done.stderr
    assert "nothing to do" in done.stderr
    assert kit.releases(finished) == before
    for verb in ("stats", "check", "browse", "export"):
        done = kit.run(verb, str(finished))
        assert done.returncode == 0, (verb, done.stderr)


def test_an_unfinished_build_without_its_videos_says_what_it_still_needs(
    kit: Any, finished: Path, videos: Path
) -> None:
    shutil.rmtree(finished / "stages" / "qa")
    shutil.rmtree(videos)
    done = kit.run("run", str(finished))
    assert done.returncode == 1
    assert "no folder of videos" in done.stderr and "of qa to do" in done.stderr
    assert kit.releases(finished)  # what was sealed stays


def test_a_release_that_lacks_an_accepted_row_is_found_by_check(kit: Any, finished: Path) -> None:
    assert kit.run("check", str(finished)).returncode == 0
    rows = [r for r in Build.open(finished).rows("balance") if isinstance(r, QAPair)]
    assert any(row.status == "accepted" for row in rows)
    (release,) = (finished / "release").glob("*-demonstration")
    other = finished / "release" / "older-demonstration"
    shutil.copytree(release, other)
    drop_a_row(other)
    done = kit.run("check", str(finished))
    assert done.returncode == 1
    assert "lacks 1 of the build's" in done.stderr and "--name older" in done.stderr


def drop_a_row(release: Path) -> None:
    """Make a release that is whole in itself and one row short."""
    import hashlib

    import pyarrow.parquet as parquet

    file = next((release / "data").glob("*.parquet"))
    table = parquet.read_table(file)
    parquet.write_table(table.slice(1), file)
    for samples in (release / "llava").glob("*.json"):
        found = json.loads(samples.read_text())
        found[0]["conversations"] = found[0]["conversations"][2:]
        if found[0]["conversations"]:
            first = found[0]["conversations"][0]
            first["value"] = "<image>\n" + first["value"]
        samples.write_text(json.dumps([s for s in found if s["conversations"]]))
    manifest = release / "MANIFEST.sha256"

    def line(match: re.Match[str]) -> str:
        return f"{hashlib.sha256((release / match[2]).read_bytes()).hexdigest()}  {match[2]}"

    text = re.sub(r"^([0-9a-f]{64})  (.*)$", line, manifest.read_text(), flags=re.MULTILINE)
    manifest.write_text(text)


def test_an_unknown_price_is_called_unknown_and_never_zero(
    kit: Any, videos: Path, mock_server: Any, tmp_path: Path
) -> None:
    build = kit.make_build(tmp_path / "b", videos, mock_server, min_events=2)
    toml = build / "build.toml"
    toml.write_text(re.sub(r"usd_per.*\n", "", toml.read_text()))
    assert "unknown" in kit.run("plan", str(build)).stdout
    assert kit.run("run", str(build), "--until", "captions").returncode == 0
    captions = re.search(r"^captions .*$", kit.run("status", str(build)).stdout, re.MULTILINE)
    assert captions and captions[0].endswith("unknown")
    found = json.loads(kit.run("status", str(build), "--json").stdout)
    assert {s["name"]: s["usd"] for s in found["stages"]}["captions"] is None
    found = json.loads(kit.run("stats", str(build), "--json").stdout)
    assert [used["usd"] for used in found["usage"]] == [None]
    assert "unknown price" in kit.run("plan", str(build)).stdout


def test_a_release_that_cannot_be_written_ends_with_5_and_the_way_on(
    kit: Any, finished: Path
) -> None:
    shutil.rmtree(finished / "release")
    (finished / "release").write_text("a file in the way")
    done = kit.run("run", str(finished))
    assert done.returncode == 5
    assert "cannot write the release" in done.stderr and "to go on" in done.stderr


def test_decoding_for_measured_facts_is_planned(kit: Any, videos: Path, tmp_path: Path) -> None:
    build = kit.make_build(tmp_path / "b", videos, min_events=2)
    planned = json.loads(kit.run("plan", str(build), "--json").stdout)
    assert planned["decode_cpu_hours"] > 0


def test_a_contact_sheet_lies_in_the_build_not_where_one_stands(
    kit: Any, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    row = next(r for r in Build.open(finished).rows("balance") if isinstance(r, QAPair))
    done = kit.run("inspect", str(finished), row.id)
    assert done.returncode == 0, done.stderr
    assert not list((tmp_path / "here").iterdir())
    assert len(list((finished / "inspect").glob("*.png"))) == 1


def test_what_a_killed_run_left_of_a_release_is_no_release_and_goes(
    kit: Any, finished: Path
) -> None:
    (release,) = (finished / "release").glob("*-demonstration")
    left = release.with_name(f".{release.name}.partial")
    shutil.copytree(release, left)
    (left / "README.md").write_text("half of i")
    assert kit.run("check", str(finished)).returncode == 0
    done = kit.run("run", str(finished))
    assert "nothing to do" in done.stderr
    assert not left.exists()
