"""Fixtures of the memory tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from hour_llava.memory import MemAug, MemoryHeader, MemoryRepository
from hour_llava.schema import DamagedSpan, Sampling, VideoInfo


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def make_memaug() -> Callable[..., MemAug]:
    def make(**changes: object) -> MemAug:
        torch.manual_seed(0)
        sizes = {"hidden_size": 32, "num_heads": 4, "num_key_value_heads": 2, "num_layers": 2}
        return MemAug(**(sizes | {"rope_theta": 1e6} | changes))

    return make


@pytest.fixture
def header() -> MemoryHeader:
    info = VideoInfo(
        path="/videos/lecture.mp4",
        container="mp4",
        codec="h264",
        pixel_format="yuv420p",
        width=320,
        height=180,
        rotation_degrees=0,
        duration_seconds=40.0,
        start_seconds=0.0,
        num_packets=1000,
        num_keyframes=4,
        average_fps=25.0,
        is_variable_frame_rate=False,
        has_audio=True,
        content_digest="c0ffee",
    )
    return MemoryHeader(
        content_digest="c0ffee",
        tower_digest="70e4",
        model="nano",
        duration_seconds=40.0,
        sampling=Sampling(fps=1.0),
        info=info,
        damage=(DamagedSpan(start_seconds=5.0, end_seconds=7.5, reason="missing reference"),),
    )


@pytest.fixture
def make_memory(header: MemoryHeader) -> Callable[..., MemoryRepository]:
    def make(num_frames: int = 40, dtype: torch.dtype = torch.bfloat16) -> MemoryRepository:
        torch.manual_seed(1)
        return MemoryRepository(
            features_FPD=torch.randn(num_frames, 4, 6).to(dtype),
            times_F=torch.arange(num_frames) + 0.04,
            header=header,
            thumbnails=((0.04, b"\xff\xd8first"), (20.04, b"\xff\xd8second")),
        )

    return make
