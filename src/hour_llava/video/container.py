"""Opening a video file: which paths and which streams are a video, in errors of one line each."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import av
from av.container import InputContainer
from av.error import FFmpegError, InvalidDataError
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

from hour_llava.errors import (
    BrokenVideoError,
    NoVideoStreamError,
    VideoError,
    VideoNotFoundError,
)

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
EBML_ID, SEGMENT_ID = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
# Playlists would make the library open other files, or the network, in the user's name.
PLAYLIST_FORMATS = frozenset({"hls", "concat", "dash", "sdp", "rtsp", "imf"})
_TOLD_LETTERS = 300  # of a path that is too long


def check_path(path: str | os.PathLike[str]) -> str:
    """Return the path as text if it is a readable file that is not empty.

    Raises:
        VideoNotFoundError: Missing, a folder, a URL, a device, or without permission.
        BrokenVideoError: Zero bytes.
    """
    name = os.fspath(path)
    if not name:
        raise VideoNotFoundError("the path is empty; name a video file")
    try:
        status = Path(name).stat()
    except (OSError, ValueError) as error:
        raise VideoNotFoundError(_why_not_found(name, error)) from None
    if stat.S_ISDIR(status.st_mode):
        raise VideoNotFoundError(f"{name} is a folder; name a video file in it")
    if not stat.S_ISREG(status.st_mode):
        raise VideoNotFoundError(f"{name} is not a regular file; copy the video to disk first")
    if not os.access(name, os.R_OK):
        raise VideoNotFoundError(f"{name} may not be read by this user; change its permissions")
    if status.st_size == 0:
        raise BrokenVideoError(f"{name} holds 0 bytes; copy or download it again")
    return name


def _why_not_found(name: str, error: OSError | ValueError) -> str:
    if URL.match(name):
        return f"{name} is a URL; download the video first and name the file"
    if isinstance(error, PermissionError):
        return f"{name} may not be read by this user; change the permissions of its folder"
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return f"{name} does not exist; check the path"
    reason = getattr(error, "strerror", None) or error
    return f"{name[-_TOLD_LETTERS:]!r} is no usable path ({reason}); check the path"


@contextmanager
def open_video(name: str) -> Generator[tuple[InputContainer, VideoStream]]:
    """Open a checked path and choose its video stream; the other streams are not read.

    Raises:
        NoVideoStreamError: Not a media file, audio only, or cover art only.
        BrokenVideoError: A media file whose index is missing or damaged.
    """
    container = _open(name)
    try:
        stream = _choose_stream(name, container)
        for other in container.streams:
            if other.index != stream.index:
                other.discard = Discard.all
        yield container, stream
    finally:
        container.close()


def _open(name: str) -> InputContainer:
    try:
        # "file:" keeps a colon in a name from being read as a protocol.
        container = av.open(f"file:{name}", options={"protocol_whitelist": "file"})
    except InvalidDataError:
        raise _unreadable(name) from None
    except (FFmpegError, OSError, ValueError) as error:
        raise BrokenVideoError(f"{name} cannot be opened: {_reason(error)}") from None
    if PLAYLIST_FORMATS & set(container.format.name.split(",")):
        container.close()
        raise NoVideoStreamError(f"{name} is a playlist, not a video; name the video file itself")
    return container


def _unreadable(name: str) -> VideoError:
    """Tell a media file without its index from a file of another kind, by its first bytes."""
    with Path(name).open("rb") as file:
        head = file.read(4096)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return BrokenVideoError(
            f"{name} is an mp4 without a usable index (moov): its recording or download did not "
            "finish; copy it again or repair it"
        )
    if head.startswith((EBML_ID, b"RIFF")):
        return BrokenVideoError(f"{name} is a media file with a damaged header; copy it again")
    return NoVideoStreamError(f"{name} is not a video file that FFmpeg knows; check the file")


def num_missing_bytes(name: str) -> int:
    """Say how many bytes a Matroska file promises and does not have; 0 for other formats."""
    with Path(name).open("rb") as file:
        head = file.read(4096)
    position = head.find(SEGMENT_ID)
    if not head.startswith(EBML_ID) or not 0 <= position < len(head) - 12:
        return 0
    first = position + len(SEGMENT_ID)
    num_size_bytes = 9 - head[first].bit_length()
    written = int.from_bytes(head[first : first + num_size_bytes], "big")
    size = written & (1 << 7 * num_size_bytes) - 1
    is_unknown = size == (1 << 7 * num_size_bytes) - 1
    promised = 0 if is_unknown else first + num_size_bytes + size
    return max(0, promised - Path(name).stat().st_size)


def _choose_stream(name: str, container: InputContainer) -> VideoStream:
    """Choose the default stream, then the one with the most pixels; cover art is not video."""
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        what = "cover art but no video" if container.streams.video else "no video stream"
        audio = "audio and " if container.streams.audio else ""
        raise NoVideoStreamError(f"{name} holds {audio}{what}; choose a file with video")
    # PyAV's types do not say so, but there is no context where FFmpeg has no decoder.
    decodable = [s for s in streams if getattr(s, "codec_context", None) is not None]
    if not decodable:
        raise NoVideoStreamError(
            f"{name} holds a picture stream that no decoder here can read; re-encode it as H.264"
        )
    return max(decodable, key=_preference)


def _preference(stream: VideoStream) -> tuple[bool, int, int]:
    context = stream.codec_context
    is_default = bool(stream.disposition & Disposition.default)
    return is_default, context.width * context.height, -stream.index


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error).splitlines()[0]
