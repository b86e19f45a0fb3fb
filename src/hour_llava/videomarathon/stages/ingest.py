"""Stub of the stage ingest."""

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
    name="ingest",
    version=1,
    unit="file",
    needs=(),
    parameters=_parameters,
    prompts=(),
    roles=(),
    run=_run,
)
