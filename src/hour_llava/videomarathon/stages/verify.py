"""verify: a verdict of every rule on every row; accepted, rejected or quarantined, nothing deleted.

The automatic rules come first. Only rows that pass them are shown to the judge and to the blind
test, where there are endpoints for these; truth and measured rows need neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hour_llava.videomarathon.checks.evidence import can_be_short
from hour_llava.videomarathon.checks.judged import (
    MIN_BLIND_OPTIONS,
    NUM_ORDERS,
    BlindReply,
    JudgeReply,
    blind_finding,
    blind_orders,
    choices_of,
    cited_captions,
    is_blind_tested,
    is_decided,
    is_judged,
    is_right_blind,
    judge_finding,
    lettered,
)
from hour_llava.videomarathon.checks.table import check_row
from hour_llava.videomarathon.checks.tables import Tables
from hour_llava.videomarathon.records import QAPair, Record, Status, Verdict
from hour_llava.videomarathon.settings import BuildSettings
from hour_llava.videomarathon.stage import Request, Role, Stage, Tools, Unit, UnitError
from hour_llava.videomarathon.stages.asking import gather
from hour_llava.videomarathon.stages.inputs import (
    all_of,
    captions_of,
    events_of,
    global_caption_of,
    video_of,
)

_VERSION = 1
JUDGED, BLIND, LONG_FORM = "judged_entailed", "blind", "long_form"


def _parameters(settings: BuildSettings) -> Mapping[str, Any]:
    return {
        "stride_ms": settings.stride_ms,
        "judge": settings.checks.judge and settings.endpoints.of("judge") is not None,
        "blind_roles": _blind_roles(settings),
    }


def _blind_roles(settings: BuildSettings) -> list[Role]:
    """Choose who guesses: as many different models as are asked for and are there."""
    chosen: list[Role] = []
    models: list[str] = []
    roles: tuple[Role, ...] = ("blind", "llm", "judge")
    for role in roles:
        endpoint = settings.endpoints.of(role)
        if endpoint is not None and endpoint.model not in models:
            chosen.append(role)
            models.append(endpoint.model)
    return chosen[: settings.checks.blind_models]


async def _run(unit: Unit, parameters: Mapping[str, Any], tools: Tools) -> list[Record]:
    tables = Tables(
        video=video_of(unit),
        captions=tuple(captions_of(unit)),
        events=tuple(events_of(unit, "event_captions")),
        global_caption=global_caption_of(unit),
        stride_ms=int(parameters["stride_ms"]),
    )
    rows = all_of(unit, "qa", QAPair)
    return list(await gather(_verify(row, tables, parameters, tools, unit.id) for row in rows))


async def _verify(
    row: QAPair, tables: Tables, parameters: Mapping[str, Any], tools: Tools, unit: str
) -> QAPair:
    verdicts = check_row(row, tables)
    row = _settled(row, verdicts)
    if row.status != "accepted":
        return row
    asker = _Asker(tools=tools, tables=tables, unit=unit)
    judged = await _judge(row, parameters, asker)
    blind = (
        await _test_blind(row, parameters, asker)
        if judged.outcome != "fail"
        else _skip(BLIND, "not entailed")
    )
    source = row.provenance
    source = source.model_copy(update={"call_keys": (*source.call_keys, *asker.keys)})
    failing = tuple(v.rule for v in (judged, blind) if v.outcome == "fail")
    status: Status = "rejected" if failing else "accepted"
    if asker.failed:
        status, failing = "quarantined", (*failing, *asker.failed)
    return row.model_copy(
        update={
            "status": status,
            "verdicts": (*row.verdicts, judged, blind),
            "reasons": (*row.reasons, *failing),
            "provenance": source,
        }
    )


def _settled(row: QAPair, verdicts: tuple[Verdict, ...]) -> QAPair:
    """Draw the conclusion of the automatic rules; what is not long-form may stay as short-form."""
    failing = tuple(v.rule for v in verdicts if v.outcome == "fail")
    is_shortened = failing == (LONG_FORM,) and can_be_short(row)
    status: Status = "accepted" if not failing or is_shortened else "rejected"
    return row.model_copy(
        update={
            "form": "short" if is_shortened else row.form,
            "status": status,
            "verdicts": verdicts,
            "reasons": failing,
        }
    )


class _Asker:
    """Asks models about one row; keeps the calls' keys and the rules that got no answer."""

    def __init__(self, *, tools: Tools, tables: Tables, unit: str) -> None:
        self.tools, self.tables, self.unit = tools, tables, unit
        self.keys: list[str] = []
        self.failed: list[str] = []

    async def ask(
        self, row: QAPair, *, role: Role, rule: str, options: tuple[str, ...]
    ) -> JudgeReply | BlindReply | None:
        """Ask one question; None where the model gave no usable answer."""
        is_judge = rule == JUDGED
        values = {"question": row.question, "options": lettered(options)}
        if is_judge:
            values["captions"] = cited_captions(row, self.tables)
        request = Request(
            stage="verify",
            unit=self.unit,
            role=role,
            video=self.tables.video,
            prompt="judge" if is_judge else "blind",
            values=values,
            schema=JudgeReply if is_judge else BlindReply,
            subject=(row,),
        )
        try:
            reply = await self.tools.ask(request)
        except UnitError as error:
            if error.failure != "content":
                raise
            self.failed.append(rule)
            return None
        self.keys += [reply.call_key] if reply.call_key else []
        assert isinstance(reply.payload, JudgeReply | BlindReply)
        return reply.payload


def _skip(rule: str, why: str) -> Verdict:
    return Verdict(rule=rule, outcome="skip", detail=why)


async def _judge(row: QAPair, parameters: Mapping[str, Any], asker: _Asker) -> Verdict:
    if asker.tables.is_exact:
        return _skip(JUDGED, "known or measured, not told by a model")
    if not parameters["judge"]:
        return _skip(JUDGED, "no judge endpoint")
    if not is_judged(row):
        return _skip(JUDGED, "computed from tables")
    reply = await asker.ask(row, role="judge", rule=JUDGED, options=choices_of(row))
    if not isinstance(reply, JudgeReply):
        return _skip(JUDGED, "the judge gave no usable answer")
    outcome, detail = judge_finding(row, reply)
    return Verdict(rule=JUDGED, outcome=outcome, detail=detail)


async def _test_blind(row: QAPair, parameters: Mapping[str, Any], asker: _Asker) -> Verdict:
    roles: list[Role] = parameters["blind_roles"]
    if asker.tables.is_exact:
        return _skip(BLIND, "known or measured, not told by a model")
    if not roles:
        return _skip(BLIND, "no blind endpoint")
    if not is_blind_tested(row):
        return _skip(BLIND, f"fewer than {MIN_BLIND_OPTIONS} options")
    details: list[str] = []
    for role in roles:
        num_right = num_asked = 0
        for order in blind_orders(row):
            reply = await asker.ask(row, role=role, rule=BLIND, options=order)
            if not isinstance(reply, BlindReply):
                return _skip(BLIND, "the model gave no usable answer")
            num_asked += 1
            num_right += is_right_blind(row, order, reply)
            if is_decided(row, num_right, num_asked):
                break
        outcome, detail = blind_finding(row, num_right, num_asked)
        details.append(f"{role}: {detail}")
        if outcome == "fail":
            return Verdict(rule=BLIND, outcome="fail", detail="; ".join(details))
    return Verdict(rule=BLIND, outcome="pass", detail="; ".join(details))


def _count_calls(unit: Unit, parameters: Mapping[str, Any]) -> int:
    """Count the most calls that may be made; the blind test often stops earlier."""
    if video_of(unit).backend in ("truth", "embedded"):
        return 0
    rows = all_of(unit, "qa", QAPair)
    num_judged = sum(map(is_judged, rows)) if parameters["judge"] else 0
    num_blind = sum(map(is_blind_tested, rows)) * NUM_ORDERS * len(parameters["blind_roles"])
    return num_judged + num_blind


STAGE = Stage(
    name="verify",
    version=_VERSION,
    unit="video",
    needs=("ingest", "caption_check", "event_captions", "global_caption", "qa"),
    parameters=_parameters,
    prompts=("judge", "blind"),
    schemas=(JudgeReply, BlindReply),
    roles=("judge", "blind", "llm"),
    run=_run,
    count_calls=_count_calls,
)
