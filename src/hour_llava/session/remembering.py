"""Watching a video once: frames in, a memory file out; interrupted at will, resumed where it was.

    frames --(encoder: resize, tower, pool)--> features --(MemoryFileWriter)--> KEY.hlm in the cache

Letters: F frames, P tokens a frame, D feature size.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from hour_llava.errors import MemoryFileError, ResourceError
from hour_llava.memory.file import REMAKE
from hour_llava.memory.header import MemoryHeader
from hour_llava.memory.repository import MemoryRepository
from hour_llava.memory.writer import MemoryFileWriter
from hour_llava.schema import DamagedSpan, Sampling, VideoInfo
from hour_llava.session.answer import Progress, ProgressCallback
from hour_llava.session.cache import (
    cache_folder,
    is_there,
    memory_key,
    only_one_process,
    prepare_folder,
)
from hour_llava.session.encoder import FrameEncoder
from hour_llava.session.options import RememberOptions
from hour_llava.session.thumbnails import encode_thumbnail, thumbnail_stride, thumbnails_expected
from hour_llava.video import FrameReader, VideoFrame, read_frames

# Larger files are checked by their headers alone: reading all of one would take seconds a question.
_VERIFY_UP_TO_BYTES = 2 * 10**9


# What is lost at most when the process is killed: so many frames, or so many seconds of work.
_COMMIT_FRAMES, _COMMIT_SECONDS = 512, 1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Remembered:
    """A memory, where it came from, and what making it cost (nothing, if it was there already)."""

    memory: MemoryRepository
    path: Path
    is_cached: bool
    num_encoded: int = 0
    decode_seconds: float = 0.0
    encode_seconds: float = 0.0

    @property
    def file(self) -> Path | None:
        """The memory's file, None where it was not kept."""
        return self.memory.path


@dataclass(kw_only=True)
class _Run:
    """The moving parts of one remembering."""

    encoder: FrameEncoder
    progress: ProgressCallback
    num_frames: int = 0
    num_encoded: int = 0
    decode_seconds: float = 0.0
    encode_seconds: float = 0.0
    is_kept: bool = True
    _num_reports: int = 0
    _begun: tuple[float, int] = (0.0, 0)
    _committed_at: float = field(default_factory=time.monotonic)

    def say(self, note: str) -> None:
        self.progress(Progress(num_done=0, num_frames=0, note=note))

    def commit_now_and_then(self, writer: MemoryFileWriter) -> None:
        """Make slow work durable often and quick work seldom: each commit waits for the disk."""
        if time.monotonic() - self._committed_at > _COMMIT_SECONDS:
            writer.commit()
            self._committed_at = time.monotonic()

    def report(self, num_done: int) -> None:
        """Tell how far it is; the first batch warms up, the estimate begins with the second."""
        now = time.monotonic()
        self._num_reports += 1
        if self._num_reports <= 2:  # before the first batch, and behind it
            self._begun = now, num_done
        begin, first = self._begun
        pace = (now - begin) / (num_done - first) if num_done > first else None
        left = None if pace is None else pace * (self.num_frames - num_done)
        self.progress(
            Progress(
                num_done=num_done,
                num_frames=self.num_frames,
                seconds_left=left,
                is_kept=self.is_kept,
            )
        )


def remember_video(
    path: Path,
    encoder: FrameEncoder,
    options: RememberOptions,
    *,
    model: str,
) -> Remembered:
    """Find the memory of a video in the cache, or make it there.

    Args:
        path: the video.
        encoder: turns frames into features.
        options: which frames, who is told, and whether anything is kept.
        model: name written into the memory.

    Raises:
        VideoError: the video cannot be read.
        ResourceError: the disk is full, or the cache folder cannot be written.
    """
    run = _Run(encoder=encoder, progress=options.progress)
    sampling = options.sampling
    with _read(path, sampling) as reader:
        run.num_frames = reader.num_frames
        header = _header(reader.info, sampling, encoder, model)
        if not options.use_cache:
            _announce(header, run, options)
            memory = _write_aside(reader, path, header, run)
            return _remembered(memory, path, run)
        folder = cache_folder()
        key = memory_key(
            content_digest=header.content_digest,
            sampling=sampling,
            tower_digest=header.tower_digest,
        )
        file = folder / f"{key}.hlm"
        memory = _open_sound(file, header)
        if memory is None:
            prepare_folder(folder)
            waiting = f"another process is remembering {path.name}; waiting for it"
            with only_one_process(file, on_wait=lambda: run.say(waiting)):
                memory = _open_sound(file, header, on_broken=run.say)
                if memory is None:
                    _announce(header, run, options)
                    _write(file, reader, path, header, run)
                    return _remembered(MemoryRepository.open(file), path, run)
    return Remembered(memory=memory, path=path, is_cached=True)


def _announce(header: MemoryHeader, run: _Run, options: RememberOptions) -> None:
    """Let the caller refuse the memory that is to be made, before a frame of it is decoded."""
    if options.before_watching is None or run.num_frames == 0:
        return
    encoder = run.encoder
    shape = (run.num_frames, encoder.tokens_per_frame, encoder.feature_size)
    start, step = header.sampling.start_seconds or 0.0, 1 / header.sampling.fps
    planned = MemoryRepository(
        features_FPD=torch.empty(shape, dtype=encoder.feature_dtype, device="meta"),
        times_F=start + step * torch.arange(run.num_frames, dtype=torch.float64),
        header=header,
    )
    options.before_watching(planned)


def _remembered(memory: MemoryRepository, path: Path, run: _Run) -> Remembered:
    return Remembered(
        memory=memory,
        path=path,
        is_cached=False,
        num_encoded=run.num_encoded,
        decode_seconds=run.decode_seconds,
        encode_seconds=run.encode_seconds,
    )


def _header(info: VideoInfo, sampling: Sampling, encoder: FrameEncoder, model: str) -> MemoryHeader:
    start = sampling.start_seconds or 0.0
    end = min(sampling.end_seconds or info.duration_seconds, info.duration_seconds)
    return MemoryHeader(
        content_digest=info.content_digest,
        tower_digest=encoder.tower_digest,
        model=model,
        duration_seconds=max(end - start, 0.0),
        sampling=sampling,
        info=info,
    )


def _open_sound(
    file: Path, header: MemoryHeader, *, on_broken: Callable[[str], None] | None = None
) -> MemoryRepository | None:
    """Open a kept memory if every byte is as it was written; else it will be made again.

    Raises:
        ResourceError: the cache folder cannot be read.
    """
    if not is_there(file):
        return None
    try:
        memory = MemoryRepository.open(file)
        verify_unless_huge(memory)
    except MemoryFileError as error:
        if on_broken is not None:
            reason = str(error).removesuffix(f": {REMAKE}")
            on_broken(f"the kept memory is broken and is made again: {reason}")
        return None
    return memory if memory.header.identity() == header.identity() else None


def verify_unless_huge(memory: MemoryRepository) -> None:
    """Check every byte of a memory's file; beyond 2 GB its header, times and length alone.

    Raises:
        MemoryFileError: some byte has changed since it was written.
    """
    if memory.num_bytes <= _VERIFY_UP_TO_BYTES:
        memory.verify()


def _write_aside(
    reader: FrameReader, path: Path, header: MemoryHeader, run: _Run
) -> MemoryRepository:
    """Make a memory that nobody finds again; on POSIX an open file outlives its name."""
    folder = Path(tempfile.mkdtemp(prefix="hour-llava-"))
    run.is_kept = False
    try:
        _write(folder / "memory.hlm", reader, path, header, run)
        return MemoryRepository.open(folder / "memory.hlm")
    except ResourceError as error:
        raise ResourceError(
            f"{error}; what is not kept is written to {folder.parent}: TMPDIR names another folder"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write(file: Path, reader: FrameReader, path: Path, header: MemoryHeader, run: _Run) -> None:
    """Stream the video's frames into the memory file, from where an earlier process stopped."""
    encoder = run.encoder
    damage_log = _DamageLog(file.with_name(f"{file.name}.damage"))
    with MemoryFileWriter(
        file,
        header=header,
        tokens_per_frame=encoder.tokens_per_frame,
        feature_size=encoder.feature_size,
        dtype=encoder.feature_dtype,
        num_frames_expected=run.num_frames,
        thumbnails_expected=thumbnails_expected(run.num_frames),
        commit_every=_COMMIT_FRAMES,
        resume=run.is_kept,
    ) as writer:
        first = writer.num_frames
        if first == 0:
            damage_log.forget()
        else:
            run.say(f"resuming {path.name} at frame {first:,} of {run.num_frames:,}")
        run.report(first)
        if first == 0:
            _encode_all(reader, writer, damage_log, run)
            damage = reader.damage
        elif first < run.num_frames:
            reader.close()
            with _read(path, header.sampling, first) as rest:
                _encode_all(rest, writer, damage_log, run)
                damage = rest.damage
        else:
            damage = header.info.damage if header.info else ()
        writer.finish(damage=damage_log.added_to(tuple(damage), 1 / header.sampling.fps))
    damage_log.forget()


def _read(path: Path, sampling: Sampling, first: int = 0) -> FrameReader:
    return read_frames(
        path,
        fps=sampling.fps,
        start_seconds=sampling.start_seconds,
        end_seconds=sampling.end_seconds,
        first_index=first,
    )


def _encode_all(
    reader: FrameReader, writer: MemoryFileWriter, damage_log: _DamageLog, run: _Run
) -> None:
    """Encode in batches that lie where they would lie without an interruption."""
    encoder, stride = run.encoder, thumbnail_stride(run.num_frames)
    pixels: list[Tensor] = []
    times: list[float] = []
    thumbnails: list[tuple[float, bytes]] = []

    def flush() -> None:
        begin = time.monotonic()
        writer.add(encoder.encode(torch.cat(pixels)), times, tuple(thumbnails))
        run.commit_now_and_then(writer)
        run.num_encoded += len(times)
        run.encode_seconds += time.monotonic() - begin
        for given in (pixels, times, thumbnails):
            given.clear()
        run.report(writer.num_frames)

    group_frames = encoder.group_frames(reader.info.width * reader.info.height * 3)
    for frames in _groups(_timed(reader, run), group_frames):
        begin = time.monotonic()
        pixels.append(encoder.resize([frame.rgb for frame in frames]))
        times += [frame.pts_seconds for frame in frames]
        thumbnails += [
            (frame.pts_seconds, encode_thumbnail(frame.rgb))
            for frame in frames
            if frame.index % stride == 0
        ]
        damage_log.add([frame.tick_seconds for frame in frames if frame.is_damaged])
        run.encode_seconds += time.monotonic() - begin
        if len(times) >= encoder.batch_frames:
            flush()
    if times:
        flush()


def _timed(reader: FrameReader, run: _Run) -> Iterator[VideoFrame]:
    """Give the frames, and count the time spent waiting for them as decoding."""
    frames = iter(reader)
    while True:
        begin = time.monotonic()
        frame = next(frames, None)
        run.decode_seconds += time.monotonic() - begin
        if frame is None:
            return
        yield frame


def _groups(frames: Iterable[VideoFrame], size: int) -> Iterator[list[VideoFrame]]:
    source = iter(frames)
    while group := list(islice(source, size)):
        yield group


class _DamageLog:
    """The damaged seconds of an unfinished memory, kept beside it: a restart must not lose them."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, seconds: list[float]) -> None:
        if seconds:
            with self._path.open("a", encoding="ascii") as file:
                file.writelines(f"{second}\n" for second in seconds)

    def added_to(
        self, named: tuple[DamagedSpan, ...], frame_seconds: float
    ) -> tuple[DamagedSpan, ...]:
        """Add the logged seconds that the reader does not name: they are from before a restart."""
        lines = self._path.read_text("ascii").splitlines() if self._path.exists() else []
        spans: list[DamagedSpan] = []
        for second in sorted(float(line) for line in lines):
            end = second + frame_seconds
            if any(one.start_seconds < end and second < one.end_seconds for one in named):
                continue
            if spans and second <= spans[-1].end_seconds:
                spans[-1] = replace(spans[-1], end_seconds=end)
            else:
                spans.append(
                    DamagedSpan(
                        start_seconds=second,
                        end_seconds=end,
                        reason="the decoder flagged these frames",
                    )
                )
        return tuple(sorted([*named, *spans], key=lambda span: span.start_seconds))

    def forget(self) -> None:
        self._path.unlink(missing_ok=True)
