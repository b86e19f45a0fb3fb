"""An independent checker: reads truth.json as plain data and works out every answer anew."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from hour_llava.world.questions import FAMILIES, Question, make_questions
from hour_llava.world.timeline import SCENES, SHAPES, make_timeline

lengths = st.one_of(st.integers(14, 60), st.integers(61, 4000))
seeds = st.integers(0, 2**40)

Truth = dict[str, Any]
Span = tuple[float, float]


def only(items: list[Any]) -> Any:
    assert len(items) == 1, "the answer is not unique"
    return items[0]


def named(text: str, words: tuple[str, ...]) -> list[str]:
    return [word for word in re.findall(r"[a-z]+", text.lower()) if word in words]


def shown(truth: Truth, shape: str) -> dict[str, Any]:
    return only([a for a in truth["appearances"] if a.get("shape") == shape])


def span(item: dict[str, Any]) -> Span:
    return item["start_seconds"], item["end_seconds"]


def right_answer(truth: Truth, family: str, text: str) -> tuple[str, list[Span]]:
    length, things, scenes = truth["duration_seconds"], truth["appearances"], truth["scenes"]
    if family == "object":
        ringed = only([a for a in things if a.get("ringed")])
        return ringed["shape"], [span(ringed)]
    if family == "digit":
        digit = only([a for a in things if "digit" in a])
        return digit["digit"], [span(digit)]
    if family == "next_scene":
        name = only(named(text, SCENES))
        place = [scene["name"] for scene in scenes].index(name)
        cut = scenes[place]["end_seconds"]
        return scenes[place + 1]["name"], [(cut - 2, cut + 2)]
    if family == "order":
        pair = sorted((shown(truth, s) for s in named(text, SHAPES)), key=span)
        assert len(pair) == 2
        return pair[0]["shape"], [span(item) for item in pair]
    shape = only(named(text, SHAPES))
    if family == "existence":
        found = [a for a in things if a.get("shape") == shape]
        return ("yes", [span(only(found))]) if found else ("no", [])
    item = shown(truth, shape)
    start, end = span(item)
    around = [s["name"] for s in scenes if s["start_seconds"] < end and start < s["end_seconds"]]
    order = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "last"]
    answers = {
        "colour": lambda: item["colour"],
        "scene": lambda: only(around),
        "action": lambda: item["action"],
        "position": lambda: item["cell"],
        "when": lambda: f"{order[start * 8 // length]} eighth",
        "duration": lambda: f"{end - start} second{'s' if end - start > 1 else ''}",
    }
    return answers[family](), [(start, end)]


@settings(max_examples=60, deadline=None)
@given(seconds=lengths, seed=seeds)
def test_every_answer_follows_from_the_truth_file(seconds: int, seed: int):
    timeline = make_timeline(seconds, seed)
    truth = json.loads(timeline.to_json())
    for made in make_questions(timeline, seed, wordings="all", per_family=4, families=FAMILIES):
        question: dict[str, Any] = json.loads(made.to_json())
        answer, evidence = right_answer(truth, question["family"], question["question"])
        assert question["answer"] == answer
        spans = [(e["start_seconds"], e["end_seconds"]) for e in question["evidence"]]
        assert spans == evidence
        assert all(0 <= start < end <= seconds for start, end in spans)
        if question["format"] == "mc":
            assert question["options"].count(answer) == 1
        assert Question.from_json(json.dumps(question)) == made


@settings(max_examples=80, deadline=None)
@given(seconds=lengths, seed=seeds)
def test_timelines_keep_the_rules_of_the_world(seconds: int, seed: int):
    truth = json.loads(make_timeline(seconds, seed).to_json())
    scenes, things = truth["scenes"], truth["appearances"]
    assert scenes[0]["start_seconds"] == 0
    assert scenes[-1]["end_seconds"] == seconds
    assert all(a["end_seconds"] == b["start_seconds"] for a, b in itertools.pairwise(scenes))
    assert len({s["name"] for s in scenes}) == len(scenes) >= 2
    assert all(s["end_seconds"] - s["start_seconds"] >= 3 for s in scenes)

    taken: set[tuple[str, int]] = set()
    needle_seconds: set[int] = set()
    story_seconds: dict[int, tuple[int, int]] = {}
    for thing in things:
        start, end = span(thing)
        assert 0 <= start < end <= seconds
        cells = {(thing["cell"], second) for second in range(start, end)}
        assert not cells & taken
        taken |= cells
        if thing["role"] == "background":
            continue
        assert sum(s["start_seconds"] < end and start < s["end_seconds"] for s in scenes) == 1
        if thing["role"] in ("agent", "patient", "visitor", "performer"):
            alike = {story_seconds.setdefault(s, (start, end)) for s in range(start, end)}
            assert alike == {(start, end)}, "two parts of the story at once"
            continue
        assert not needle_seconds & set(range(start, end))
        needle_seconds |= set(range(start, end))

    roles = [thing["role"] for thing in things]
    rare = [thing["shape"] for thing in things if thing["role"] in ("flash", "actor")]
    needles = ("flash", "actor", "digit")
    common = {thing["shape"] for thing in things if thing["role"] not in needles}
    assert len(set(rare)) == len(rare)
    assert not set(rare) & common
    assert truth["absent_shape"] not in common | set(rare)
    assert roles.count("ringed") <= 1
    assert roles.count("digit") <= 3
    if seconds >= 60:
        assert (roles.count("flash"), roles.count("actor"), roles.count("ringed")) == (3, 1, 1)
    if seconds >= 180:
        story = {role: roles.count(role) for role in ("agent", "visitor", "performer")}
        expected = (4, 4, 5) if seconds >= 600 else (3, 2, 4)
        assert tuple(story.values()) == expected
