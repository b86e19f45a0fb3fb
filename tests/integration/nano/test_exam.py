"""The exam's batches answer what `ask` answers, and its paper asks all tasks in both formats."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch

import hour_llava
from hour_llava.memory.repository import MemoryRepository
from hour_llava.tasks import TASKS
from hour_llava.world.questions import FAMILIES
from hour_llava.world.timeline import make_timeline

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
TIMELINE = make_timeline(180, 81_000_000, split="exam")


@pytest.fixture(scope="module")
def nano_exam() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        return importlib.import_module("nano_exam")


def test_batches_answer_what_ask_answers(nano_exam, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    assistant = hour_llava.load("nano")
    features = nano_exam.FrameStore(assistant, tmp_path).features(TIMELINE)
    memory = MemoryRepository(features_FPD=features, times_F=torch.arange(len(features)))
    questions = nano_exam.paper(TIMELINE, families=FAMILIES)[::7]
    given = nano_exam.Reader(assistant, abstains=True).answers(features, questions)
    for question in questions:
        answer = assistant.ask(
            memory, question.question, options=question.options, evidence=True, max_new_tokens=20
        )
        assert given[question].text == answer.text
        assert given[question].peak_seconds == float(answer.times_F[answer.mass_F.argmax()])


def test_kept_frames_give_the_same_features_again(nano_exam, tmp_path: Path) -> None:
    store = nano_exam.FrameStore(hour_llava.load("nano"), tmp_path)
    first = store.features(TIMELINE)
    for path in (tmp_path / "features").rglob("*.npy"):
        path.unlink()
    assert torch.equal(store.features(TIMELINE), first)


def test_the_paper_asks_every_task_openly_and_with_options(nano_exam) -> None:
    questions = nano_exam.paper(TIMELINE)
    assert {q.task for q in questions} == {task.slug for task in TASKS}
    opened = [q.question for q in questions if q.format == "oe" and q.family != "summary"]
    assert opened == [q.question for q in questions if q.format == "mc"]


def test_without_unseen_wordings_the_paper_is_as_in_training(nano_exam) -> None:
    from hour_llava.world.wordings import is_unseen

    questions = nano_exam.paper(TIMELINE, unseen=0, has_options=False)
    assert all(q.format == "oe" for q in questions)
    assert not any(is_unseen(q.family, q.question) for q in questions)
