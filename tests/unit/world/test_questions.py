from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from hour_llava.errors import HourLlavaError
from hour_llava.world.families import LADDER, OPEN_FAMILIES, formats_of
from hour_llava.world.questions import (
    ALL_FAMILIES,
    ANSWERS,
    EIGHTHS,
    FAMILIES,
    Question,
    ask,
    eighth_of,
    facts_of,
    make_questions,
    num_options,
    vocabulary,
)
from hour_llava.world.timeline import Timeline, make_timeline
from hour_llava.world.wordings import TRAINING, UNSEEN, is_unseen, words_of

FIRST = [
    ("object", "Which shape appears inside the white ring?", "mushroom"),
    ("colour", "What hue fills the moon?", "cyan"),
    ("scene", "What is the background behind the arrow?", "night"),
]


def test_the_same_arguments_give_the_same_questions(minute: Timeline):
    assert make_questions(minute, 1) == make_questions(minute, 1)
    assert make_questions(minute, 1) != make_questions(minute, 2)


def test_questions_survive_json(minute: Timeline):
    questions = make_questions(minute, 1, wordings="all", per_family=3)
    assert all(Question.from_json(q.to_json()) == q for q in questions)
    assert {q.format for q in questions} == {"oe", "mc"}
    assert len({q.id for q in questions}) == len(questions)


@pytest.mark.parametrize("line", ["", "{}", "[1]", '{"id": "x", "evidence": []}'])
def test_a_foreign_line_is_one_clear_error(line: str):
    with pytest.raises(HourLlavaError, match=r"questions\.jsonl"):
        Question.from_json(line)


def test_json_has_exactly_the_promised_keys(minute: Timeline):
    import json

    for question in make_questions(minute, 1):
        fields = json.loads(question.to_json())
        expected = ["id", "task", "family", "format", "question", "options", "answer", "evidence"]
        if question.format == "oe":
            expected.remove("options")
        assert list(fields) == expected


def test_every_family_can_be_asked_of_a_minute(minute: Timeline):
    families = {q.family for seed in range(5) for q in make_questions(make_timeline(60, seed), 0)}
    assert families == set(ALL_FAMILIES) == set(TRAINING) == set(UNSEEN)
    assert set(ALL_FAMILIES) - set(ANSWERS) == set(OPEN_FAMILIES)


def test_multiple_choice_has_one_right_option():
    for seed in range(30):
        for question in make_questions(make_timeline(120, seed), seed, formats=("mc",)):
            assert question.options is not None
            assert len(question.options) == len(set(question.options))
            assert len(question.options) == num_options(question.family)
            assert question.options.count(question.answer) == 1
            if question.family in ANSWERS:
                assert set(question.options) <= set(ANSWERS[question.family])
            else:
                names = {tuple(sorted(option.split(", "))) for option in question.options}
                assert len(names) == 1


def test_the_right_option_stands_equally_often_in_each_place():
    families = [family for family in ALL_FAMILIES if "mc" in formats_of(family)]
    places: dict[str, Counter[int]] = {family: Counter() for family in families}
    for seed in range(60):
        for q in make_questions(make_timeline(60, seed), seed, formats=("mc",), per_family=4):
            assert q.options is not None
            places[q.family][q.options.index(q.answer)] += 1
    for family, counts in places.items():
        assert len(counts) == num_options(family)
        assert max(counts.values()) == min(counts.values()), family


def test_existence_is_as_often_yes_as_no():
    answers = Counter(
        q.answer
        for seed in range(40)
        for q in make_questions(
            make_timeline(60, seed), seed, families=("existence",), formats=("oe",)
        )
    )
    assert answers["yes"] == answers["no"] == 40


def test_answers_are_spread():
    """No family can be answered well by always saying the same."""
    families = [f for f in ANSWERS if ANSWERS[f] is not LADDER]
    counts: dict[str, Counter[str]] = {family: Counter() for family in families}
    for seed in range(150):
        timeline = make_timeline(300, seed)
        for family in families:
            counts[family].update(fact.answer for fact in facts_of(timeline, family))
    for family, counter in counts.items():
        possible = 3 if family == "duration" else len(ANSWERS[family])
        assert len(counter) == possible, family
        assert max(counter.values()) / sum(counter.values()) < 1.8 / possible, family


@pytest.mark.parametrize("family", [f for f in ANSWERS if ANSWERS[f] is LADDER])
def test_the_right_length_is_as_often_the_shortest_as_the_longest(family: str):
    ranks: Counter[int] = Counter()
    for seed in range(150):
        timeline = make_timeline(600, seed)
        for q in make_questions(timeline, seed, formats=("mc",), families=(family,)):
            assert q.options is not None
            ranks[sorted(q.options, key=LADDER.index).index(q.answer)] += 1
    assert max(ranks.values()) / sum(ranks.values()) < 0.4


def test_a_fact_is_not_repeated_before_all_others_were_asked(minute: Timeline):
    for family in ALL_FAMILIES:
        facts = {(f.answer, f.evidence, *f.slots.values()) for f in facts_of(minute, family)}
        num_asked = len(make_questions(minute, 0, per_family=len(facts), families=(family,)))
        texts = [q.question for q in make_questions(minute, 0, per_family=8, families=(family,))]
        assert num_asked == len(formats_of(family)) * len(facts)
        assert len(set(texts[:8])) == min(8, len(texts)) or "order" in family


def test_where_no_answer_is_unique_nothing_is_asked():
    several = next(
        t for t in (make_timeline(60, s) for s in range(99)) if len(t.with_role("digit")) > 1
    )
    assert ask(several, "digit", Random(0)) is None
    assert not [q for q in make_questions(several, 0) if q.family == "digit"]


def test_an_unknown_family_names_the_known_ones(minute: Timeline):
    with pytest.raises(ValueError, match="next_scene"):
        facts_of(minute, "smell")


def test_the_eighth_is_where_a_thing_starts():
    assert [eighth_of(8 * k, 64) for k in range(8)] == list(EIGHTHS)
    assert eighth_of(7.99, 64) == "first eighth"
    assert eighth_of(64, 64) == "last eighth"


def test_there_are_eight_wordings_to_train_and_three_unseen():
    assert all(len(set(TRAINING[family])) >= 8 for family in ALL_FAMILIES)
    assert all(len(set(UNSEEN[family])) == 3 for family in ALL_FAMILIES)


def test_unseen_wordings_are_new_sentences_of_known_words():
    trained = {text for ways in TRAINING.values() for text in ways}
    known = {word for text in trained for word in words_of(text)}
    for ways in UNSEEN.values():
        for text in ways:
            assert text not in trained
            assert set(words_of(text)) <= known, text


def test_seen_and_unseen_questions_are_told_apart():
    for seed in range(10):
        timeline = make_timeline(60, seed)
        for split, expected in (("train", False), ("unseen", True)):
            for q in make_questions(timeline, seed, wordings=split, per_family=10):
                assert is_unseen(q.family, q.question) == expected, q.question


def test_the_vocabulary_holds_every_word_of_questions_and_answers():
    words = vocabulary()
    assert 300 <= len(words) <= 1000
    assert list(words) == sorted(set(words))
    for seed in range(6):
        for q in make_questions(make_timeline(60, seed), seed, wordings="all", per_family=13):
            text = " ".join((q.question, q.answer, *(q.options or ())))
            assert set(words_of(text)) <= set(words)


def test_canonical_answers_are_short_lower_case_words():
    for answers in ANSWERS.values():
        assert all(answer == answer.lower() and len(answer.split()) <= 3 for answer in answers)


def test_the_first_eleven_families_ask_what_they_always_asked():
    """Nano's exam of earlier commits must stay comparable."""
    some = make_questions(make_timeline(180, 3), 3, per_family=1, families=FAMILIES)
    assert [(q.family, q.question, q.answer) for q in some[:3]] == FIRST
