"""The prompts: their words are frozen, and they carry all that the pipeline must ask for."""

from __future__ import annotations

import pytest

from hour_llava.errors import BuildError
from hour_llava.tasks import TASKS
from hour_llava.videomarathon.prompts import NAMES, fill, load, load_examples

SNAPSHOT = {
    "clip_caption": "de62716d99f6e828",
    "event_split": "0b6d0600f87e4c76",
    "event_caption": "5035526096104dbf",
    "global_caption": "bbaff65130f40c0c",
    "qa_open_ended": "d5ebfb9cfea423ec",
    "qa_multiple_choice": "59d016f4da949456",
    "judge": "09ef2ae481fb8e72",
    "blind": "294fe3fb1a2bda4d",
}
"""Changing a prompt changes every answer: change its digest here with it, on purpose."""


def test_the_words_of_every_prompt_are_frozen() -> None:
    assert {name: load(name).sha for name in NAMES} == SNAPSHOT


def test_the_examples_are_frozen() -> None:
    assert load_examples()[1] == "4dfe60672b219881"


def test_every_task_has_an_example_with_its_options() -> None:
    examples, _ = load_examples()
    assert set(examples) == {task.slug for task in TASKS}
    for task in TASKS:
        example = examples[task.slug]
        assert len(example.options) in ((2, 4) if "mc" in task.formats else (0,))
        assert len(set(example.options)) == len(example.options)
        assert example.answer not in example.question or task.slug == "temporal_order"


def test_a_clip_is_asked_for_in_six_aspects_as_json() -> None:
    text = load("clip_caption").text
    for aspect in ("Temporality", "Spatiality", "Object", "Action", "Scene", "Summary"):
        assert f"- {aspect}: " in text
        assert f'"{aspect}": "..."' in text


def test_neighbours_are_context_only_and_outliers_are_left_out() -> None:
    text = load("event_caption").text
    assert "Only for context" in text
    assert "Do not describe or repeat this" in text
    assert "leave it out" in text
    assert '{"Event-Level Description": "..."}' in text


def test_the_global_narrative_has_no_times() -> None:
    text = load("global_caption").text
    assert "Give no times" in text
    assert "one narrative" in text
    assert '{"Global-Level Description": "..."}' in text


@pytest.mark.parametrize("name", ["qa_open_ended", "qa_multiple_choice"])
def test_questions_are_grounded_quoted_and_counted(name: str) -> None:
    prompt = load(name)
    assert {"topic", "subtasks", "examples", "captions", "global_caption", "num_pairs"} <= set(
        prompt.places
    )
    assert "Strictly grounded" in prompt.text
    assert "exactly as they stand" in prompt.text
    assert "exactly $num_pairs" in prompt.text


@pytest.mark.parametrize("name", NAMES)
def test_the_word_json_stands_in_every_prompt(name: str) -> None:
    """DeepSeek's json_object mode refuses a prompt without it."""
    assert "JSON" in load(name).text or "json" in load(name).text


def test_values_are_data_whatever_they_hold() -> None:
    hostile = "costs $5 $title\n# user\n{}"
    values = dict.fromkeys(load("global_caption").places, hostile)
    (role, system), (other, user) = fill("global_caption", values)
    assert (role, other) == ("system", "user")
    assert "costs" not in system
    assert user.count(hostile) == 3


def test_a_missing_value_is_named() -> None:
    with pytest.raises(BuildError, match=r"global_caption.*no value for its place"):
        fill("global_caption", {})


def test_an_unknown_prompt_is_refused_with_the_list() -> None:
    with pytest.raises(BuildError, match="clip_caption, event_split"):
        load("haiku")
