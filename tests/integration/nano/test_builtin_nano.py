from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import hour_llava
from hour_llava.world.exam import is_near, is_same_answer
from hour_llava.world.families import STORY_FAMILIES
from hour_llava.world.questions import FAMILIES, make_questions
from hour_llava.world.timeline import make_timeline
from hour_llava.world.video_file import write_video

FOLDER = Path(hour_llava.__file__).parent / "builtin" / "nano"


@pytest.fixture(scope="module")
def assistant():
    torch.set_num_threads(1)
    return hour_llava.load("nano")


@pytest.fixture(scope="module")
def timeline():
    return make_timeline(90, 80_000_001)


@pytest.fixture(scope="module")
def memory(assistant, timeline, tmp_path_factory):
    path = tmp_path_factory.mktemp("nano") / "video.mp4"
    write_video(timeline, path)
    return assistant.remember(path, use_cache=False)


def test_the_shipped_folder_is_small_and_has_its_card() -> None:
    size = sum(path.stat().st_size for path in FOLDER.iterdir())
    assert size <= 12e6
    card = (FOLDER / "README.md").read_text()
    assert "MarathonWorld" in card and "seed" in card


def test_it_answers_an_mp4_it_never_saw(assistant, memory, timeline) -> None:
    questions = make_questions(timeline, 1, wordings="all", formats=("oe",), families=FAMILIES)
    answers = [assistant.ask(memory, q.question).best_guess for q in questions]
    right = [is_same_answer(a, q.answer) for a, q in zip(answers, questions, strict=True)]
    assert np.mean(right) >= 0.8, list(zip(answers, questions, strict=True))


def test_it_answers_questions_of_the_story(assistant, tmp_path: Path) -> None:
    timeline = make_timeline(180, 80_000_002)
    write_video(timeline, tmp_path / "story.mp4")
    memory = assistant.remember(tmp_path / "story.mp4", use_cache=False)
    questions = make_questions(timeline, 1, formats=("oe",), families=STORY_FAMILIES)
    answers = [assistant.ask(memory, q.question).best_guess for q in questions]
    right = [is_same_answer(a, q.answer) for a, q in zip(answers, questions, strict=True)]
    assert len(questions) >= 20
    assert np.mean(right) >= 0.7, list(zip(answers, questions, strict=True))


def test_it_compares_two_things(assistant, memory, timeline) -> None:
    questions = make_questions(
        timeline, 3, formats=("oe",), families=("relation", "colour_match"), per_family=8
    )
    answers = [assistant.ask(memory, q.question).best_guess for q in questions]
    right = [is_same_answer(a, q.answer) for a, q in zip(answers, questions, strict=True)]
    assert len(questions) >= 8
    assert np.mean(right) >= 0.8, list(zip(answers, questions, strict=True))


def test_it_chooses_among_options_and_points_at_the_evidence(assistant, memory, timeline) -> None:
    questions = make_questions(
        timeline, 2, formats=("mc",), families=("object", "colour", "position"), per_family=3
    )
    right, near = [], []
    for question in questions:
        answer = assistant.ask(memory, question.question, options=question.options, evidence=True)
        right.append(is_same_answer(answer.best_guess, question.answer))
        near.append(is_near(question, float(answer.times_F[answer.mass_F.argmax()])))
    assert np.mean(right) >= 0.8
    assert np.mean(near) >= 0.8


def test_the_same_question_gets_the_same_answer(assistant, memory) -> None:
    first, second = (assistant.ask(memory, "Which digit was shown?", seed=s) for s in (0, 1))
    assert (first.text, first.confidence) == (second.text, second.confidence)


def test_it_says_what_it_knows(assistant) -> None:
    assert assistant.domain == "MarathonWorld"
