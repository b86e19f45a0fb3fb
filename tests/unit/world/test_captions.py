from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from hour_llava.tasks import ASPECTS
from hour_llava.world.captions import describe, events_of, global_narrative, proofs_of
from hour_llava.world.questions import Question, make_questions
from hour_llava.world.timeline import Timeline, make_timeline


def asked(seconds: int, count: int) -> Iterator[tuple[Timeline, Question]]:
    for seed in range(count):
        timeline = make_timeline(seconds, seed)
        for question in make_questions(timeline, seed, wordings="all", per_family=1):
            yield timeline, question


@pytest.mark.parametrize(("seconds", "count"), [(20, 6), (180, 2), (900, 1)])
def test_every_piece_of_evidence_has_a_sentence_in_any_span_that_covers_it(
    seconds: int, count: int
):
    for timeline, question in asked(seconds, count):
        proofs = proofs_of(timeline, question)
        assert tuple(proof.span for proof in proofs) == question.evidence
        for proof in proofs:
            assert proof.statements, question
            start, end = proof.span.start_seconds, proof.span.end_seconds
            for margin in (0, 7):
                told = describe(timeline, max(0, start - margin), end + margin)
                for statement in proof.statements:
                    texts = [s.text for s in told[statement.aspect]]
                    assert statement.text in texts
                    assert statement.start_seconds < end
                    assert statement.end_seconds > start


def test_a_quoted_sentence_holds_the_answer():
    stated = ("object", "colour", "digit", "scene", "action", "position", "when", "duration")
    stated += ("side", "patient", "agent", "verb", "return_place", "next_scene", "highlight")
    seen = set()
    for timeline, question in asked(180, 5):
        if question.family in stated:
            proof = proofs_of(timeline, question)[-1].statements[0]
            assert re.search(rf"\b{question.answer}\b", proof.text), (question, proof)
            seen.add(question.family)
    assert seen == set(stated)


def test_all_six_aspects_are_told_even_where_nothing_happens():
    for seed in range(5):
        timeline = make_timeline(120, seed)
        for start in range(0, 120, 10):
            told = describe(timeline, start, start + 10)
            assert tuple(told) == ASPECTS
            for aspect, statements in told.items():
                assert statements
                texts = [s.text for s in statements]
                assert len(set(texts)) == len(texts)
                for statement in statements:
                    assert statement.aspect == aspect
                    assert re.fullmatch(r"[A-Z][^.]*\.", statement.text)
                    assert statement.start_seconds < start + 10
                    assert statement.end_seconds > start


def test_telling_is_the_same_every_time_and_nothing_absent_is_named():
    timeline = make_timeline(180, 3)
    told = describe(timeline, 0, 180)
    assert told == describe(make_timeline(180, 3), 0, 180)
    everything = " ".join(s.text for statements in told.values() for s in statements)
    assert timeline.absent_shape not in everything
    for appearance in timeline.appearances:
        assert (appearance.shape or f"digit {appearance.digit}") in everything


@pytest.mark.parametrize("seconds", [180, 600, 3600])
def test_events_part_the_video_and_have_titles_of_their_own(seconds: int):
    for seed in range(30 if seconds == 180 else 5):
        timeline = make_timeline(seconds, seed)
        events = events_of(timeline)
        assert len(events) >= 3
        assert len({event.title for event in events}) == len(events)
        ends = [0, *(event.end_seconds for event in events)]
        assert [event.start_seconds for event in events] == ends[:-1]
        assert ends[-1] == seconds
        for event in events:
            assert timeline.scene_at(event.start_seconds).name in event.title
            assert event.narrative


def test_the_global_narrative_names_every_event_and_no_time():
    for seed in range(10):
        timeline = make_timeline(600, seed)
        narrative = global_narrative(timeline)
        assert all(event.title in narrative for event in events_of(timeline))
        assert not re.search(r"\bsecond\b|\bseconds\b|\bminutes?\b|\d{2}", narrative)
