"""Stub of the stage global_caption."""

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
    name="global_caption",
    version=1,
    unit="video",
    needs=("ingest", "event_captions"),
    parameters=_parameters,
    prompts=("global_caption",),
    roles=("llm",),
    run=_run,
)
