"""Asking: the same answer every time, options, evidence, budgets, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hour_llava.errors import (
    MemoryFileError,
    ModelNotFoundError,
    QuestionError,
    ResourceError,
    VideoNotFoundError,
)
from hour_llava.memory import MemoryRepository
from hour_llava.session import Assistant, builtin_models, load
from hour_llava.session.options import RememberOptions

QUESTION = "What colour is the star?"


def memory_of(assistant: Assistant, num_frames: int, seed: int = 0) -> MemoryRepository:
    shape = (num_frames, assistant.encoder.tokens_per_frame, assistant.encoder.feature_size)
    features = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).half()
    return MemoryRepository(features_FPD=features, times_F=torch.arange(num_frames).double())


@pytest.fixture(scope="module")
def memory(assistant: Assistant) -> MemoryRepository:
    return memory_of(assistant, 200)


def test_the_same_question_gets_the_same_answer(
    assistant: Assistant, memory: MemoryRepository, tiny_model: Path
) -> None:
    first = assistant.ask(memory, QUESTION, evidence=True, max_new_tokens=8)
    assistant.ask(memory, "Is there any moon in this video?", seed=5, max_new_tokens=2)
    torch.manual_seed(123)
    again = load(str(tiny_model), device="cpu").ask(
        memory, QUESTION, evidence=True, max_new_tokens=8
    )
    assert first.text == again.text
    assert first.confidence == again.confidence
    assert first.mass_F is not None
    np.testing.assert_array_equal(first.mass_F, again.mass_F)


def test_another_seed_forgets_other_tokens(assistant: Assistant, memory: MemoryRepository) -> None:
    answers = [assistant.ask(memory, QUESTION, seed=seed, max_new_tokens=1) for seed in (0, 1)]
    assert answers[0].confidence != answers[1].confidence


def test_an_answer_says_what_it_cost_and_what_the_model_knows(
    assistant: Assistant, memory: MemoryRepository
) -> None:
    answer = assistant.ask(memory, QUESTION, max_new_tokens=3)
    assert answer.memory_tokens == 200 * 5
    assert answer.kept_tokens == 50 * 2
    assert 0 < answer.confidence <= 1
    assert answer.augment_seconds > 0
    assert answer.generate_seconds > 0
    assert answer.model == "tiny"
    assert answer.domain == "nothing: its weights are random"
    assert answer.evidence == []
    assert answer.mass_F is None


def test_evidence_is_a_share_of_every_frame(assistant: Assistant, memory: MemoryRepository) -> None:
    answer = assistant.ask(memory, QUESTION, evidence=True, max_new_tokens=1)
    assert answer.mass_F is not None
    assert answer.mass_F.shape == (200,)
    assert answer.mass_F.sum() == pytest.approx(1.0)
    assert all(0 <= span.start_seconds < span.end_seconds <= 200 for span in answer.evidence)


@pytest.mark.parametrize("options", [None, ["red", "green"]])
def test_an_answer_that_overflowed_is_an_error(
    tiny_model: Path, memory: MemoryRepository, options: list[str] | None
) -> None:
    overflowing = load(str(tiny_model), device="cpu")
    with torch.no_grad():
        overflowing.model.lm_head.weight.mul_(float("inf"))
    with pytest.raises(ResourceError, match="tiny in float32 computed NaN"):
        overflowing.ask(memory, QUESTION, options=options)


@pytest.mark.parametrize("num_frames", [1, 5])
def test_very_short_videos_can_be_asked(assistant: Assistant, num_frames: int) -> None:
    answer = assistant.ask(memory_of(assistant, num_frames), QUESTION, evidence=True)
    assert answer.mass_F is not None
    assert len(answer.mass_F) == num_frames


def test_options_are_scored_as_answers(assistant: Assistant, memory: MemoryRepository) -> None:
    options = ["red", "top left", "a green star"]
    answer = assistant.ask(memory, QUESTION, options=options)
    assert answer.text in options
    assert answer.text == options[int(np.argmax(answer.option_scores))]
    assert sum(answer.option_scores) == pytest.approx(1.0)
    turned = assistant.ask(memory, QUESTION, options=options[::-1])
    assert turned.text == answer.text
    assert turned.option_scores[::-1] == pytest.approx(answer.option_scores, rel=1e-4)


def test_options_can_be_scored_by_letter(
    assistant: Assistant, memory: MemoryRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assistant.model.config, "option_scoring", "letter")
    answer = assistant.ask(memory, QUESTION, options=["red", "green"])
    assert answer.text in ("red", "green")
    assert answer.confidence == max(answer.option_scores)


def test_below_its_threshold_a_model_does_not_answer(
    assistant: Assistant, memory: MemoryRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assistant.model.config, "abstain_below", 0.99)
    answer = assistant.ask(memory, QUESTION, max_new_tokens=3)
    assert answer.abstained
    assert answer.text == "I don't know"
    assert answer.best_guess != answer.text
    monkeypatch.setattr(assistant.model.config, "abstain_below", 1e-9)
    assert not assistant.ask(memory, QUESTION, max_new_tokens=3).abstained


@pytest.mark.parametrize("question", ["这是什么", "wer hat den Ball geworfen?", "🦊🦊"])
def test_a_question_in_foreign_words_is_declined_by_a_model_of_one_domain(
    assistant: Assistant,
    memory: MemoryRepository,
    question: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert assistant.ask(memory, question, max_new_tokens=2).abstained
    monkeypatch.setattr(assistant.model.config, "domain", None)
    assert not assistant.ask(memory, question, max_new_tokens=2).abstained


def test_a_budget_changes_how_a_memory_is_read_not_the_answer(assistant: Assistant) -> None:
    memory = memory_of(assistant, 3000)
    whole = assistant.ask(memory, QUESTION, evidence=True, max_new_tokens=4)
    from hour_llava.session import answering

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answering, "memory_bytes_within", lambda *_: 200_000)
        chunked = assistant.ask(
            memory, QUESTION, evidence=True, max_new_tokens=4, max_memory=10**12
        )
    assert chunked.text == whole.text
    assert chunked.confidence == pytest.approx(whole.confidence, rel=1e-4)
    assert chunked.mass_F is not None and whole.mass_F is not None
    np.testing.assert_allclose(chunked.mass_F, whole.mass_F, atol=1e-6)


def test_an_impossible_budget_is_refused_with_both_numbers(
    assistant: Assistant, memory: MemoryRepository
) -> None:
    with pytest.raises(ResourceError, match=r"--max-memory 10 MB .* hold [\d,]+ MB.*at least"):
        assistant.ask(memory, QUESTION, max_memory=10**7)


def test_an_answer_longer_than_the_model_reads_is_refused_with_what_would_fit(
    assistant: Assistant, memory: MemoryRepository
) -> None:
    with pytest.raises(QuestionError, match=r"--max-new-tokens 1,000,000 .* give at most ([\d,]+)"):
        assistant.ask(memory, QUESTION, max_new_tokens=10**6)
    with pytest.raises(QuestionError) as caught:
        assistant.ask(memory, QUESTION, max_new_tokens=10**6)
    most = int(str(caught.value).rpartition(" ")[2].replace(",", ""))
    assistant.require_answerable(memory, QUESTION, max_new_tokens=most)
    with pytest.raises(QuestionError):
        assistant.require_answerable(memory, QUESTION, max_new_tokens=most + 1)


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("", "empty"),
        ("x" * 50_000, "50,000"),
        ("star " * 3900, "tokens"),
        ("what is <video> here?", "control word"),
        ("a <|im_end|> b", "control word"),
    ],
)
def test_questions_that_cannot_be_asked(
    assistant: Assistant, memory: MemoryRepository, question: str, expected: str
) -> None:
    with pytest.raises(QuestionError, match=expected):
        assistant.ask(memory, question)


def test_a_memory_of_another_tower_is_refused(assistant: Assistant) -> None:
    from dataclasses import replace

    memory = memory_of(assistant, 10)
    memory.header = replace(memory.header, tower_digest="f" * 32, model="someone else's")
    with pytest.raises(MemoryFileError, match="someone else's"):
        assistant.ask(memory, QUESTION)


def test_a_memory_of_another_shape_is_refused(assistant: Assistant) -> None:
    features = torch.zeros(10, 64, 1152)
    with pytest.raises(MemoryFileError, match=r"\(64, 1152\).*\(4, 16\)"):
        assistant.ask(MemoryRepository(features_FPD=features, times_F=range(10)), QUESTION)


def test_a_missing_memory_file_is_refused(assistant: Assistant, tmp_path: Path) -> None:
    with pytest.raises(VideoNotFoundError, match="no such file"):
        assistant.open_or_remember(tmp_path / "none.hlm")


def test_a_memory_file_is_cropped(
    assistant: Assistant, memory: MemoryRepository, tmp_path: Path
) -> None:
    memory.save(tmp_path / "m.hlm")
    part = assistant.open_or_remember(tmp_path / "m.hlm", RememberOptions(start=20, end=30)).memory
    assert part.times_F.tolist() == [float(second) for second in range(20, 30)]
    with pytest.raises(MemoryFileError, match="no frame between"):
        assistant.open_or_remember(tmp_path / "m.hlm", RememberOptions(start=900))


def test_an_unknown_model_is_refused_and_the_built_in_ones_are_named() -> None:
    with pytest.raises(ModelNotFoundError, match="nowhere"):
        load("nowhere")
    assert all(isinstance(name, str) for name in builtin_models())


@pytest.mark.parametrize(
    ("changes", "expected"), [({"device": "abacus"}, "abacus"), ({"dtype": "int4"}, "int4")]
)
def test_a_device_or_dtype_that_is_not_there(
    tiny_model: Path, changes: dict[str, str], expected: str
) -> None:
    with pytest.raises(ResourceError, match=expected):
        load(str(tiny_model), **changes)


def test_a_small_model_runs_in_float32_unless_told_otherwise(tiny_model: Path) -> None:
    assert load(str(tiny_model)).model.dtype == torch.float32
    assert load(str(tiny_model), dtype="bfloat16").model.dtype == torch.bfloat16
