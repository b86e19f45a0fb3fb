"""verify: automatic rules first, then judge and blind test where there are any; nothing is lost.

Judged rules are tested for their plumbing only: what a model would say is nobody's to promise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from hour_llava.videomarathon.checks.judged import (
    BlindReply,
    JudgeReply,
    blind_orders,
    judge_finding,
)
from hour_llava.videomarathon.records import QAPair, Span, Verdict
from hour_llava.videomarathon.settings import parse_settings
from hour_llava.videomarathon.stage import Reply, Request, Tools, Unit, UnitError
from hour_llava.videomarathon.stages.verify import STAGE

Footage = Any
ENDPOINT = {"base_url": "http://127.0.0.1:9/v1", "model": "m"}


def settings(**checks: Any) -> Any:
    endpoints = {
        "captioner": ENDPOINT,
        "llm": ENDPOINT,
        "blind": {**ENDPOINT, "model": "guesser"},
    }
    values = {"source": ".", "checks": checks, "endpoints": endpoints}
    return parse_settings(values, place="test")


class Model:
    """Answers as told and keeps what it was asked."""

    def __init__(self, judge: Callable[[Request], Any], blind: Callable[[Request], Any]) -> None:
        self.judge, self.blind = judge, blind
        self.asked: list[Request] = []

    async def __call__(self, request: Request) -> Reply:
        self.asked.append(request)
        said = (self.judge if request.prompt == "judge" else self.blind)(request)
        if isinstance(said, Exception):
            raise said
        key = f"key{len(self.asked)}"
        return Reply(payload=said, backend="endpoint", model="m", call_key=key)


def right_letter(request: Request) -> str:
    (row,) = request.subject
    lines = str(request.values["options"]).split("\n")
    return next(line[0] for line in lines if line[3:] == row.answer)


def right_judge(request: Request) -> JudgeReply:
    return JudgeReply(entailed=(right_letter(request),))


def right_blind(request: Request) -> BlindReply:
    return BlindReply(answer=right_letter(request))


def wrong_blind(request: Request) -> BlindReply:
    return BlindReply(answer="A" if right_letter(request) != "A" else "B")


def verify(
    footage: Footage, rows: list[QAPair], model: Model, *, backend: str = "endpoint", **checks: Any
) -> list[QAPair]:
    video = footage.video.model_copy(update={"backend": backend})
    unit = Unit(
        id=video.id,
        inputs={
            "ingest": [video],
            "caption_check": [scene.caption for scene in footage.scenes],
            "event_captions": [part.event for part in footage.parts],
            "global_caption": [footage.summary],
            "qa": rows,
        },
    )

    async def frames(*_: Any) -> list[tuple[int, bytes]]:
        raise AssertionError("verify needs no pictures")

    tools = Tools(ask=model, frames=frames)
    parameters = STAGE.parameters(settings(**checks))
    records = asyncio.run(STAGE.run(unit, parameters, tools))
    return [record for record in records if isinstance(record, QAPair)]


def verdict(row: QAPair, rule: str) -> Verdict:
    return next(v for v in row.verdicts if v.rule == rule)


@pytest.fixture
def footage(make_footage: Callable[[int], Footage]) -> Footage:
    return make_footage(7)


def test_a_row_that_fails_a_rule_is_kept_with_verdicts_and_reasons_and_costs_no_call(
    footage: Footage,
) -> None:
    row = footage.row("object_recognition", "mc")
    broken = row.model_copy(update={"question": f"In this clip, {row.question}"})
    model = Model(right_judge, wrong_blind)
    (kept,) = verify(footage, [broken], model, judge=True)
    assert kept.status == "rejected"
    assert kept.reasons == ("no_artefacts",)
    assert verdict(kept, "no_artefacts").outcome == "fail"
    assert model.asked == []


def test_a_row_that_all_agree_on_is_accepted_and_names_its_calls(footage: Footage) -> None:
    model = Model(right_judge, wrong_blind)
    (row,) = verify(footage, [footage.row("object_recognition", "mc")], model, judge=True)
    assert row.status == "accepted"
    assert verdict(row, "judged_entailed").outcome == "pass"
    assert verdict(row, "blind").outcome == "pass"
    assert row.provenance.call_keys == ("key1", "key2", "key3")
    assert [request.role for request in model.asked] == ["judge", "blind", "blind"]


def test_the_judge_rejects_a_row_with_two_entailed_options_before_the_blind_test(
    footage: Footage,
) -> None:
    model = Model(lambda _: JudgeReply(entailed=("A", "B")), wrong_blind)
    (row,) = verify(footage, [footage.row("object_recognition", "mc")], model, judge=True)
    assert (row.status, row.reasons) == ("rejected", ("judged_entailed",))
    assert len(model.asked) == 1


def test_a_row_right_in_three_orders_without_the_video_is_out_and_asking_stops(
    footage: Footage,
) -> None:
    model = Model(right_judge, right_blind)
    (row,) = verify(footage, [footage.row("object_recognition", "mc")], model)
    assert (row.status, row.reasons) == ("rejected", ("blind",))
    assert len(model.asked) == 3


def test_the_strict_blind_test_puts_reasoning_out_after_two(footage: Footage) -> None:
    model = Model(right_judge, right_blind)
    (row,) = verify(footage, [footage.row("object_reasoning", "mc")], model)
    assert row.reasons == ("blind",)
    assert len(model.asked) == 2


def test_two_blind_models_are_asked_on_request(footage: Footage) -> None:
    model = Model(right_judge, wrong_blind)
    (row,) = verify(footage, [footage.row("object_recognition", "mc")], model, blind_models=2)
    assert row.status == "accepted"
    assert [request.role for request in model.asked] == ["blind", "blind", "llm", "llm"]


@pytest.mark.parametrize("backend", ["truth", "embedded"])
def test_known_and_measured_rows_are_not_shown_to_models(footage: Footage, backend: str) -> None:
    model = Model(right_judge, right_blind)
    rows = [footage.row("object_recognition", "mc")]
    (row,) = verify(footage, rows, model, backend=backend, judge=True)
    assert model.asked == []
    assert {verdict(row, "judged_entailed").outcome, verdict(row, "blind").outcome} == {"skip"}


def test_without_judge_and_blind_models_both_are_skipped(footage: Footage) -> None:
    model = Model(right_judge, right_blind)
    (row,) = verify(footage, [footage.row("scene_recognition", "mc")], model, blind_models=0)
    assert model.asked == []
    assert row.status == "accepted"
    assert verdict(row, "blind") == Verdict(
        rule="blind", outcome="skip", detail="no blind endpoint"
    )


def test_a_model_that_gives_no_usable_answer_quarantines_the_row(footage: Footage) -> None:
    model = Model(lambda _: UnitError("no JSON in three tries", failure="content"), wrong_blind)
    (row,) = verify(footage, [footage.row("object_recognition", "mc")], model, judge=True)
    assert row.status == "quarantined"
    assert row.reasons == ("judged_entailed",)


def test_an_endpoint_that_is_down_is_not_the_rows_fault(footage: Footage) -> None:
    model = Model(lambda _: UnitError("503", failure="transient"), wrong_blind)
    with pytest.raises(UnitError, match="503"):
        verify(footage, [footage.row("object_recognition", "mc")], model, judge=True)


def test_a_long_form_row_with_near_evidence_becomes_short_form(footage: Footage) -> None:
    model = Model(right_judge, wrong_blind)
    (row,) = verify(footage, [footage.row("scene_transition", "oe")], model)
    assert (row.status, row.form, row.reasons) == ("accepted", "short", ("long_form",))


def test_reasoning_about_one_moment_is_rejected(footage: Footage) -> None:
    row = footage.row("action_reasoning", "oe")
    one = row.model_copy(update={"evidence": row.evidence[:1]})
    (kept,) = verify(footage, [one], Model(right_judge, wrong_blind))
    assert kept.status == "rejected"
    assert set(kept.reasons) == {"two_places", "long_form"}


def test_the_answer_stands_at_another_place_in_each_order(footage: Footage) -> None:
    row = footage.row("object_recognition", "mc")
    orders = blind_orders(row)
    assert sorted(order.index(row.answer) for order in orders) == [0, 1, 2, 3]
    assert {tuple(sorted(order)) for order in orders} == {tuple(sorted(row.options or ()))}


@pytest.mark.parametrize("said", ["B", "(b)", "b.", "B. two", "two"])
def test_a_judge_may_name_an_option_by_letter_or_words(footage: Footage, said: str) -> None:
    row = footage.row("object_recognition", "mc")
    row = row.model_copy(update={"options": ("one", "two", "three", "four"), "answer": "two"})
    assert judge_finding(row, JudgeReply(entailed=(said,)))[0] == "pass"


def test_calls_are_counted_at_most(footage: Footage) -> None:
    rows = [footage.row("object_recognition", "mc"), footage.row("duration_perception", "mc")]
    unit = Unit(id="v", inputs={"ingest": [footage.video], "qa": rows})
    assert STAGE.count_calls is not None
    parameters = STAGE.parameters(settings(judge=True))
    assert STAGE.count_calls(unit, parameters) == 1 + 2 * 4


def test_spans_of_a_short_video_may_lie_closer(footage: Footage) -> None:
    """20 % of three minutes are 36 s."""
    short = footage.video.model_copy(update={"duration_ms": 180_000})
    row = footage.row("spatial_reasoning", "oe")
    near = tuple(
        e.model_copy(update={"span": Span(start_ms=at, end_ms=at + 5000)})
        for e, at in zip(row.evidence, (0, 40_000), strict=True)
    )
    from hour_llava.videomarathon.checks.table import RULES
    from hour_llava.videomarathon.checks.tables import Tables

    (rule,) = [rule for rule in RULES if rule.name == "long_form"]
    tables = Tables(video=short, captions=(), events=())
    moved = row.model_copy(update={"evidence": near})
    assert rule.verdict(moved, tables).outcome == "pass"
