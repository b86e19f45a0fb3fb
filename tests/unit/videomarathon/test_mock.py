"""The mock's model: the same answer to the same request, in the schema, out of its own prompt."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
from pydantic import BaseModel

from hour_llava.errors import HourLlavaError
from hour_llava.videomarathon.checks.judged import BlindReply, JudgeReply
from hour_llava.videomarathon.mock_answers import Asked, answer, fill_schema
from hour_llava.videomarathon.mock_server import FAULTS, count_prompt, read_faults
from hour_llava.videomarathon.schemas import (
    ClipAspects,
    EventDescription,
    EventSplit,
    GlobalDescription,
    QAReply,
    json_schema,
)

NOTES = "\n".join(
    f"[{start}-{start + 30}s] The painter lifts the {colour} cup in the {place}."
    for start, colour, place in [
        (0, "red", "kitchen"),
        (20, "blue", "kitchen"),
        (40, "green", "garden"),
        (90, "white", "garden"),
        (150, "black", "barn"),
        (170, "orange", "barn"),
    ]
)
QA_TEXT = f"""Topic: Action. The kinds of questions to write, with what each asks:

- Action Recognition: what is done (one moment)
- Action Reasoning: why (needs two or more moments far apart)
- Action Sequence (from facts): in which order (needs two or more moments far apart)

Examples of their form, about other videos; never copy their content:

Notes under the topic in the order of time, each line with the seconds of its stretch:
{NOTES}

Facts that are worked out already:
F1 (Action Sequence): to be asked: What comes first? The answer: lifting

Write exactly 2 multiple-choice questions for each kind, in en:"""


def ask(model: type[BaseModel], text: str, unit: str = "video:20000-50000") -> Any:
    asked = Asked(schema=json_schema(model), text=text, unit=unit)
    assert answer(asked) == answer(asked)
    return model.model_validate_json(answer(asked))


def test_a_clip_is_told_the_same_whenever_it_is_asked_and_neighbours_differ() -> None:
    first = ask(ClipAspects, "Here are 30 pictures")
    assert first == ask(ClipAspects, "Here are 30 pictures, again")
    later = ask(ClipAspects, "Here are 30 pictures", unit="video:40000-70000")
    assert later.aspects() != first.aspects()
    assert later.scene.split()[1] == first.scene.split()[1], "they are in one scene"


def test_events_follow_the_places_in_the_notes() -> None:
    split = ask(EventSplit, f"Divide the video.\n{NOTES}", unit="video")
    assert list(split.root) == ["0-50s", "40-120s", "150-200s"]
    assert len(set(split.root.values())) == 3


def test_narratives_tell_what_is_noted() -> None:
    told = ask(EventDescription, "[0-30s]\n  Summary: A man walks.\nOnly for context, no")
    assert told.description == "A man walks."
    video = ask(GlobalDescription, "[0-70s] A man walks: He does.\n[60-90s] He sits: So he does.")
    assert video.description == "First: A man walks. Then: He sits."


def test_questions_quote_their_notes_word_for_word_and_word_the_facts() -> None:
    reply = ask(QAReply, QA_TEXT, unit="video:action:mc").root
    assert set(reply) == {"Action Recognition", "Action Reasoning", "Action Sequence"}
    for name in ("Action Recognition", "Action Reasoning"):
        for item in reply[name]:
            assert len(item.evidence) == (1 if name.endswith("Recognition") else 2)
            assert all(f"[{e.clip}] {e.quote}" in NOTES for e in item.evidence)
            assert item.options is not None
            assert item.answer in item.options
    assert [(item.fact, item.answer) for item in reply["Action Sequence"]] == [("F1", "lifting")]


def test_judge_and_blind_answer_by_letters() -> None:
    text = "[0-30s] A red cup.\n\nQuestion: What?\n\nPossible answers:\nA. a blue hat\nB. a red cup"
    assert ask(JudgeReply, text).entailed == ("B",)
    assert ask(BlindReply, text).answer in ("A", "B")


def test_requests_that_are_not_ours_are_answered_in_their_schema() -> None:
    class Other(BaseModel):
        name: str
        sizes: list[int]
        is_new: bool
        part: JudgeReply | None

    schema = Other.model_json_schema()
    Other.model_validate(fill_schema(schema, schema["$defs"], Random(1)))


@pytest.mark.parametrize("word", ["430", "429:2", "429:often", "429:nan", "429:-1"])
def test_a_fault_that_is_none_is_refused(word: str) -> None:
    with pytest.raises(HourLlavaError):
        read_faults([word])


def test_faults_are_read_with_their_rates() -> None:
    assert read_faults(["429:0.1", "no_json_schema"]) == {"429": 0.1, "no_json_schema": 1.0}
    assert all(read_faults([name]) for name in FAULTS)


def test_usage_counts_text_and_messages() -> None:
    body = {"messages": [{"role": "user", "content": "a" * 40}]}
    assert count_prompt(body) == 14
    assert json.dumps(body)
