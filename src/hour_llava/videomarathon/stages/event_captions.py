"""event_captions: each event told as one narrative; its neighbours are context only.

Source: arXiv 2506.05332, event captions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hour_llava.videomarathon.records import ClipCaption, Event, Record, Video
from hour_llava.videomarathon.schemas import EventDescription
from hour_llava.videomarathon.stage import Request, Stage, Tools, Unit
from hour_llava.videomarathon.stages.asking import ask_until, gather
from hour_llava.videomarathon.stages.inputs import (
    all_aspects,
    calls,
    captions_of,
    events_of,
    video_of,
)
from hour_llava.videomarathon.wording import say_key, say_language, say_seconds

_VERSION = 2


def _within(event: Event, captions: Sequence[ClipCaption]) -> list[ClipCaption]:
    return [caption for caption in captions if caption.clip_id in event.clip_ids]


def _in_short(event: Event | None, captions: Sequence[ClipCaption], *, end: str) -> str:
    if event is None:
        return f"nothing; the video {end}s here"
    own = _within(event, captions)
    clip = own[-1 if end == "begin" else 0] if own else None
    summary = " ".join(clip.aspects.summary.split()) if clip else ""
    return f'[{say_key(event.span)}] "{event.title}". {summary}'.strip()


async def _tell(
    tools: Tools,
    video: Video,
    events: Sequence[Event],
    index: int,
    captions: Sequence[ClipCaption],
    language: str,
) -> Event:
    event = events[index]
    own = _within(event, captions)
    if not own:  # no usable caption lies within it: its title is all that is known
        return event.model_copy(update={"narrative": event.title})
    previous = events[index - 1] if index else None
    following = events[index + 1] if index + 1 < len(events) else None
    request = Request(
        stage="event_captions",
        unit=event.id,
        role="llm",
        video=video,
        prompt="event_caption",
        values={
            "title": event.title,
            "start_seconds": say_seconds(event.span.start_ms),
            "end_seconds": say_seconds(event.span.end_ms),
            "captions": all_aspects(own),
            "previous": _in_short(previous, captions, end="begin"),
            "next": _in_short(following, captions, end="end"),
            "language": say_language(language),
        },
        schema=EventDescription,
        subject=(event, *own),
    )
    narrative, source = await ask_until(
        tools, request, lambda reply: reply.description, version=_VERSION
    )
    keys = event.provenance.call_keys + source.call_keys
    source = source.model_copy(update={"call_keys": keys})
    return event.model_copy(update={"narrative": narrative, "provenance": source})


def _parameters(settings: Any) -> Mapping[str, Any]:
    return {"language": settings.language}


async def _run(unit: Unit, parameters: Mapping[str, Any], tools: Tools) -> list[Record]:
    video, captions, events = video_of(unit), captions_of(unit), events_of(unit, "events")
    language = parameters["language"]
    return list(
        await gather(
            _tell(tools, video, events, index, captions, language) for index in range(len(events))
        )
    )


def _count_calls(unit: Unit, parameters: Mapping[str, Any]) -> int:
    captions = captions_of(unit)
    told = sum(bool(_within(event, captions)) for event in events_of(unit, "events"))
    return calls(unit, told)


STAGE = Stage(
    name="event_captions",
    version=_VERSION,
    unit="video",
    needs=("ingest", "caption_check", "events"),
    parameters=_parameters,
    prompts=("event_caption",),
    schemas=(EventDescription,),
    roles=("llm",),
    run=_run,
    count_calls=_count_calls,
)
