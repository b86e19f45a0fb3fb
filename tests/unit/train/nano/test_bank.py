from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from hour_llava.model.video_processing_hour_llava import HourLlavaVideoProcessor
from hour_llava.train.nano.bank import (
    ClipGroup,
    encode_group,
    frames_and_classes,
    load_group,
    render_group,
)
from hour_llava.train.nano.drills import drill_timeline
from hour_llava.train.nano.tower import MEMORY_SIZES, has_unusual_pose
from hour_llava.world.timeline import CELLS

GROUP = ClipGroup(seconds=14, num_clips=2, first_seed=5)


def mean_colours(pixels: torch.Tensor) -> torch.Tensor:
    return pixels.mean((2, 3))[:, None].expand(-1, 4, -1)


def test_a_group_is_drawn_once_and_encoded_into_its_own_folder(tmp_path: Path) -> None:
    resize = HourLlavaVideoProcessor(32)
    path = render_group(GROUP, tmp_path, resize, is_degraded=True)
    frames = np.load(path)
    assert frames.shape == (2, 14, 3, 32, 32)
    drawn_at = path.stat().st_mtime_ns
    assert render_group(GROUP, tmp_path, resize, is_degraded=True).stat().st_mtime_ns == drawn_at
    encode_group(GROUP, tmp_path, tmp_path / "0", mean_colours)
    tokens = load_group(GROUP, tmp_path / "0")
    assert tokens.features_NFPD.shape == (2, 14, 4, 3)
    expected = torch.from_numpy(frames).float().mean((3, 4)) / 127.5 - 1
    assert torch.allclose(tokens.features_NFPD[:, :, 0].float(), expected, atol=1e-3)
    assert not list(tmp_path.rglob("*.partial"))


def test_the_same_seed_draws_the_same_frames(tmp_path: Path) -> None:
    resize = HourLlavaVideoProcessor(32)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, other = (
        np.load(render_group(GROUP, tmp_path / name, resize, is_degraded=True)) for name in "ab"
    )
    assert np.array_equal(one, other)


def test_frames_and_classes_stay_in_step(tmp_path: Path) -> None:
    drills = ClipGroup(seconds=20, num_clips=1, first_seed=0, make=drill_timeline)
    resize = HourLlavaVideoProcessor(32)
    for group in (GROUP, drills):
        render_group(group, tmp_path, resize, is_degraded=False)
    frames, classes = frames_and_classes([GROUP, drills], tmp_path)
    assert len(frames) == len(classes) == 2 * 14 + 20
    assert classes.shape[1:] == (len(CELLS), len(MEMORY_SIZES))


def test_drills_crowd_the_picture_with_unusual_poses(tmp_path: Path) -> None:
    timeline = drill_timeline(20, 3)
    busy = sum(len(timeline.active_at(second)) for second in range(20)) / 80
    assert busy > 0.6
    assert drill_timeline(20, 3) == timeline != drill_timeline(20, 4)
    render_group(
        group := ClipGroup(seconds=20, num_clips=2, first_seed=0, make=drill_timeline),
        tmp_path,
        HourLlavaVideoProcessor(32),
        is_degraded=False,
    )
    _, classes = frames_and_classes([group], tmp_path)
    assert has_unusual_pose(classes).mean() > 0.5
