"""Near-duplicates, option positions, longest options, yes and no, topics: over a whole build."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from hour_llava.videomarathon.checks.balance import (
    PAPER_TOPIC_MIX,
    balance,
    chi_square,
    is_even,
    longest_rate,
    position_counts,
    topic_counts,
    yes_rate,
)
from hour_llava.videomarathon.checks.duplicates import near_duplicates, video_families
from hour_llava.videomarathon.records import QAPair, qa_id
from hour_llava.videomarathon.stage import Tools, Unit
from hour_llava.videomarathon.stages import dedup

Footage = Any


def accepted(row: QAPair, **changes: Any) -> QAPair:
    row = row.model_copy(update={"status": "accepted", **changes})
    identity = qa_id(row.video_id, row.task, row.format, row.question)
    return row.model_copy(update={"id": identity})


@pytest.fixture
def rows(footages: list[Footage]) -> list[QAPair]:
    """120 multiple-choice rows whose answer is always A."""
    made: dict[str, QAPair] = {}
    for footage in footages[:10]:
        for task in ("object_recognition", "action_recognition", "scene_recognition"):
            for _ in range(4):
                row = footage.row(task, "mc")
                options = (row.answer, *(o for o in row.options or () if o != row.answer))
                row = accepted(row, options=options, question=f"{row.question} ({len(made)})")
                made[row.id] = row
    return list(made.values())


def test_the_same_question_in_other_capitals_is_a_duplicate(rows: list[QAPair]) -> None:
    first = rows[0]
    again = first.model_copy(update={"id": "again", "question": first.question.upper()})
    assert near_duplicates([*rows[:5], again]) == {"again": first.id}


def test_the_same_question_about_another_video_is_none(footages: list[Footage]) -> None:
    one, other = (footage.row("overall_summarization") for footage in footages[:2])
    same = "What happens in the video, from its beginning to its very end, in all its parts?"
    pair = [accepted(row, question=same, answer="Much.") for row in (one, other)]
    assert near_duplicates(pair) == {}


def test_rows_of_a_film_that_was_encoded_twice_are_duplicates(footages: list[Footage]) -> None:
    made = [accepted(footages[0].row(task)) for task in ("event_sequence", "temporal_reasoning")]
    twins = [
        row.model_copy(update={"id": f"twin{i}", "video_id": "w"}) for i, row in enumerate(made)
    ]
    assert video_families([*made, *twins])["w"] == made[0].video_id
    assert near_duplicates([*made, *twins]) == {"twin0": made[0].id, "twin1": made[1].id}


def test_templated_videos_are_never_called_the_same_film(footages: list[Footage]) -> None:
    row = accepted(footages[0].row("object_recognition"))
    source = row.provenance.model_copy(update={"backend": "truth"})
    one = row.model_copy(update={"provenance": source})
    other = one.model_copy(update={"id": "other", "video_id": "w"})
    assert near_duplicates([one, other]) == {}


def test_large_groups_go_through_minhash_with_the_same_result(rows: list[QAPair]) -> None:
    same = [r.model_copy(update={"task": "object_recognition", "video_id": "v"}) for r in rows]
    again = [r.model_copy(update={"id": f"again{i}"}) for i, r in enumerate(same[:10])]
    found = near_duplicates([*same, *again])
    assert {key: found[key] for key in found if key.startswith("again")} == {
        f"again{i}": row.id for i, row in enumerate(same[:10])
    }


def test_the_dedup_stage_keeps_duplicates_with_the_reason(rows: list[QAPair]) -> None:
    again = rows[0].model_copy(update={"id": "again"})
    rejected = rows[1].model_copy(update={"status": "rejected", "reasons": ("no_leak",)})
    unit = Unit(id="build", inputs={"verify": [rows[0], again, rejected]})
    tools = Tools(ask=_nobody, frames=_nobody)
    kept = asyncio.run(dedup.STAGE.run(unit, {}, tools))
    assert [row.status for row in kept if isinstance(row, QAPair)] == [
        "accepted",
        "rejected",
        "rejected",
    ]
    assert [row.reasons for row in kept if isinstance(row, QAPair)] == [
        (),
        ("near_duplicate",),
        ("no_leak",),
    ]


async def _nobody(*_: Any) -> Any:
    raise AssertionError("dedup asks nobody")


def test_answers_that_always_stand_first_are_moved(rows: list[QAPair]) -> None:
    assert position_counts(rows) == {4: (120, 0, 0, 0)}
    moved = balance(rows)
    (counts,) = position_counts(moved).values()
    assert is_even(counts)
    assert sum(counts) == 120
    for before, after in zip(rows, moved, strict=True):
        assert sorted(after.options or ()) == sorted(before.options or ())
        assert after.answer == before.answer
        assert ("option_position" in after.reasons) == (after.options != before.options)


def test_balancing_draws_nothing_at_random(rows: list[QAPair]) -> None:
    assert balance(rows) == balance(rows)
    assert balance(rows, seed=1) != balance(rows)


def test_even_positions_are_left_alone(rows: list[QAPair]) -> None:
    turned = [
        row.model_copy(
            update={"options": (*(row.options or ())[i % 4 :], *(row.options or ())[: i % 4])}
        )
        for i, row in enumerate(rows)
    ]
    assert [row.options for row in balance(turned)] == [row.options for row in turned]


def test_chi_square_is_that_of_equal_chances() -> None:
    assert chi_square((25, 25, 25, 25)) == 0
    assert chi_square((40, 20, 20, 20)) == pytest.approx(12)


def test_a_surplus_of_yes_is_rejected_down_to_the_bound(footages: list[Footage]) -> None:
    made = [
        accepted(footages[0].row("object_existence"), question=f"Is thing {i} seen?", answer=answer)
        for i, answer in enumerate(["Yes"] * 60 + ["No"] * 40)
    ]
    rate, number = yes_rate(balance(made))
    assert rate is not None
    assert 0.5 <= rate <= 0.55
    assert number == 88
    kept = balance(made)
    assert sum(row.reasons == ("yes_rate",) for row in kept) == 12
    assert len(kept) == 100


def test_few_yes_and_no_tell_nothing(footages: list[Footage]) -> None:
    made = [
        accepted(footages[0].row("object_existence"), question=f"Is thing {i} seen?", answer="Yes")
        for i in range(10)
    ]
    assert all(row.status == "accepted" for row in balance(made))
    assert {row.verdicts[-1].outcome for row in balance(made)} == {"skip"}


def test_answers_that_are_the_longest_too_often_are_rejected(rows: list[QAPair]) -> None:
    long = [
        row.model_copy(
            update={
                "options": (f"{row.answer} and more", "b", "c", "d"),
                "answer": f"{row.answer} and more",
            }
        )
        if i % 2
        else row.model_copy(update={"options": ("aa", "bbbb", "cccc", "dd"), "answer": "aa"})
        for i, row in enumerate(rows)
    ]
    kept = balance(long)
    rate, chance, _ = longest_rate(kept)
    assert rate is not None
    assert rate <= chance + 0.05
    assert sum("longest_option" in row.reasons for row in kept) == 35


def test_topics_are_thinned_only_when_asked(footages: list[Footage]) -> None:
    tasks = {"temporal_order": 30, "spatial_perception": 30, "object_recognition": 30,
             "action_recognition": 30, "scene_recognition": 30, "event_sequence": 30}  # fmt: skip
    made = [
        accepted(footages[0].row(task), question=f"{task} {i}")
        for task, number in tasks.items()
        for i in range(number)
    ]
    assert all(row.status == "accepted" for row in balance(made))
    thinned = balance(made, topic_mix=PAPER_TOPIC_MIX)
    counts = topic_counts(thinned)
    total = sum(counts.values())
    assert counts["Object"] == 30
    for topic, share in PAPER_TOPIC_MIX.items():
        assert counts[topic] / total == pytest.approx(share, abs=0.02)
    assert len(thinned) == len(made)


def test_a_topic_without_rows_does_not_empty_the_build(footages: list[Footage]) -> None:
    made = [
        accepted(footages[0].row(task), question=f"{task} {i}")
        for task in ("object_recognition", "scene_recognition")
        for i in range(30)
    ]
    counts = topic_counts(balance(made, topic_mix=PAPER_TOPIC_MIX))
    assert counts["Object"] == 30
    assert counts["Scene"] == round(30 * 0.067 / 0.302)


def test_later_rows_of_a_task_go_before_its_first(make_footage: Callable[[int], Footage]) -> None:
    made = [
        accepted(footage.row("object_existence"), question=f"Is thing {i} seen?", answer="Yes")
        for footage in map(make_footage, range(20))
        for i in range(3)
    ]
    made += [
        accepted(make_footage(i).row("object_existence"), question="Is it?", answer="No")
        for i in range(20, 50)
    ]
    out = [row for row in balance(made) if row.status == "rejected"]
    assert 0 < len(out) <= 40
    firsts = {row.id for row in made[:60:3]}
    assert not firsts & {row.id for row in out}
