from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from hour_llava.schema import FrameSpan
from hour_llava.world.exam import (
    ExamAnswer,
    ExamResult,
    ExamVideo,
    Score,
    chance_of,
    decayed_seconds,
    exam,
    is_near,
    is_right,
    is_same_answer,
    oracle_coverage,
    uniform_seconds,
)
from hour_llava.world.questions import ALL_FAMILIES, Question, make_questions
from hour_llava.world.timeline import make_timeline


def videos_of(count: int, seconds: int = 60) -> list[ExamVideo[None]]:
    return [
        ExamVideo(
            name=f"v{seed}",
            video=None,
            duration_seconds=seconds,
            questions=make_questions(make_timeline(seconds, seed), seed, wordings="all"),
        )
        for seed in range(count)
    ]


def perfect(_: None, question: Question) -> ExamAnswer:
    peak = question.evidence[0].start_seconds if question.evidence else None
    return ExamAnswer(text=f" {question.answer.upper()}. ", peak_seconds=peak)


def score(result: ExamResult, family: str, format: str, wordings: str = "all") -> Score:
    return next(
        s
        for s in (*result.accuracy, *result.evidence)
        if (s.family, s.format, s.wordings) == (family, format, wordings)
    )


def test_perfect_answers_score_one_everywhere():
    result = exam(perfect, videos_of(6))
    assert {s.share for s in result.accuracy} == {1.0}
    assert {s.share for s in result.evidence} == {1.0}
    assert [s.share for s in result.when_by_peak] == [1.0]
    assert {s.wordings for s in result.accuracy} == {"all", "seen", "unseen"}


def test_wrong_answers_score_zero_and_evidence_far_away_is_missed():
    result = exam(lambda _, q: ExamAnswer(text="elephant", peak_seconds=-100.0), videos_of(4))
    assert {s.share for s in (*result.accuracy, *result.evidence)} == {0.0}


def test_scores_count_questions_and_videos():
    videos = videos_of(7)
    result = exam(perfect, videos)
    asked = [q for v in videos for q in v.questions if q.family == "colour" and q.format == "mc"]
    cell = score(result, "colour", "mc")
    assert (cell.num_questions, cell.num_videos) == (len(asked), 7)
    assert score(result, "mean", "oe").num_questions == sum(
        q.format == "oe" for v in videos for q in v.questions
    )


def test_intervals_are_those_of_videos_not_of_questions():
    """Half of the videos all right, half all wrong: many questions a video must not help."""

    def some(video: int, question: Question) -> ExamAnswer:
        return ExamAnswer(text=question.answer if video % 2 else "?")

    few = [replace(v, video=i) for i, v in enumerate(videos_of(12))]
    many = [replace(v, questions=v.questions * 5) for v in few]
    narrow, wide = (score(exam(some, v), "colour", "oe") for v in (many, few))
    assert (narrow.low, narrow.high) == (wide.low, wide.high)
    assert wide.high - wide.low > 0.3
    assert wide.low <= wide.share <= wide.high


def test_the_mean_weighs_families_equally():
    def one_family(_: None, question: Question) -> ExamAnswer:
        return ExamAnswer(text=question.answer if question.family == "digit" else "?")

    result = exam(one_family, videos_of(10))
    assert score(result, "mean", "oe").share == pytest.approx(1 / len(ALL_FAMILIES))


@pytest.mark.parametrize(
    ("answered", "expected", "is_same"),
    [
        ("Top left.", "top left", True),
        ("  top  LEFT ", "top left", True),
        ("top left corner", "top left", False),
        ("", "no", False),
        ("no, it is not", "no", False),
    ],
)
def test_answers_are_equal_after_case_and_full_stop(answered: str, expected: str, is_same: bool):
    assert is_same_answer(answered, expected) == is_same


@pytest.mark.parametrize(
    ("peak", "expected"), [(7.9, False), (8.0, True), (11, True), (14, True), (14.5, False)]
)
def test_a_peak_counts_within_two_seconds(peak: float, expected: bool):
    question = Question(
        id="x",
        family="colour",
        format="oe",
        question="?",
        answer="red",
        evidence=(FrameSpan(start_seconds=10, end_seconds=12),),
    )
    assert is_near(question, peak) == expected


def test_results_can_be_read_by_people_and_programs():
    result = exam(perfect, videos_of(3))
    table = result.to_markdown()
    rows = [line for line in table.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in rows}) == 2, "two tables"
    assert "| overall_summarization | 1.00 [1.00, 1.00] | 6 | 0.00 | - | 0 | - |" in rows
    assert "| colour | 1.00 [1.00, 1.00] |" in table
    assert len(json.loads(result.to_json())["outcomes"]) == len(result.outcomes)


def test_a_task_adds_up_its_families_and_their_chances():
    def one_family(_: None, question: Question) -> ExamAnswer:
        return ExamAnswer(text=question.answer if question.family == "position" else "?")

    result = exam(one_family, videos_of(4, seconds=180))
    scores = {(s.family, s.format): s for s in result.tasks}
    assert len(scores) == 22 + 21 + 2, "and the means"
    assert scores["spatial_perception", "oe"].share == 0.5
    assert scores["spatial_perception", "oe"].chance == pytest.approx((1 / 4 + 1 / 2) / 2)
    assert scores["overall_summarization", "oe"].num_questions == 8


@pytest.mark.parametrize(
    ("answered", "expected"),
    [
        ("ocean, cave, snow, city, night", True),
        ("First the ocean, then cave, snow and the city.", True),
        ("ocean, cave, snow", False),
        ("ocean, cave, snow, city, night, desert", False),
        ("", False),
    ],
)
def test_a_summary_names_most_scenes_and_no_other(answered: str, expected: bool):
    question = Question(
        id="x",
        family="summary",
        format="oe",
        question="Summarize the video.",
        answer="ocean, cave, snow, city, night",
        evidence=(),
    )
    assert is_right(question, answered) == expected


def test_guessing_is_known():
    assert chance_of("colour", "oe") == 1 / 8
    assert chance_of("colour", "mc") == 1 / 4
    assert chance_of("existence", "mc") == chance_of("order", "mc") == 1 / 2


def test_frames_of_sparse_sampling():
    assert uniform_seconds(3600, 3).tolist() == [0, 1799, 3599]
    assert len(uniform_seconds(20, 64)) == 20
    assert len(decayed_seconds(3600)) == 512
    assert len(decayed_seconds(60)) == 15
    assert len(decayed_seconds(600, max_frames=8)) == 8


def test_oracle_coverage_needs_a_frame_in_every_span():
    def question(family: str, *spans: tuple[int, int]) -> Question:
        evidence = tuple(FrameSpan(start_seconds=a, end_seconds=b) for a, b in spans)
        return Question(
            id="x", family=family, format="oe", question="?", answer="", evidence=evidence
        )

    questions = (
        question("colour", (10, 12)),
        question("order", (10, 12), (30, 31)),
        question("existence"),
    )
    video = ExamVideo(name="v", video=None, duration_seconds=60, questions=questions)
    coverage = oracle_coverage(
        [video],
        {"some": lambda _: np.array([11, 31]), "all": np.arange},
    )
    assert coverage["some"] == {"colour": 1.0, "order": 0.0, "all": 0.5}
    assert coverage["all"] == {"colour": 1.0, "order": 1.0, "all": 1.0}


def test_needles_of_an_hour_are_missed_by_sparse_frames():
    schemes = {"32": lambda seconds: uniform_seconds(seconds, 32), "decayed": decayed_seconds}
    coverage = oracle_coverage(videos_of(10, seconds=3600), schemes)
    assert coverage["32"]["all"] < 0.1
    assert coverage["decayed"]["all"] < 0.6


def test_the_peak_of_questions_with_one_piece_of_evidence_is_counted_by_itself():
    result = exam(perfect, videos_of(4, seconds=180))
    names = {s.family for s in result.single_evidence}
    assert {"colour", "mean"} <= names
    assert not {"order", "gap", "relation"} & names
    assert {s.share for s in result.single_evidence} == {1.0}


def test_a_list_is_the_same_whatever_the_blanks_around_its_commas():
    assert is_same_answer("cave , ocean , snow", "cave, ocean, snow")
    assert not is_same_answer("ocean, cave, snow", "cave, ocean, snow")
