"""Reading a video as frames a second apart, or at any other rate, with exact times."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Protocol

from hour_llava.schema import DamagedSpan, Sampling, VideoInfo
from hour_llava.video.frame import VideoFrame
from hour_llava.video.isolation import WORKER, ChildDecode
from hour_llava.video.messages import Request


class _Source(Protocol):
    """Where frames come from: a child process, or this one."""

    @property
    def info(self) -> VideoInfo: ...
    @property
    def num_frames(self) -> int: ...
    @property
    def damage(self) -> tuple[DamagedSpan, ...]: ...
    def frames(self) -> Iterator[VideoFrame]: ...
    def close(self) -> None: ...


class FrameReader:
    """An open video; iterate it once, close it or use it in `with`.

    `num_frames` frames will come, always, also of a damaged file: where a frame cannot be decoded
    the one before it stands in, flagged, and `damage` names the seconds once all have come.
    """

    info: VideoInfo
    num_frames: int

    def __init__(self, source: _Source) -> None:
        self._source = source
        self.info, self.num_frames = source.info, source.num_frames

    @property
    def damage(self) -> tuple[DamagedSpan, ...]:
        return self._source.damage

    def __iter__(self) -> Iterator[VideoFrame]:
        return self._source.frames()

    def __enter__(self) -> FrameReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop decoding; a child process ends now."""
        self._source.close()


def read_frames(
    path: str | os.PathLike[str],
    *,
    fps: float = 1.0,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
    first_index: int = 0,
    threads: int | None = None,
    isolated: bool = True,
    timeout_seconds: float = 10.0,
    worker: Sequence[str] = WORKER,
) -> FrameReader:
    """Open a video and read its packets; frames are decoded as they are asked for.

    Args:
        path: A local file.
        fps: Ticks a second, 1e-6 to 1000: 1/60 is one a minute, 60 may show frames twice.
        start_seconds: Time of tick 0 after the first presented frame; None is 0.
        end_seconds: No tick at or after this time.
        first_index: Resume at this tick; what lies before its GOP is not decoded.
        threads: Decoding threads; None is all cores. Use 1 for many videos at once.
        isolated: Decode in a child process with a watchdog; False decodes in this one.
        timeout_seconds: After so long without a frame or a progress mark the child is ended.
        worker: The command that is the child; tests replace it.

    Raises:
        VideoError: See `hour_llava.errors`; also while iterating.

    Cost: for an hour of 720p about 170 CPU seconds and 120 MB, whatever its length.
    """
    sampling = Sampling(fps=fps, start_seconds=start_seconds, end_seconds=end_seconds)
    name = os.fspath(path)
    if not isolated:
        from hour_llava.video.decode import PlannedDecode

        source = PlannedDecode(name, sampling, first_index=first_index, threads=threads)
        return FrameReader(source)
    request = Request(
        path=name, sampling=sampling, first_index=first_index, threads=threads, ring=-1
    )
    return FrameReader(ChildDecode(request, timeout_seconds=timeout_seconds, worker=worker))
