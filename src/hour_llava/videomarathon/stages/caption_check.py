"""caption_check: refusals, loops, copies and the like; one re-ask, then the caption is not used.

Captions of a truth file and measured ones are not judged: there is nobody to ask again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hour_llava.videomarathon.checks.captions import check_caption
from hour_llava.videomarathon.records import ClipCaption, Record, Verdict, Video
from hour_llava.videomarathon.schemas import ClipAspects
from hour_llava.videomarathon.stage import Stage, Tools, Unit, UnitError
from hour_llava.videomarathon.stages.asking import gather
from hour_llava.videomarathon.stages.captions import caption_clip
from hour_llava.videomarathon.stages.inputs import all_of, in_time_order, video_of

_VERSION = 1


def _judge(captions: Sequence[ClipCaption], language: str) -> list[ClipCaption]:
    """Put the verdicts into the captions; each is also held against the one before it."""
    before: Sequence[ClipCaption | None] = [None, *captions]
    judged: list[ClipCaption] = []
    for caption, previous in zip(captions, before, strict=False):
        verdicts = check_caption(caption, previous, language=language)
        is_usable = not _faults(verdicts)
        judged.append(caption.model_copy(update={"verdicts": verdicts, "is_usable": is_usable}))
    return judged


def _faults(verdicts: Sequence[Verdict]) -> list[str]:
    return [f"{v.rule}: {v.detail}" for v in verdicts if v.outcome == "fail"]


async def _ask_again(
    tools: Tools, video: Video, caption: ClipCaption, language: str
) -> ClipCaption:
    """Ask once more, saying what was wrong; what cannot be had anew stays as it is."""
    if caption.is_usable:
        return caption
    note = (
        "An earlier description of this stretch could not be used "
        f"({'; '.join(_faults(caption.verdicts))}). Describe it anew, without this fault."
    )
    try:
        anew = await caption_clip(
            tools,
            video,
            caption,
            stage="caption_check",
            language=language,
            note=note,
            version=_VERSION,
        )
    except UnitError as error:
        if error.failure != "content":
            raise
        return caption
    keys = caption.provenance.call_keys + anew.provenance.call_keys
    source = anew.provenance.model_copy(update={"call_keys": keys})
    return anew.model_copy(update={"provenance": source})


def _parameters(settings: Any) -> Mapping[str, Any]:
    return {"language": settings.language}


async def _run(unit: Unit, parameters: Mapping[str, Any], tools: Tools) -> list[Record]:
    video, language = video_of(unit), parameters["language"]
    judged = _judge(in_time_order(all_of(unit, "captions", ClipCaption)), language)
    if not all(caption.is_usable for caption in judged):
        anew = await gather(_ask_again(tools, video, c, language) for c in judged)
        judged = _judge(anew, language)
    return list(judged)


STAGE = Stage(
    name="caption_check",
    version=_VERSION,
    unit="video",
    needs=("ingest", "captions"),
    parameters=_parameters,
    prompts=("clip_caption",),
    schemas=(ClipAspects,),
    roles=("captioner",),
    run=_run,
    count_calls=lambda unit, parameters: 0,
)
