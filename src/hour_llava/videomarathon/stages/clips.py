"""clips: windows of a video, overlapping (`paper`: 30 s every 20 s) or not (`fixed`: 30/30).

Source: arXiv 2506.05332, clip captions: 30-second clips; its printed keys ("20-50s") fit a stride
of 20 s.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hour_llava.videomarathon.records import Clip, Record, Span, clip_id
from hour_llava.videomarathon.stage import Stage, Tools, Unit
from hour_llava.videomarathon.stages.inputs import video_of


def windows(duration_ms: int, window_ms: int, stride_ms: int) -> Iterator[Span]:
    """Lay windows over a video, from its first to its last millisecond.

    Every window adds something; a rest of less than a quarter of a window joins the last one.
    """
    start = 0
    while True:
        end = start + window_ms
        rest = duration_ms - end
        if rest < window_ms / 4:
            yield Span(start_ms=start, end_ms=duration_ms)
            return
        yield Span(start_ms=start, end_ms=end)
        start += stride_ms


def _parameters(settings: Any) -> Mapping[str, Any]:
    return {"window_ms": settings.window_ms, "stride_ms": settings.stride_ms}


async def _run(unit: Unit, parameters: Mapping[str, Any], tools: Tools) -> list[Record]:
    video = video_of(unit)
    spans = windows(video.duration_ms, parameters["window_ms"], parameters["stride_ms"])
    return [
        Clip(id=clip_id(video.id, span), video_id=video.id, index=index, span=span)
        for index, span in enumerate(spans)
    ]


STAGE = Stage(
    name="clips",
    version=1,
    unit="video",
    needs=("ingest",),
    parameters=_parameters,
    run=_run,
)
