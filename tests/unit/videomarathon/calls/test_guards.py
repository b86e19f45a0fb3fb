"""Guards: what is no answer is named, and what is one gets through."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hour_llava.videomarathon.calls.guards import ContentError, read_answer, read_object

GOOD = {"Summary": "A man walks.", "Action": "He opens a door, then another."}


def body(content: Any, **changes: Any) -> str:
    message = {"role": "assistant", "content": content, **changes.pop("message", {})}
    choice = {"message": message, "finish_reason": changes.pop("finish_reason", "stop")}
    return json.dumps({"model": "m", "choices": [choice], **changes})


def fault_of(text: str) -> str:
    with pytest.raises(ContentError) as caught:
        read_object(read_answer(text))
    return caught.value.fault


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(GOOD),
        f"```json\n{json.dumps(GOOD)}\n```",
        f"Sure! Here it is:\n```\n{json.dumps(GOOD, indent=4)}\n```\nAnything else?",
        f"<think>What {{may}} this be?</think>\n{json.dumps(GOOD)}",
        f"The answer is {json.dumps(GOOD)}.",
        [{"type": "text", "text": json.dumps(GOOD)}],
    ],
)
def test_json_is_found_in_what_models_put_around_it(content: Any) -> None:
    assert read_object(read_answer(body(content))) == GOOD


def test_line_ends_inside_strings_are_taken() -> None:
    assert read_object(read_answer(body('{"a": "one\ntwo"}'))) == {"a": "one\ntwo"}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (body(""), "empty"),
        (body(None), "empty"),
        (body("<think>Hm.</think>"), "empty"),
        (body('{"a": ' + " \n" * 300), "whitespace"),
        (body('{"a": "' + "the man walks and " * 80), "loop"),
        (body('{"a": "' + "他走路" * 100, finish_reason="length"), "loop"),
        (body('{"a": "' + " ".join(map(str, range(500))), finish_reason="length"), "length"),
        (body("I'm sorry, but I cannot describe people."), "refusal"),
        (body("抱歉，我无法帮助。"), "refusal"),
        (body("", message={"refusal": "I won't."}), "refusal"),
        (body("", finish_reason="content_filter"), "refusal"),
        (body("A man walks through a door."), "not_json"),
        (body("[1, 2]"), "not_json"),
        (body("{" * 100_000), "loop"),
        ("<html>502</html>", "unreadable"),
        ('{"choices": []}', "unreadable"),
        ('{"choices": [{"message": null}]}', "unreadable"),
        ("null", "unreadable"),
    ],
)
def test_each_fault_is_named(text: str, fault: str) -> None:
    assert fault_of(text) == fault


def test_long_answers_of_templates_are_no_loops() -> None:
    colours = ("red", "blue", "green", "white", "black", "brown", "pink")
    things = ("cup", "ball", "hat", "lamp", "book", "bag", "box", "coat", "door", "car", "bus")
    items = [
        {"question": f"What colour is the {thing}?", "answer": f"It is {colour}."}
        for colour in colours
        for thing in things
    ]
    assert read_object(read_answer(body(json.dumps({"Object Attribute": items}))))


def test_usage_and_the_mocks_fingerprint_are_read() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": None}
    answer = read_answer(body("{}", usage=usage, system_fingerprint="hour-llava-mock-1"))
    assert (answer.prompt_tokens, answer.completion_tokens, answer.is_mock) == (3, None, True)
