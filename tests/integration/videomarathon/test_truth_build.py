"""From a MarathonWorld video with its truth to a sealed release, by the real command."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hour_llava.tasks import TASKS
from hour_llava.videomarathon.build import Build
from hour_llava.videomarathon.records import QAPair, Video


@pytest.fixture(scope="module")
def build(kit: Any, world_videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = kit.make_build(tmp_path_factory.mktemp("truth") / "build", world_videos)
    done = kit.run("run", str(folder))
    assert done.returncode == 0, done.stderr
    assert "training data" in done.stdout
    return folder


def test_every_task_and_format_has_an_accepted_row(build: Path) -> None:
    rows = [r for r in Build.open(build).rows("balance") if isinstance(r, QAPair)]
    found = Counter((row.task, row.format) for row in rows if row.status == "accepted")
    expected = {(task.slug, form) for task in TASKS for form in task.formats}
    assert len(expected) == 43
    assert set(found) == expected


def test_evidence_lies_inside_the_video(build: Path) -> None:
    opened = Build.open(build)
    (video,) = [r for r in opened.rows("ingest") if isinstance(r, Video)]
    rows = [r for r in opened.rows("balance") if isinstance(r, QAPair) and r.status == "accepted"]
    for row in rows:
        for evidence in row.evidence:
            assert evidence.span.end_ms <= video.duration_ms
        assert row.evidence or row.answer.lower().startswith("no"), row.id


def test_a_second_run_does_nothing_and_says_so(kit: Any, build: Path) -> None:
    before = (kit.parts(build), kit.releases(build))
    done = kit.run("run", str(build))
    assert done.returncode == 0
    assert "nothing to do" in done.stderr
    assert (kit.parts(build), kit.releases(build)) == before


def test_a_build_made_elsewhere_has_the_same_bytes(
    kit: Any, build: Path, world_videos: Path, tmp_path: Path
) -> None:
    other = kit.make_build(tmp_path / "elsewhere" / "b", world_videos)
    assert kit.run("run", str(other)).returncode == 0
    assert kit.releases(other) == kit.releases(build)
