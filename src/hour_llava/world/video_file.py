"""A timeline as an ordinary mp4 file: H.264 by default, constant rate, no sound, no metadata."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path

import av
from av.error import FFmpegError

from hour_llava.errors import HourLlavaError, ResourceError
from hour_llava.world.render import Renderer
from hour_llava.world.timeline import Timeline

Progress = Callable[[int, int], None]
"""Called with (frames written, frames in all)."""

ENCODER_OPTIONS: dict[str, dict[str, str]] = {
    "libx264": {"preset": "ultrafast", "crf": "29"},
    "libx265": {"preset": "ultrafast", "crf": "27", "x265-params": "log-level=error"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "36", "b": "0"},
    "mpeg4": {"qscale": "5"},
}
_FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_video(
    timeline: Timeline,
    path: Path,
    *,
    fps: int = 6,
    width: int = 320,
    height: int = 180,
    codec: str = "libx264",
    options: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> None:
    """Render and encode a whole timeline; whole seconds fall on frames exactly.

    The file is written as NAME.partial and renamed when it is complete; nothing stays on failure.

    Args:
        timeline: what to show.
        path: the mp4 to write; an older one is replaced.
        fps: frames a second, at least 1.
        width: even number of pixels.
        height: even number of pixels.
        codec: PyAV's name of the encoder.
        options: of the encoder; by default those of `ENCODER_OPTIONS`.
        progress: called now and then.
    Raises:
        ResourceError: the disk is full.
        HourLlavaError: the file cannot be written, or this PyAV lacks the encoder.
    Cost: at 320 x 180, 6 fps: 25 CPU seconds and 20-25 MB an hour.
    """
    if fps < 1 or width < 32 or height < 32 or width % 2 or height % 2:
        raise HourLlavaError(
            f"{path}: {width} x {height} at {fps} frames a second cannot be encoded; take even "
            "numbers of at least 32 pixels and at least 1 frame a second"
        )
    partial = path.with_name(path.name + ".partial")
    try:
        _encode(timeline, partial, fps, (width, height), codec, options, progress)
        partial.replace(path)
    except OSError as error:
        raise as_write_error(error, path) from error
    except FFmpegError as error:
        raise HourLlavaError(f"{path}: {codec} failed ({error}); try another codec") from error
    finally:
        partial.unlink(missing_ok=True)


def as_write_error(error: OSError, path: Path) -> HourLlavaError:
    """Say in one line why a file could not be written, and what to do."""
    reason = error.strerror or str(error)
    if error.errno in _FULL_DISK:
        return ResourceError(
            f"{path}: the disk is full ({reason}); nothing was kept; free some space (an hour "
            "takes about 30 MB) or choose another folder"
        )
    return HourLlavaError(f"{path}: cannot be written ({reason}); choose another folder")


def _encode(
    timeline: Timeline,
    path: Path,
    fps: int,
    size: tuple[int, int],
    codec: str,
    options: Mapping[str, str] | None,
    progress: Progress | None,
) -> None:
    num_frames = timeline.duration_seconds * fps
    renderer = Renderer(*size)
    muxing = {"movflags": "+faststart", "fflags": "+bitexact"}
    with av.open(str(path), "w", format="mp4", options=muxing) as container:
        try:
            stream = container.add_stream(codec, rate=fps)
        except ValueError as error:  # av.codec.codec.UnknownCodecError
            raise HourLlavaError(f"{path}: no encoder {codec!r} in this PyAV ({error})") from error
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, fps)
        stream.options = dict(ENCODER_OPTIONS.get(codec, {}) if options is None else options)
        for index in range(num_frames):
            rgb = renderer.render(timeline, index / fps)
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts = index
            container.mux(stream.encode(frame))
            if progress is not None and index % 50 == 0:
                progress(index, num_frames)
        container.mux(stream.encode(None))
    if progress is not None:
        progress(num_frames, num_frames)
