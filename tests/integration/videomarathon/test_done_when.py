"""The whole of it: truth videos of 3, 10 and 60 minutes and three others, locally and by Ray."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hour_llava.tasks import TASKS
from hour_llava.videomarathon.build import Build
from hour_llava.videomarathon.records import QAPair, Video

OTHERS = {"nine scenes.mkv": 185, "müde's.mp4": 200, "third.mkv": 240}


@pytest.fixture(scope="module")
def six_videos(kit: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from hour_llava.world.make import make_world

    folder = tmp_path_factory.mktemp("six")
    for minutes in (3, 10, 60):
        make_world(folder / f"{minutes} minutes", seconds=60 * minutes, seed=minutes, fps=3)
    for number, (name, seconds) in enumerate(OTHERS.items()):
        kit.write_footage(folder / name, seconds=seconds, seed=number)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_six_videos_become_a_training_and_a_demonstration_release(
    kit: Any, six_videos: Path, mock_server: Any, tmp_path: Path
) -> None:
    local = kit.make_build(tmp_path / "local", six_videos, mock_server, min_minutes=3)
    done = kit.run("run", str(local), timeout=1500)
    assert done.returncode == 0, done.stderr
    opened = Build.open(local)
    videos = {r.id: r for r in opened.rows("ingest") if isinstance(r, Video)}
    rows = [r for r in opened.rows("balance") if isinstance(r, QAPair) and r.status == "accepted"]
    truth = [row for row in rows if row.provenance.backend == "truth"]
    assert len(videos) == 6
    assert {(row.task, row.format) for row in truth} == {
        (task.slug, form) for task in TASKS for form in task.formats
    }
    for row in rows:
        assert all(e.span.end_ms <= videos[row.video_id].duration_ms for e in row.evidence)
    print(Counter(row.provenance.backend for row in rows), sorted(kit.releases(local)))
    assert sorted(kit.releases(local)) == ["videomarathon", "videomarathon-demonstration"]
    check_manifests(local)

    asked = mock_server.stats()["requests"]
    before = (kit.parts(local), kit.releases(local))
    done = kit.run("run", str(local), timeout=600)
    assert (done.returncode, "nothing to do" in done.stderr) == (0, True), done.stderr
    assert (kit.parts(local), kit.releases(local)) == before
    assert mock_server.stats()["requests"] == asked

    by_ray = kit.make_build(tmp_path / "ray", six_videos, mock_server, min_minutes=3)
    done = kit.run("run", str(by_ray), "--executor", "ray", timeout=1500)
    assert done.returncode == 0, done.stderr
    assert kit.releases(by_ray) == kit.releases(local)
    assert kit.parts(by_ray) == kit.parts(local)


def check_manifests(build: Path) -> None:
    for manifest in (build / "release").glob("*/MANIFEST.sha256"):
        lines = [one for one in manifest.read_text().splitlines() if not one.startswith("#")]
        for line in lines:
            digest, _, name = line.partition("  ")
            data = (manifest.parent / name).read_bytes()
            assert hashlib.sha256(data).hexdigest() == digest, name
