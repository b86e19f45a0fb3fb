"""qa: facts, words, evidence, options, re-asks."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from hour_llava.videomarathon.checks.quantities import single_length
from hour_llava.videomarathon.checks.table import check_row
from hour_llava.videomarathon.checks.tables import Tables
from hour_llava.videomarathon.prompts import fill
from hour_llava.videomarathon.stage import UnitError
from hour_llava.videomarathon.stages import qa

SCENES = ["In the yard at wall 2", "On a roof", "In a cellar", "At the beach"]


def _pair(**fields: Any) -> dict[str, Any]:
    pair = {
        "question": "Where is the woman while she is stirring the soup?",
        "answer": "B",
        "options": dict(zip("BADC", SCENES, strict=True)),
        "evidence": [{"clip": "40-60s", "quote": "A yard with wall 2."}],
    }
    return pair | fields


def _scene(**fields: Any) -> dict[str, Any]:
    return {"Scene Recognition": [_pair(**fields)], "scene transition": []}


def _run(bench: Any, small: Any, answer: Any, topic: str = "scene", form: str = "mc") -> list[Any]:
    unit = f"{small.video.id}:{topic}:{form}"
    return bench.run(qa.STAGE, unit, small.inputs, answer)


def test_a_multiple_choice_row_holds_ordered_options_and_its_evidence(
    bench: Any, small: Any
) -> None:
    (row,) = _run(bench, small, lambda request: _scene())
    assert row.options == ("On a roof", "In the yard at wall 2", "At the beach", "In a cellar")
    assert row.answer == "In the yard at wall 2"
    (evidence,) = row.evidence
    assert evidence.clip_id == small.captions[2].clip_id
    assert evidence.span == small.captions[2].span
    assert evidence.aspect == "scene"
    assert row.claim is None
    assert row.provenance.call_keys == ("key1",)


@pytest.mark.parametrize(
    "answer", ["(B)", "B. In the yard at wall 2", "in the yard at wall 2.", "B)"]
)
def test_the_right_option_may_be_said_in_several_ways(bench: Any, small: Any, answer: str) -> None:
    (row,) = _run(bench, small, lambda request: _scene(answer=answer))
    assert row.answer == "In the yard at wall 2"


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"options": None}, "no options"),
        ({"options": {"A": "x", "B": "y", "C": "z"}}, "3 options"),
        ({"options": {"A": "x", "B": "y", "C": "z", "D": "X."}}, "the same"),
        ({"answer": "E"}, "none of the options"),
        ({"answer": "In a castle"}, "none of the options"),
    ],
)
def test_wrong_structure_is_asked_again_twice_and_then_fails(
    bench: Any, small: Any, fields: dict[str, Any], why: str
) -> None:
    with pytest.raises(UnitError, match=why) as caught:
        _run(bench, small, lambda request: _scene(**fields))
    assert caught.value.failure == "content"
    assert [request.attempt for request in bench.requests] == [0, 1, 2]


def test_a_missing_task_is_asked_again_and_an_empty_one_is_not(bench: Any, small: Any) -> None:
    answers = iter([{"Scene Recognition": []}, _scene()])
    assert len(_run(bench, small, lambda request: next(answers))) == 1
    assert len(bench.requests) == 2


def test_one_broken_pair_does_not_cost_the_good_ones(bench: Any, small: Any) -> None:
    answer = {"Scene Recognition": [_pair(options=None), _pair()], "Scene Transition": []}
    assert len(_run(bench, small, lambda request: answer)) == 1
    assert len(bench.requests) == 1


def test_a_quote_that_is_nowhere_is_kept_for_verify_to_reject(bench: Any, small: Any) -> None:
    answer = _scene(evidence=[{"clip": "40-60s", "quote": "A castle."}])
    (row,) = _run(bench, small, lambda request: answer)
    assert row.evidence[0].quote == "A castle."
    assert row.evidence[0].clip_id == small.captions[2].clip_id


@pytest.mark.parametrize("key", ["[40-60s]", "40s - 60s", "0:40-1:00", "41-59s", None, "the yard"])
def test_evidence_finds_its_clip_by_key_or_by_words(
    bench: Any, small: Any, key: str | None
) -> None:
    answer = _scene(evidence=[{"clip": key, "quote": "A yard with wall 2."}])
    (row,) = _run(bench, small, lambda request: answer)
    assert row.evidence[0].clip_id == small.captions[2].clip_id


def test_evidence_may_name_an_event(bench: Any, small: Any) -> None:
    answer = _scene(evidence=[{"event": "work at the fence", "quote": "The woman goes on."}])
    (row,) = _run(bench, small, lambda request: answer)
    assert row.evidence[0].event_id == small.events[1].id


def test_a_models_claims_are_not_believed(bench: Any, small: Any) -> None:
    answer = _scene(claim={"claim": "duration", "value": "1"})
    (row,) = _run(bench, small, lambda request: answer)
    assert row.claim is None


def test_the_prompt_holds_topic_tasks_examples_captions_and_facts(bench: Any, small: Any) -> None:
    _run(bench, small, lambda request: {"Temporal Perception": [], "Temporal Reasoning": []},
         "temporality", "oe")  # fmt: skip
    (request,) = bench.requests
    user = fill(request.prompt, request.values)[1][1]
    assert "- Duration Perception (from facts): How long" in user
    assert user.count("\n- Temporal Gap Estimation") == 2  # its definition and its example
    assert small.global_caption.text in user
    assert user.index("[0-20s] At first") < user.index("[160-180s] At first")
    assert "F1 (Duration Perception): to be asked: How long" in user
    assert "exactly 3 open-ended" in user


def test_computed_answers_come_from_facts_whatever_a_model_says(bench: Any, small: Any) -> None:
    first = 'Which of the two is seen sooner: "Cooking in the yard" or "The evening light"?'
    told: dict[str, Any] = {"Temporal Perception": [], "Temporal Reasoning": []}
    facts: dict[str, str] = {}

    def answer(request: Any) -> Any:
        for line in request.values["tables"].splitlines():
            if "(Temporal Order)" in line and "Cooking" in line and "evening" in line:
                facts["key"] = line.split()[0]
        item = {"question": first, "answer": "The evening light", "fact": facts["key"]}
        return told | {"Temporal Order": [item]}

    rows = _run(bench, small, answer, "temporality", "oe")
    worded = [row for row in rows if row.question == first]
    assert [row.answer for row in worded] == ["Cooking in the yard"]
    assert len([row for row in rows if row.task == "temporal_order"]) == 3


def test_words_that_turn_a_fact_round_are_not_taken(bench: Any, small: Any) -> None:
    def answer(request: Any) -> Any:
        keys = [
            line.split()[0]
            for line in request.values["tables"].splitlines()
            if "(Temporal Order)" in line
        ]
        turned = [
            {"question": f'Which comes last, "{a.title}" or "{b.title}"?', "answer": "x", "fact": k}
            for a, b in pairwise(small.events)
            for k in keys
        ]
        return {"Temporal Perception": [], "Temporal Reasoning": [], "Temporal Order": turned}

    rows = _run(bench, small, answer, "temporality", "oe")
    orders = [row for row in rows if row.task == "temporal_order"]
    assert orders
    assert all("first" in row.question for row in orders)


@pytest.mark.parametrize("topic", ["temporality", "action", "object", "event"])
@pytest.mark.parametrize("form", ["oe", "mc"])
def test_computed_rows_pass_the_checks_without_any_words_of_a_model(
    bench: Any, small: Any, topic: str, form: str
) -> None:
    rows = _run(bench, small, lambda request: {t: [] for t in request.values["tasks"]}, topic, form)
    tables = Tables(
        video=small.video,
        captions=tuple(small.captions),
        events=tuple(small.events),
        global_caption=small.global_caption,
        stride_ms=20_000,
    )
    computed = [row for row in rows if row.claim is not None]
    assert computed
    for row in computed:
        failed = [v for v in check_row(row, tables) if v.outcome == "fail"]
        # Events of a minute are no long-form evidence for a length: verify makes them short-form.
        assert {v.rule for v in failed} <= {"long_form"}, (row, failed)


def test_lengths_as_options_are_apart(bench: Any, small: Any) -> None:
    tasks = {"Temporal Perception": [], "Temporal Reasoning": []}
    rows = _run(bench, small, lambda request: tasks, "temporality", "mc")
    lengths = [row for row in rows if row.task == "duration_perception"]
    assert len(lengths) == 3
    for row in lengths:
        told = sorted(single_length(option).ms for option in row.options)
        assert len(told) == 4
        assert all(b >= 1.25 * a for a, b in pairwise(told))
        right = single_length(row.answer).ms
        assert all(abs(other - right) >= 20_000 for other in told if other != right)


def test_existence_asks_for_what_is_there_and_what_is_not(bench: Any, small: Any) -> None:
    answer = {"Object Recognition": [], "Object Attribute": [], "Object Interaction": [],
              "Object Reasoning": [], "Object Permanence": []}  # fmt: skip
    rows = _run(bench, small, lambda request: answer, "object", "oe")
    assert {row.answer for row in rows} == {"Yes", "No"}
    for row in rows:
        if row.answer == "Yes":
            assert row.claim.term == "dog"
            assert [e.quote for e in row.evidence] == ["A dog lies there."] * 2
        else:
            assert row.evidence == ()


def test_a_summary_needs_no_call_and_cites_every_event(bench: Any, small: Any) -> None:
    rows = _run(bench, small, lambda request: {"Key Event Extraction": []}, "event", "oe")
    (row,) = [row for row in rows if row.task == "overall_summarization"]
    assert row.answer == small.global_caption.text
    assert [e.event_id for e in row.evidence] == [e.id for e in small.events]
    assert row.provenance.stage == "qa"


def test_equal_inputs_give_equal_rows(bench: Any, small: Any) -> None:
    found: list[list[Any]] = []
    for _ in range(2):
        bench.requests.clear()
        answer = {"Action Recognition": [], "Action Reasoning": []}
        found.append(_run(bench, small, lambda request, given=answer: given, "action", "mc"))
    assert found[0] == found[1]
    assert len(found[0]) == 6
