"""Stub of the stage events."""

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
    name="events",
    version=1,
    unit="video",
    needs=("ingest", "caption_check"),
    parameters=_parameters,
    prompts=("event_split",),
    roles=("llm",),
    run=_run,
)
