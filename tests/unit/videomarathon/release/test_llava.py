"""The training JSON is what LLaVA's loaders read, and every accepted row is in it once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from hour_llava.errors import RecordError
from hour_llava.videomarathon.release.content import read_content
from hour_llava.videomarathon.release.llava import (
    LETTER_PROMPT,
    Sample,
    make_samples,
    read_samples,
    write_samples,
)

Make = Callable[..., Any]


def _sample(*turns: tuple[str, str]) -> Sample:
    conversations = [{"from": speaker, "value": value} for speaker, value in turns]
    return Sample.model_validate(
        {"id": "a", "video": "a.mp4", "data_source": "local", "conversations": conversations}
    )


def test_every_accepted_row_is_asked_once_at_most_five_a_sample(make_memory_build: Make) -> None:
    (content,) = read_content(make_memory_build("truth")).videos

    samples = make_samples(content)

    assert [len(sample.conversations) for sample in samples] == [10] * 8 + [4]
    human = [
        turn.value.removeprefix("<image>\n").splitlines()[0]
        for sample in samples
        for turn in sample.conversations
        if turn.speaker == "human"
    ]
    assert sorted(human) == sorted(row.question for row in content.accepted)
    assert len({sample.id for sample in samples}) == len(samples)


def test_multiple_choice_shows_letters_and_answers_with_one(make_memory_build: Make) -> None:
    (content,) = read_content(make_memory_build("truth")).videos
    turns = [turn for sample in make_samples(content) for turn in sample.conversations]

    asked = [(q.value, a.value) for q, a in zip(turns[::2], turns[1::2], strict=True)]
    choices = [(q, a) for q, a in asked if LETTER_PROMPT in q]

    assert len(choices) == 21
    for question, answer in choices:
        *_, a, b, c, d, prompt = question.splitlines()
        assert (a, b, c, d) == ("A. wrong", "B. right answer", "C. other", "D. none")
        assert (prompt, answer) == (LETTER_PROMPT, "B")


def test_a_question_that_says_image_asks_for_no_second_video(
    make_memory_build: Make, hostile: str
) -> None:
    (content,) = read_content(make_memory_build("truth", words=hostile)).videos

    for sample in make_samples(content):
        assert sum(turn.value.count("<image>") for turn in sample.conversations) == 1


def test_a_written_file_reads_back_and_is_plain_llava(
    make_memory_build: Make, tmp_path: Path
) -> None:
    (content,) = read_content(make_memory_build("truth")).videos
    samples = make_samples(content)

    assert write_samples(tmp_path / "train.json", samples) == len(samples)

    assert read_samples(tmp_path / "train.json") == samples
    first = json.loads((tmp_path / "train.json").read_text())[0]
    assert list(first) == ["id", "video", "data_source", "conversations"]
    assert list(first["conversations"][0]) == ["from", "value"]


@pytest.mark.parametrize(
    "turns",
    [
        [("human", "<image>\nWhat?")],
        [("gpt", "<image>\nWhat?"), ("human", "That.")],
        [("human", "What?"), ("gpt", "That.")],
        [("human", "<image>\nWhat?"), ("gpt", "<image>")],
        [("human", "<image>\nWhat?"), ("gpt", "")],
        [("human", "<image>\nWhat?"), ("gpt", "That.")] * 6,
    ],
)
def test_what_is_no_conversation_is_refused(turns: list[tuple[str, str]]) -> None:
    with pytest.raises(ValidationError):
        _sample(*turns)


def test_a_broken_file_is_named_with_its_field(tmp_path: Path) -> None:
    (tmp_path / "train.json").write_text('[{"id": "a"}]')

    with pytest.raises(RecordError, match=r"train\.json is no training JSON: 0\.video"):
        read_samples(tmp_path / "train.json")
