"""ingest: what a file is, or why it is set aside. Reads packets, not pictures.

A file that is no usable video is a row with its reason, never an error: the build goes on.
"""

from __future__ import annotations

import asyncio
import posixpath
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from hour_llava.errors import NoVideoStreamError, VideoError
from hour_llava.schema import VideoInfo
from hour_llava.video import probe
from hour_llava.videomarathon.backends.truth_check import check_truth
from hour_llava.videomarathon.records import Backend, Record, SetAside, Video, digest
from hour_llava.videomarathon.stage import Stage, Tools, Unit
from hour_llava.videomarathon.wording import say_duration

TOLERANCE_MS = 1000
"""Of the limits of length: 59:59.97 is an hour."""


def read_file(file: str, path: str, parameters: Mapping[str, Any]) -> Video | SetAside:
    """Look at one file.

    Args:
        file: Where it lies.
        path: Relative to the build's source folder: what records say, on any machine.
        parameters: min_ms, max_ms, source, licence, backend, truth.
    """

    def aside(reason: str, detail: str) -> SetAside:
        relative = printable(detail.replace(file, path))
        return SetAside(stage="ingest", path=printable(path), reason=reason, detail=relative)

    if printable(path) != path:
        return aside("unreadable", "its name is not UTF-8; rename it")
    try:
        info = probe(file)
    except VideoError as error:
        return aside(_reason(file, error), str(error))
    duration_ms = round(info.duration_seconds * 1000)
    low, high = parameters["min_ms"], parameters["max_ms"]
    if duration_ms < low - TOLERANCE_MS:
        return aside("too_short", f"lasts {_length(duration_ms)}, at least {_length(low)} is asked")
    if duration_ms > high + TOLERANCE_MS:
        return aside("too_long", f"lasts {_length(duration_ms)}, at most {_length(high)} is asked")
    video = _video(info, path, duration_ms, parameters)
    if video.backend != "truth":
        return video
    mismatch = check_truth(file, str(parameters["truth"]), duration_ms=duration_ms)
    if mismatch:
        return aside(
            "bad_truth", mismatch.replace(str(parameters["truth"]), _truth_path(path, parameters))
        )
    truth = Path(str(parameters["truth"])).read_bytes()
    place = _truth_path(path, parameters)
    return video.model_copy(update={"truth_path": place, "truth_digest": digest(truth)})


def _video(info: VideoInfo, path: str, duration_ms: int, parameters: Mapping[str, Any]) -> Video:
    backend = parameters["backend"]
    if backend == "auto":
        backend = "truth" if parameters.get("truth") else "embedded"
    damaged = sum(span.end_seconds - span.start_seconds for span in info.damage)
    return Video(
        id=digest(info.content_digest),
        path=path,
        source=parameters["source"],
        licence=parameters["licence"],
        duration_ms=duration_ms,
        width=info.width,
        height=info.height,
        average_fps=round(info.average_fps, 3),
        has_audio=info.has_audio,
        content_digest=info.content_digest,
        backend=cast(Backend, backend),
        num_damaged_ms=round(damaged * 1000),
    )


def _reason(file: str, error: VideoError) -> str:
    try:
        if Path(file).stat().st_size == 0:
            return "empty"
    except OSError:
        return "unreadable"
    return "no_video" if isinstance(error, NoVideoStreamError) else "unreadable"


def _truth_path(path: str, parameters: Mapping[str, Any]) -> str:
    """Return the truth file's place relative to the source folder: it stands beside its video."""
    return posixpath.join(posixpath.dirname(path), Path(str(parameters["truth"])).name)


def _length(ms: int) -> str:
    return say_duration(ms) if ms >= 1000 else f"{ms} ms"


def printable(text: str) -> str:
    """Return text with bytes of a name that are not UTF-8 written out: `\\udcff`."""
    return text.encode("utf-8", "backslashreplace").decode()


def _parameters(settings: Any) -> Mapping[str, Any]:
    return {
        "min_ms": round(settings.min_minutes * 60_000),
        "max_ms": round(settings.max_minutes * 60_000),
        "source": settings.data_source,
        "licence": settings.licence,
    }


async def _run(unit: Unit, parameters: Mapping[str, Any], tools: Tools) -> list[Record]:
    file, path = str(parameters["file"]), str(parameters["path"])
    return [await asyncio.to_thread(read_file, file, path, parameters)]


STAGE = Stage(name="ingest", version=1, unit="file", needs=(), parameters=_parameters, run=_run)
