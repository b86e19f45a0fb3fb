"""From ordinary footage to a demonstration release, over real HTTP to the mock server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hour_llava.videomarathon.build import Build
from hour_llava.videomarathon.calls.ledger import read_spent
from hour_llava.videomarathon.records import ClipCaption, QAPair


@pytest.fixture(scope="module")
def build(
    kit: Any, plain_videos: Path, mock_server: Any, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    place = tmp_path_factory.mktemp("endpoint") / "build"
    folder = kit.make_build(place, plain_videos, mock_server, min_events=2)
    done = kit.run("run", str(folder))
    assert done.returncode == 0, done.stderr
    assert "DEMONSTRATION" in done.stdout
    return folder


def test_rows_say_that_a_mock_made_them_and_none_is_training_data(kit: Any, build: Path) -> None:
    opened = Build.open(build)
    captions = [r for r in opened.rows("caption_check") if isinstance(r, ClipCaption)]
    rows = [r for r in opened.rows("balance") if isinstance(r, QAPair)]
    assert captions
    assert rows
    assert {row.provenance.backend for row in captions + rows} == {"mock"}
    names = list(kit.releases(build))
    assert len(names) == 1
    assert "demonstration" in names[0]


def test_files_that_are_no_video_are_listed_with_their_reason(kit: Any, build: Path) -> None:
    done = kit.run("status", str(build), "--json")
    found = json.loads(done.stdout)
    reasons = {one["path"]: one["reason"] for one in found["set_aside"]}
    assert reasons["empty.mp4"] == "empty"
    assert reasons["words.mp4"] in ("no_video", "unreadable")
    assert reasons["same again.mkv"] == "duplicate"
    assert found["next_step"].startswith("nothing")


def test_a_second_run_makes_no_call(kit: Any, build: Path, mock_server: Any) -> None:
    before = mock_server.stats()["requests"]
    done = kit.run("run", str(build))
    assert done.returncode == 0
    assert "nothing to do" in done.stderr
    assert mock_server.stats()["requests"] == before


def test_rows_lost_are_made_again_from_the_ledger_for_nothing(
    kit: Any, build: Path, mock_server: Any
) -> None:
    import shutil

    releases = kit.releases(build)
    before = mock_server.stats()["requests"]
    shutil.rmtree(build / "stages")
    assert kit.run("run", str(build)).returncode == 0
    assert mock_server.stats()["requests"] == before
    assert kit.releases(build) == releases


def test_a_budget_ends_the_run_and_a_higher_one_goes_on(
    kit: Any, build: Path, plain_videos: Path, mock_server: Any, tmp_path: Path
) -> None:
    other = kit.make_build(tmp_path / "b", plain_videos, mock_server, min_events=2)
    done = kit.run("run", str(other), "--max-calls", "5")
    assert done.returncode == 4
    assert "--max-calls" in done.stderr
    assert f"synth run {other}" in done.stderr
    assert sum(s.calls for s in read_spent(other / "calls").values()) == 5
    done = kit.run("run", str(other))
    assert done.returncode == 0, done.stderr
    assert kit.releases(other) == kit.releases(build)


def test_a_wrong_address_ends_the_run_with_the_way_on(
    kit: Any, plain_videos: Path, mock_server: Any, tmp_path: Path
) -> None:
    from dataclasses import replace

    wrong = replace(mock_server, url=mock_server.url.replace("/v1", "/v9"))
    folder = kit.make_build(tmp_path / "b", plain_videos, wrong)
    done = kit.run("run", str(folder))
    assert done.returncode == 5
    assert "Traceback" not in done.stderr
    assert f"synth run {folder}" in done.stderr


def test_plan_foretells_the_calls_and_nearly_the_tokens(
    kit: Any, build: Path, plain_videos: Path, mock_server: Any, tmp_path: Path
) -> None:
    fresh = kit.make_build(tmp_path / "b", plain_videos, mock_server, min_events=2)
    before = mock_server.stats()["requests"]
    done = kit.run("plan", str(fresh), "--json")
    assert done.returncode == 0, done.stderr
    planned = json.loads(done.stdout)
    assert mock_server.stats()["requests"] == before
    spent = read_spent(build / "calls")
    calls = {stage["name"]: stage["num_calls"] for stage in planned["stages"]}
    assert {name: calls[name] for name in spent} == {n: s.calls for n, s in spent.items()}
    assert spent["verify"].calls <= planned["most_calls_of_verify"]
    foretold = {s["name"]: s["prompt_tokens"] + s["completion_tokens"] for s in planned["stages"]}
    for name, stage in spent.items():
        assert abs(foretold[name] / stage.tokens - 1) < 0.2, name
    usd = sum(s.usd for s in spent.values())
    assert abs(planned["usd"] / usd - 1) < 0.2
    with (fresh / "build.toml").open("a") as settings:  # it would judge, and is not asked to
        settings.write(f'[endpoints.judge]\nbase_url = "{mock_server.url}"\nmodel = "dear"\n')
        settings.write("usd_per_million_input = 1e6\nusd_per_million_output = 1e6\n")
    done = kit.run("plan", str(fresh), "--json")
    assert json.loads(done.stdout)["usd"] == planned["usd"], done.stderr


def test_a_plan_of_a_complete_build_has_nothing_to_do(kit: Any, build: Path) -> None:
    planned = json.loads(kit.run("plan", str(build), "--json").stdout)
    assert planned["num_calls"] == 0
    assert sum(stage["num_units"] for stage in planned["stages"]) == 0
