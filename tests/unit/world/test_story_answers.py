"""Every answer about the story and two times, worked out anew from truth.json as plain data."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from hour_llava.world.questions import STORY_FAMILIES, make_questions
from hour_llava.world.timeline import make_timeline

Truth = dict[str, Any]
Thing = dict[str, Any]
Span = tuple[float, float]
Found = tuple[str, list[Span]]

SCENES = ["forest", "desert", "night", "ocean", "city", "cave", "sunset", "snow"]
SHAPES = [
    *("arrow", "bolt", "boot", "crown", "fish", "flag"),
    *("heart", "house", "moon", "mushroom", "star", "triangle"),
]
ACTS = ["grows", "shrinks", "spins", "moves right", "moves left", "blinks"]
VERBS = {
    "pushes": "pushed",
    "chases": "chased",
    "turns": "turned",
    "feeds": "fed",
    "squeezes": "squeezed",
}
UNITS = {"second": 1, "minute": 60, "hour": 3600}
CASES = [(14, 40), (26, 30), (60, 12), (180, 10), (601, 6), (3600, 2), (7300, 1)]


def found(text: str, words: list[str]) -> list[str]:
    """The known words of a text, each once, in its order."""
    hits = re.findall("|".join(rf"\b{word}\b" for word in words), text.lower())
    return list(dict.fromkeys(hits))


def only(items: list[Any]) -> Any:
    assert len(items) == 1, f"not unique: {items}"
    return items[0]


def span(item: Thing) -> Span:
    return item["start_seconds"], item["end_seconds"]


def in_time(*items: Thing) -> list[Thing]:
    return sorted(items, key=span)


def spans(*items: Thing) -> list[Span]:
    return [span(item) for item in in_time(*items)]


def needle(truth: Truth, shape: str) -> Thing:
    """The flash or actor of a shape: it must be seen once only in the whole video."""
    return only([a for a in truth["appearances"] if a.get("shape") == shape])


def scene(truth: Truth, name: str) -> Thing:
    return only([s for s in truth["scenes"] if s["name"] == name])


def length(item: Thing) -> int:
    return item["end_seconds"] - item["start_seconds"]


def edges(item: Thing) -> list[Span]:
    start, end = span(item)
    return [(start, end)] if end - start < 4 else [(start, start + 2), (end - 2, end)]


def opening(item: Thing) -> Span:
    return item["start_seconds"], item["start_seconds"] + 2


def cut(item: Thing) -> Span:
    return item["start_seconds"] - 2, item["start_seconds"] + 2


def pattern(truth: Truth, name: str, shape: str) -> list[Thing]:
    marked = [a for a in truth["appearances"] if a.get("pattern") == name]
    return in_time(*[a for a in marked if a["shape"] == shape])


def acting(truth: Truth, shape: str, action: str) -> Thing:
    return only([a for a in pattern(truth, "dotted", shape) if a["action"] == action])


def about_seconds(answer: str) -> float:
    number, unit = re.fullmatch(r"about (\d+) (second|minute|hour)s?", answer).groups()  # type: ignore[union-attr]
    return int(number) * UNITS[unit]


def check_length(answer: str, seconds: float, options: list[str] | None) -> str:
    """Give the answer back if it is right to 12 %, and its options are a quarter apart."""
    assert abs(about_seconds(answer) - seconds) <= 0.12 * seconds
    known = sorted(about_seconds(option) for option in options or ())
    assert all(b >= 1.25 * a for a, b in itertools.pairwise(known))
    return answer


def interaction(truth: Truth, text: str) -> tuple[Thing, Thing]:
    """The one interaction that a question's verb and shapes fit."""
    text = text.lower()
    fitting = []
    for agent in truth["appearances"]:
        if agent.get("action") not in VERBS:
            continue
        patient = only(
            [
                a
                for a in truth["appearances"]
                if a["start_seconds"] == agent["start_seconds"] and a["role"] == "patient"
            ]
        )
        assert patient["action"] == f"is {VERBS[agent['action']]}"
        assert span(patient) == span(agent)
        assert patient["cell"].split()[0] == agent["cell"].split()[0], "not in one row"
        a, b = agent["shape"], patient["shape"]
        verb, passive = agent["action"], VERBS[agent["action"]]
        said = re.search(rf"\b({verb}|{passive})\b", text)
        other_verbs = [v for pair in VERBS.items() for v in pair if v not in (verb, passive)]
        if any(re.search(rf"\b{v}\b", text) for v in other_verbs):
            continue
        named = [s for s in found(text, SHAPES) if s in (a, b)]
        if said and re.search(rf"\b{verb}\b.*\b{b}\b", text) and len(named) == 1:
            fitting.append((agent, patient, "patient named"))
        elif said and len(named) == 1:
            fitting.append((agent, patient, "one named"))
        elif len(named) == 2:
            fitting.append((agent, patient, "both named"))
    best = [f for f in fitting if f[2] == "both named"] or fitting
    agent, patient, _ = only(best)
    return agent, patient


def order_of(names: list[str], items: list[Thing]) -> Found:
    ordered = sorted(zip(items, names, strict=True), key=lambda pair: span(pair[0]))
    return ", ".join(name for _, name in ordered), [span(item) for item, _ in ordered]


def scene_answers(truth: Truth, family: str, text: str, given: str, options: Any) -> Found | None:
    scenes, names = truth["scenes"], found(text, SCENES)
    order = [s["name"] for s in scenes]
    if family == "scene_duration":
        item = scene(truth, only(names))
        return check_length(given, length(item), options), edges(item)
    if family == "longer_scene":
        a, b = sorted((scene(truth, n) for n in names), key=length)
        assert length(b) >= 1.25 * length(a)
        return b["name"], sorted(edges(a) + edges(b))
    if family == "scene_order":
        pair = in_time(*(scene(truth, n) for n in names))
        return pair[0]["name"], [opening(item) for item in pair]
    if family == "previous_scene":
        place = order.index(only(names))
        return order[place - 1], [cut(scenes[place])]
    if family == "between_scene":
        low, high = sorted(order.index(n) for n in names)
        assert high == low + 2
        return order[low + 1], [cut(scenes[low + 1]), cut(scenes[high])]
    if family == "scene_sequence":
        items = in_time(*(scene(truth, n) for n in names))
        assert len(items) == 3
        return ", ".join(i["name"] for i in items), [opening(i) for i in items]
    if family == "main_scene":
        ordered = sorted(scenes, key=length)
        assert length(ordered[-1]) >= 1.25 * length(ordered[-2])
        return ordered[-1]["name"], edges(ordered[-1])
    if family == "highlight":
        ringed = only([a for a in truth["appearances"] if a.get("ringed")])
        around = [s for s in scenes if s["start_seconds"] <= ringed["start_seconds"]]
        return around[-1]["name"], [span(ringed)]
    if family == "summary":
        return ", ".join(order), [opening(s) for s in scenes]
    return None


def shape_answers(truth: Truth, family: str, text: str, given: str, options: Any) -> Found | None:
    names = found(text, SHAPES)
    if family == "gap":
        first, later = in_time(*(needle(truth, n) for n in names))
        seconds = later["start_seconds"] - first["end_seconds"]
        return check_length(given, seconds, options), spans(first, later)
    if family == "relation":
        a, b = (needle(truth, n) for n in names)
        same = [x == y for x, y in zip(a["cell"].split(), b["cell"].split(), strict=True)]
        words = {
            (True, True): "same corner",
            (True, False): "same row",
            (False, True): "same column",
            (False, False): "opposite corner",
        }
        return words[same[0], same[1]], spans(a, b)
    if family == "both":
        known = [[a for a in truth["appearances"] if a.get("shape") == n] for n in names]
        assert len(known) == 2
        return "yes" if all(known) else "no", spans(*(only(k) for k in known if k))
    if family == "flash_sequence":
        return order_of(names, [needle(truth, n) for n in names])
    if family in ("same_colour", "colour_match"):
        striped = only([n for n in names if re.search(rf"striped {n}", text)])
        visits = pattern(truth, "striped", striped)
        others = [needle(truth, n) for n in names if n != striped]
        alike = [o for o in others if o["colour"] == visits[0]["colour"]]
        if family == "colour_match":
            other, answer = only(others), "yes" if alike else "no"
        else:
            assert len(others) == 3
            other = only(alike)
            answer = other["shape"]
        visit = max(visits, key=lambda v: abs(v["start_seconds"] - other["start_seconds"]))
        return answer, spans(visit, other)
    return None


def visit_answers(truth: Truth, family: str, text: str, given: str, options: Any) -> Found | None:
    if family not in ("return_place", "return_stays", "out_of_sight"):
        return None
    first, second = pattern(truth, "striped", only(found(text, SHAPES)))
    for field in ("shape", "colour"):
        assert first[field] == second[field]
    answers: dict[str, Callable[[], str]] = {
        "return_place": lambda: second["cell"],
        "return_stays": lambda: "yes" if first["cell"] == second["cell"] else "no",
        "out_of_sight": lambda: check_length(
            given, second["start_seconds"] - first["end_seconds"], options
        ),
    }
    return answers[family](), spans(first, second)


def act_answers(truth: Truth, family: str, text: str) -> Found:
    dotted = only([n for n in found(text, SHAPES) if re.search(rf"dotted {n}", text)])
    acts = pattern(truth, "dotted", dotted)
    assert len({a["action"] for a in acts}) == len(acts)
    if family == "effect":
        agent, patient = interaction(truth, text.replace(f"dotted {dotted}", "it"))
        later = [a for a in acts if a["start_seconds"] >= agent["end_seconds"]]
        assert span(patient) == span(agent)
        return later[0]["action"], spans(agent, later[0])
    if family == "same_action":
        actor = needle(truth, only([n for n in found(text, SHAPES) if n != dotted]))
        alike = [a for a in acts if a["action"] == actor["action"]]
        return "yes" if alike else "no", spans(actor, *(alike or acts))
    named = found(text, ACTS)
    if family == "action_when":
        act = acting(truth, dotted, only(named))
        order = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "last"]
        part = act["start_seconds"] * 8 // truth["duration_seconds"]
        return f"{order[part]} eighth", [span(act)]
    if family == "action_beside":
        act = acting(truth, dotted, only(named))
        other = needle(truth, only([n for n in found(text, SHAPES) if n != dotted]))
        assert act["end_seconds"] <= other["start_seconds"] or (
            other["end_seconds"] <= act["start_seconds"]
        )
        return "before" if span(act) < span(other) else "after", spans(act, other)
    items = [acting(truth, dotted, n) for n in named]
    if family == "action_order":
        assert len(items) == 2
        return in_time(*items)[0]["action"], spans(*items)
    assert family == "act_sequence"
    assert len(items) == 3
    return order_of(named, items)


def interaction_answers(truth: Truth, family: str, text: str) -> Found | None:
    if family not in ("side", "patient", "agent", "verb"):
        return None
    agent, patient = interaction(truth, text)
    answers = {
        "side": agent["cell"].split()[1],
        "patient": patient["shape"],
        "agent": agent["shape"],
        "verb": agent["action"],
    }
    return answers[family], [span(agent)]


def right_answer(truth: Truth, question: dict[str, Any]) -> Found:
    family, text = question["family"], question["question"]
    given, options = question["answer"], question.get("options")
    for judge in (scene_answers, shape_answers, visit_answers):
        answer = judge(truth, family, text, given, options)
        if answer is not None:
            return answer
    return interaction_answers(truth, family, text) or act_answers(truth, family, text)


@pytest.mark.parametrize(("seconds", "count"), CASES)
def test_every_answer_about_the_story_follows_from_the_truth_file(seconds: int, count: int):
    asked = set()
    for seed in range(count):
        split = ("any", "train", "exam")[seed % 3]
        timeline = make_timeline(seconds, seed, split=split)
        truth = json.loads(timeline.to_json())
        for made in make_questions(
            timeline, seed, wordings="all", per_family=6, families=STORY_FAMILIES
        ):
            question = json.loads(made.to_json())
            answer, evidence = right_answer(truth, question)
            assert question["answer"] == answer, question
            given = [(e["start_seconds"], e["end_seconds"]) for e in question["evidence"]]
            assert given == evidence, question
            assert all(0 <= start < end <= seconds for start, end in given)
            asked.add(question["family"])
    if seconds >= 180:
        assert asked == set(STORY_FAMILIES)


def is_right_option(truth: Truth, question: dict[str, Any], option: str) -> bool:
    """Whether the judge would take an option for the answer; lengths are judged by nearness."""
    try:
        return right_answer(truth, question | {"answer": option})[0] == option
    except AssertionError:
        return False


@pytest.mark.parametrize(("seconds", "count"), [(60, 8), (180, 8), (600, 4), (3600, 1)])
def test_exactly_one_option_is_right(seconds: int, count: int):
    for seed in range(count):
        timeline = make_timeline(seconds, seed)
        truth = json.loads(timeline.to_json())
        for made in make_questions(
            timeline, seed, formats=("mc",), per_family=4, families=STORY_FAMILIES
        ):
            question = json.loads(made.to_json())
            right = [o for o in question["options"] if is_right_option(truth, question, o)]
            assert right == [question["answer"]], question
