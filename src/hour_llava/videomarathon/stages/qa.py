"""Stub of the stage qa."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hour_llava.videomarathon.records import Record
from hour_llava.videomarathon.stage import Stage, Tools, Unit


def _parameters(settings: Any) -> Mapping[str, Any]:
    return {}


async def _run(unit: Unit, parameters: Mapping[str, Any], tools: Tools) -> list[Record]:
    raise NotImplementedError


STAGE = Stage(
    name="qa",
    version=1,
    unit="video_topic_format",
    needs=("ingest", "caption_check", "event_captions", "global_caption"),
    parameters=_parameters,
    prompts=("qa_open_ended", "qa_multiple_choice"),
    roles=("llm",),
    run=_run,
)
