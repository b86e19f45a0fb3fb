"""events: where one theme of a video ends and the next begins.

A model's times are no finer than the clips it read of, so they are moved to the nearest border of a
clip; a truth file's and measured ones stay as they are.
Source: arXiv 2506.05332, event splitting; at least three events a video.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hour_llava.videomarathon.records import (
    ClipCaption,
    Event,
    Record,
    SetAside,
    Span,
    Video,
    event_id,
)
from hour_llava.videomarathon.schemas import EventSplit
from hour_llava.videomarathon.stage import Request, Stage, Tools, Unit
from hour_llava.videomarathon.stages.asking import StructureError, ask_until
from hour_llava.videomarathon.stages.inputs import (
    MODEL_BACKENDS,
    aspect_lines,
    calls,
    captions_of,
    video_of,
)
from hour_llava.videomarathon.wording import read_key, say_language, say_seconds

_VERSION = 2
Titled = tuple[Span, str]


def read_split(split: EventSplit, captions: Sequence[ClipCaption], video: Video) -> list[Titled]:
    """Read a split: sorted, within the video, and on clips' borders where a model speaks.

    Stretches outside the video are dropped, as are those that lie within the one before; an overlap
    of more than a clip is cut.

    Raises:
        StructureError: a key is no stretch, or nothing is left.
    """
    stretches: list[tuple[int, int, str]] = []
    for key, title in split.root.items():
        times = read_key(key)
        if times is None:
            raise StructureError(f'the key {key!r} is no stretch such as "0-70s"')
        start, end = times[0], min(times[1], video.duration_ms)
        if start < end:
            stretches.append((start, end, " ".join(title.split())))
    if video.backend in MODEL_BACKENDS:
        stretches = _snap(stretches, captions)
    if not stretches:
        raise StructureError(f"no event lies within the video's {say_seconds(video.duration_ms)} s")
    return [(Span(start_ms=s, end_ms=e), title) for s, e, title in sorted(stretches)]


def _snap(
    stretches: Sequence[tuple[int, int, str]], captions: Sequence[ClipCaption]
) -> list[tuple[int, int, str]]:
    borders = sorted({t for c in captions for t in (c.span.start_ms, c.span.end_ms)})
    longest = max(caption.span.duration_ms for caption in captions)
    kept: list[tuple[int, int, str]] = []
    for start, end, title in sorted(stretches):
        start = min(borders[:-1], key=lambda t: (abs(t - start), t))
        end = min((t for t in borders if t > start), key=lambda t: (abs(t - end), t))
        if kept and end <= kept[-1][1]:
            continue
        if kept and kept[-1][1] > start + longest:
            kept[-1] = (kept[-1][0], start, kept[-1][2])
            if kept[-1][1] <= kept[-1][0]:
                kept.pop()
        kept.append((start, end, title))
    return kept


def clips_within(span: Span, captions: Sequence[ClipCaption]) -> tuple[str, ...]:
    """Name the clips that share with an event at least half of the shorter of both."""
    return tuple(
        caption.clip_id
        for caption in captions
        if 2 * span.overlap_ms(caption.span) >= min(span.duration_ms, caption.span.duration_ms)
    )


def _set_aside(video: Video, reason: str, detail: str) -> SetAside:
    return SetAside(
        stage="events", path=video.path, video_id=video.id, reason=reason, detail=detail
    )


def _parameters(settings: Any) -> Mapping[str, Any]:
    return {"language": settings.language, "min_events": settings.min_events}


async def _run(unit: Unit, parameters: Mapping[str, Any], tools: Tools) -> list[Record]:
    video, captions = video_of(unit), captions_of(unit)
    if not captions:
        return [_set_aside(video, "no_usable_captions", "caption_check let no caption pass")]
    request = Request(
        stage="events",
        unit=video.id,
        role="llm",
        video=video,
        prompt="event_split",
        values={
            "duration_seconds": say_seconds(video.duration_ms),
            "captions": aspect_lines(captions, "summary"),
            "min_events": parameters["min_events"],
            "language": say_language(parameters["language"]),
        },
        schema=EventSplit,
        subject=tuple(captions),
    )
    titled, source = await ask_until(
        tools, request, lambda split: read_split(split, captions, video), version=_VERSION
    )
    if len(titled) < parameters["min_events"]:
        detail = f"{len(titled)} events; a video needs {parameters['min_events']}"
        return [_set_aside(video, "too_few_events", detail)]
    return [
        Event(
            id=event_id(video.id, index),
            video_id=video.id,
            index=index,
            span=span,
            title=title,
            clip_ids=clips_within(span, captions),
            provenance=source,
        )
        for index, (span, title) in enumerate(titled)
    ]


STAGE = Stage(
    name="events",
    version=_VERSION,
    unit="video",
    needs=("ingest", "caption_check"),
    parameters=_parameters,
    prompts=("event_split",),
    schemas=(EventSplit,),
    roles=("llm",),
    run=_run,
    count_calls=lambda unit, parameters: calls(unit, 1),
)
