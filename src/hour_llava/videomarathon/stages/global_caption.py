"""global_caption: the whole video as one narrative without times.

Source: arXiv 2506.05332, global caption.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hour_llava.videomarathon.records import GlobalCaption, Record
from hour_llava.videomarathon.schemas import GlobalDescription
from hour_llava.videomarathon.stage import Request, Stage, Tools, Unit
from hour_llava.videomarathon.stages.asking import ask_until
from hour_llava.videomarathon.stages.inputs import calls, event_lines, events_of, video_of
from hour_llava.videomarathon.wording import say_language, say_seconds

_VERSION = 1


def _parameters(settings: Any) -> Mapping[str, Any]:
    return {"language": settings.language}


async def _run(unit: Unit, parameters: Mapping[str, Any], tools: Tools) -> list[Record]:
    video, events = video_of(unit), events_of(unit, "event_captions")
    request = Request(
        stage="global_caption",
        unit=video.id,
        role="llm",
        video=video,
        prompt="global_caption",
        values={
            "duration_seconds": say_seconds(video.duration_ms),
            "events": event_lines(events),
            "language": say_language(parameters["language"]),
        },
        schema=GlobalDescription,
        subject=tuple(events),
    )
    text, source = await ask_until(
        tools, request, lambda reply: reply.description, version=_VERSION
    )
    return [
        GlobalCaption(
            video_id=video.id,
            text=text,
            event_ids=tuple(event.id for event in events),
            provenance=source,
        )
    ]


STAGE = Stage(
    name="global_caption",
    version=_VERSION,
    unit="video",
    needs=("ingest", "event_captions"),
    parameters=_parameters,
    prompts=("global_caption",),
    schemas=(GlobalDescription,),
    roles=("llm",),
    run=_run,
    count_calls=lambda unit, parameters: calls(unit, 1),
)
