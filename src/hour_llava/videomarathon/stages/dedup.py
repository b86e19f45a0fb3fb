"""dedup: rows that ask the same again are rejected; the first one stays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hour_llava.videomarathon.checks.duplicates import near_duplicates
from hour_llava.videomarathon.records import QAPair, Record, Verdict
from hour_llava.videomarathon.stage import Stage, Tools, Unit
from hour_llava.videomarathon.stages.inputs import all_of

_VERSION = 1
RULE = "near_duplicate"


def _parameters(settings: Any) -> Mapping[str, Any]:
    return {}


async def _run(unit: Unit, parameters: Mapping[str, Any], tools: Tools) -> list[Record]:
    rows = all_of(unit, "verify", QAPair)
    repeats = near_duplicates([row for row in rows if row.status == "accepted"])
    return [_marked(row, repeats) for row in rows]


def _marked(row: QAPair, repeats: Mapping[str, str]) -> QAPair:
    if row.status != "accepted":
        return row
    kept = repeats.get(row.id)
    if kept is None:
        verdict = Verdict(rule=RULE, outcome="pass")
        return row.model_copy(update={"verdicts": (*row.verdicts, verdict)})
    verdict = Verdict(rule=RULE, outcome="fail", detail=f"asks what {kept} asks")
    return row.model_copy(
        update={
            "status": "rejected",
            "verdicts": (*row.verdicts, verdict),
            "reasons": (*row.reasons, RULE),
        }
    )


STAGE = Stage(
    name="dedup",
    version=_VERSION,
    unit="build",
    needs=("verify",),
    parameters=_parameters,
    run=_run,
)
