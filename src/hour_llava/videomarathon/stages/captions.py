"""captions: one clip in six aspects, from its pictures.

Source: arXiv 2506.05332, clip captions: one frame a second, JSON with six keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hour_llava.videomarathon.records import Clip, ClipCaption, Record, Span, Video
from hour_llava.videomarathon.schemas import ClipAspects
from hour_llava.videomarathon.stage import Request, Stage, Tools, Unit
from hour_llava.videomarathon.stages.asking import ask_until
from hour_llava.videomarathon.stages.inputs import MODEL_BACKENDS, all_of, calls, video_of
from hour_llava.videomarathon.wording import say_language, say_seconds

_VERSION = 1


async def caption_clip(
    tools: Tools,
    video: Video,
    clip: Clip | ClipCaption,
    *,
    stage: str,
    language: str,
    note: str = "",
    version: int = _VERSION,
) -> ClipCaption:
    """Ask for the caption of a clip; `note` tells the model what was wrong with an earlier one.

    Raises:
        UnitError: no usable answer.
    """
    clip_id = clip.id if isinstance(clip, Clip) else clip.clip_id
    images = await _pictures(tools, video, clip.span)
    request = Request(
        stage=stage,
        unit=clip_id,
        role="captioner",
        video=video,
        prompt="clip_caption",
        values={
            "num_frames": len(images),
            "start_seconds": say_seconds(clip.span.start_ms),
            "end_seconds": say_seconds(clip.span.end_ms),
            "language": say_language(language),
            "note": f"\n{note}\n" if note else "",
        },
        images=images,
        schema=ClipAspects,
        subject=(clip,),
    )
    aspects, source = await ask_until(tools, request, ClipAspects.aspects, version=version)
    return ClipCaption(
        clip_id=clip_id, video_id=video.id, span=clip.span, aspects=aspects, provenance=source
    )


async def _pictures(tools: Tools, video: Video, span: Span) -> tuple[bytes, ...]:
    if video.backend not in MODEL_BACKENDS:
        return ()
    frames = await tools.frames(video, span.start_ms, span.end_ms)
    return tuple(jpeg for _, jpeg in frames)


def _parameters(settings: Any) -> Mapping[str, Any]:
    return {"language": settings.language}


async def _run(unit: Unit, parameters: Mapping[str, Any], tools: Tools) -> list[Record]:
    (clip,) = all_of(unit, "clips", Clip)
    language = parameters["language"]
    return [await caption_clip(tools, video_of(unit), clip, stage="captions", language=language)]


STAGE = Stage(
    name="captions",
    version=_VERSION,
    unit="clip",
    needs=("ingest", "clips"),
    parameters=_parameters,
    prompts=("clip_caption",),
    schemas=(ClipAspects,),
    roles=("captioner",),
    run=_run,
    count_calls=lambda unit, parameters: calls(unit, 1),
)
