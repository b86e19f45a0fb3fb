from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from hour_llava.world.timeline import Timeline, make_timeline
from hour_llava.world.video_file import write_video

Ticks = dict[int, np.ndarray]


@pytest.fixture(scope="session")
def minute() -> Timeline:
    return make_timeline(60, 5)


@pytest.fixture(scope="session")
def minute_mp4(minute: Timeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("world") / "minute.mp4"
    write_video(minute, path)
    return path


@pytest.fixture(scope="session")
def decode_ticks() -> Callable[[Path], Ticks]:
    """The frames of whole seconds, by second, through PyAV alone."""

    def frames(path: Path) -> Iterator[tuple[int, np.ndarray]]:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                assert frame.time is not None
                if abs(frame.time - round(frame.time)) < 1e-6:
                    yield round(frame.time), frame.to_ndarray(format="rgb24")

    return lambda path: dict(frames(path))
