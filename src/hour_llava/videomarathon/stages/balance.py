"""balance: option positions, longest options, yes and no, topics, over all accepted rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hour_llava.videomarathon.checks.balance import PAPER_TOPIC_MIX, balance
from hour_llava.videomarathon.records import QAPair, Record
from hour_llava.videomarathon.settings import BuildSettings
from hour_llava.videomarathon.stage import Stage, Tools, Unit
from hour_llava.videomarathon.stages.inputs import all_of

_VERSION = 1


def _parameters(settings: BuildSettings) -> Mapping[str, Any]:
    mix = dict(settings.topic_mix or PAPER_TOPIC_MIX)
    return {
        "topic_mix": mix if settings.checks.thin_to_topic_mix else None,
        "seed": settings.seed,
    }


async def _run(unit: Unit, parameters: Mapping[str, Any], tools: Tools) -> list[Record]:
    rows = all_of(unit, "dedup", QAPair)
    return list(balance(rows, topic_mix=parameters["topic_mix"], seed=int(parameters["seed"])))


STAGE = Stage(
    name="balance",
    version=_VERSION,
    unit="build",
    needs=("dedup",),
    parameters=_parameters,
    run=_run,
)
