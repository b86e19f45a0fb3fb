"""The pictures of clips: one frame a second as JPEG, from one decoding pass a video.

Windows overlap and a video has up to 180 of them, so a video with many waiting clips is decoded
once, from its first second on, and its JPEGs wait in an unnamed file (it vanishes with the
process): memory stays flat, and clips are served as soon as their seconds have come. A video with
few waiting clips is opened at their seconds. Both ways give the same bytes.
"""

from __future__ import annotations

import asyncio
import io
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from PIL import Image

from hour_llava.video import VideoFrame, read_frames
from hour_llava.videomarathon.records import Video

Pictures = Sequence[tuple[int, bytes]]

_FEW_CLIPS = 4
"""Up to so many waiting clips are cheaper one by one."""
_QUALITY = 85


class FrameServer:
    """Serves the clips of many videos to one event loop.

    Args:
        source: The folder that videos' paths start from.
        cache: Where pictures wait; made when the first pass starts.
        side: The longest side of a picture, in pixels; smaller videos are not enlarged.
        num_decoders: Videos decoded at once, each in a child process of its own.
    """

    def __init__(self, source: Path, cache: Path, *, side: int, num_decoders: int) -> None:
        self._source, self._cache, self._side = source, cache, side
        self._decoders = asyncio.Semaphore(num_decoders)
        self._passes: dict[str, _Pass] = {}
        self._waiting: dict[str, int] = {}

    def expect(self, num_clips: Mapping[str, int]) -> None:
        """Say how many clips of each video will be asked for."""
        self._waiting = dict(num_clips)

    async def __call__(self, video: Video, start_ms: int, end_ms: int) -> Pictures:
        """Return (time in ms, JPEG file) for each whole second in a stretch of a video.

        Raises:
            VideoError: the file cannot be read (any more).
            OSError: the disk is full.
        """
        first, last = seconds_in(start_ms, end_ms)
        running = self._passes.get(video.id)
        if running is None and self._waiting.get(video.id, 0) > _FEW_CLIPS:
            running = _Pass(self._source / video.path, self._cache, self._side, self._decoders)
            self._passes[video.id] = running
        if running is None:
            return await self._window(video, first, last)
        try:
            return await running.take(first, last)
        finally:
            self._waiting[video.id] = self._waiting.get(video.id, 0) - 1
            if self._waiting[video.id] <= 0 and self._passes.pop(video.id, None) is not None:
                await running.close()

    async def close(self) -> None:
        """Stop decoding and let the pictures go."""
        passes, self._passes = list(self._passes.values()), {}
        for one in passes:
            await one.close()

    async def _window(self, video: Video, first: int, last: int) -> Pictures:
        def decode() -> Pictures:
            reader = read_frames(
                self._source / video.path,
                start_seconds=float(first),
                end_seconds=float(last + 1),
                threads=1,
            )
            with reader:
                return [
                    (1000 * (first + number), to_jpeg(frame, self._side))
                    for number, frame in enumerate(reader)
                ]

        async with self._decoders:
            return await asyncio.to_thread(decode)


def seconds_in(start_ms: int, end_ms: int) -> tuple[int, int]:
    """Return the first and the last whole second of a stretch; a short one has the one before."""
    first, last = -(-start_ms // 1000), (end_ms - 1) // 1000
    return (first, last) if first <= last else (last, last)


def to_jpeg(frame: VideoFrame, side: int) -> bytes:
    """Return a frame as a JPEG file whose longest side is at most `side` pixels."""
    image = Image.fromarray(frame.rgb)
    longest = max(image.size)
    if longest > side:
        width, height = (max(1, round(length * side / longest)) for length in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()


class _Pass:
    """One decoding pass: a thread that reads a child's frames, and clips that wait for them."""

    def __init__(self, path: Path, cache: Path, side: int, decoders: asyncio.Semaphore) -> None:
        self._path, self._cache, self._side, self._decoders = path, cache, side, decoders
        self._places: list[tuple[int, int]] = []  # by second: where its JPEG lies, its length
        self._is_stopped = False
        self._news = asyncio.Condition()
        self._file: IO[bytes] | None = None
        self._task = asyncio.create_task(self._run())

    async def take(self, first: int, last: int) -> Pictures:
        async with self._news:
            await self._news.wait_for(lambda: len(self._places) > last or self._task.done())
        if self._task.done():
            self._task.result()  # raises what ended the pass
        seconds = range(first, min(last + 1, len(self._places)))
        if not seconds and self._places:  # the last frame comes before the clip's first second
            seconds = range(len(self._places) - 1, len(self._places))
        assert self._file is not None
        handle = self._file.fileno()
        return [
            (1000 * s, os.pread(handle, size, at))
            for s in seconds
            for at, size in (self._places[s],)
        ]

    async def close(self) -> None:
        self._is_stopped = True
        await asyncio.gather(self._task, return_exceptions=True)
        if self._file is not None:
            self._file.close()

    async def _run(self) -> None:
        try:
            async with self._decoders:
                await asyncio.to_thread(self._decode, asyncio.get_running_loop())
        finally:
            # Whoever waits looks at the task, which is done only after this.
            asyncio.get_running_loop().call_soon(lambda: asyncio.create_task(self._tell()))

    def _decode(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._is_stopped:
            return
        self._cache.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=self._cache)  # noqa: SIM115  (closed by close)
        with read_frames(self._path, threads=1) as reader:
            at = 0
            for frame in reader:
                if self._is_stopped:
                    return
                data = to_jpeg(frame, self._side)
                self._file.write(data)
                self._file.flush()
                self._places.append((at, len(data)))
                at += len(data)
                if len(self._places) % 10 == 0:
                    asyncio.run_coroutine_threadsafe(self._tell(), loop)

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()
