"""Ray: the same bytes as the local executor, and shared limits; a folder unseen is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_ray_and_local_builds_have_the_same_bytes(
    kit: Any, world_videos: Path, plain_videos: Path, mock_server: Any, tmp_path: Path
) -> None:
    both = tmp_path / "videos"
    both.mkdir()
    for file in [*world_videos.rglob("*"), *plain_videos.iterdir()]:
        if file.is_file() and file.suffix != ".jsonl":
            (both / file.name).hardlink_to(file)
    builds = {}
    for executor in ("local", "ray"):
        place = tmp_path / executor
        builds[executor] = kit.make_build(place, both, mock_server, min_events=2)
        done = kit.run("run", str(place), "--executor", executor, timeout=900)
        assert done.returncode == 0, done.stderr
    assert kit.parts(builds["ray"]) == kit.parts(builds["local"])
    assert kit.releases(builds["ray"]) == kit.releases(builds["local"])
    assert len(kit.releases(builds["ray"])) == 2
    done = kit.run("run", str(builds["ray"]), "--executor", "ray", timeout=600)
    assert (done.returncode, "nothing to do" in done.stderr) == (0, True)


@pytest.mark.slow
def test_a_build_folder_that_workers_do_not_see_is_refused(tmp_path: Path) -> None:
    import ray

    from hour_llava.errors import BuildError
    from hour_llava.videomarathon.executors.ray import refuse_unseen

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        (tmp_path / "build").mkdir()
        with pytest.raises(BuildError, match="does not see this"):
            refuse_unseen(tmp_path / "build", tmp_path / "no such folder")
        refuse_unseen(tmp_path / "build", tmp_path)
    finally:
        ray.shutdown()
