from __future__ import annotations

import math
from random import Random

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from hour_llava.recipes.nano import make_tokenizer
from hour_llava.train.nano.batches import _spans
from hour_llava.train.nano.naming import (
    NUM_LENGTHS,
    NUM_NAME_BITS,
    PAIR_BITS,
    PAIRS,
    TIME_BINS,
    Names,
    Naming,
    slot_means,
)
from hour_llava.train.nano.tower import ACTS, MEMORY_SIZES, attribute_classes
from hour_llava.world.families import LADDER, LADDER_SECONDS
from hour_llava.world.labels import attributes_per_second
from hour_llava.world.questions import Question, ask
from hour_llava.world.timeline import CELLS, COLOURS, SCENES, SHAPES, Timeline, make_timeline

VISUAL = 4
SECONDS = 180


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return make_tokenizer()


@pytest.fixture(scope="module")
def timeline() -> Timeline:
    return make_timeline(SECONDS, 5)


def told(tokenizer: PreTrainedTokenizerBase, timeline: Timeline, question: Question) -> Naming:
    ids = tokenizer(question.question, add_special_tokens=False).input_ids
    classes = attribute_classes(attributes_per_second(timeline))[None]
    seconds = [torch.arange(SECONDS)]
    spans = _spans([[question]], seconds)
    rows = VISUAL + len(ids)
    return Names(tokenizer).tell(
        [[ids]], [[rows]], spans, classes, seconds_VF=seconds, first_word=VISUAL
    )


def bits_of(naming: Naming, row: int, column: str) -> list[int]:
    first = sum(size for name, size in MEMORY_SIZES.items() if name in before(column))
    bits = naming.bits_NA[row, first : first + MEMORY_SIZES[column]]
    return bits.nonzero().flatten().tolist()


def before(column: str) -> list[str]:
    return list(MEMORY_SIZES)[: list(MEMORY_SIZES).index(column)]


def test_names_of_several_words_are_found_at_their_last_word(tokenizer) -> None:
    ids = tokenizer("the star moves right in the forest", add_special_tokens=False).input_ids
    columns = list(MEMORY_SIZES)
    assert list(Names(tokenizer).find(ids)) == [
        (1, columns.index("shape"), SHAPES.index("star")),
        (3, columns.index("act"), ACTS.index("moves right")),
        (6, columns.index("scene"), SCENES.index("forest")),
    ]


def test_each_name_of_two_is_told_its_own_seconds_and_what_stands_there(
    tokenizer, timeline
) -> None:
    question = ask(timeline, "relation", Random(1))
    assert question is not None
    naming = told(tokenizer, timeline, question)
    words = tokenizer(question.question, add_special_tokens=False).input_ids
    seen = {one.shape: one for one in timeline.needles}
    assert len(naming.rows_N) == 2
    for number, row in enumerate(naming.rows_N.tolist()):
        one = seen[tokenizer.decode([words[row - VISUAL]])]
        span = naming.spans_VQF[0, naming.span_of_row[0][row]].nonzero().flatten().tolist()
        assert set(span) <= set(range(one.start_seconds, one.end_seconds))
        assert bits_of(naming, number, "shape") == [SHAPES.index(str(one.shape))]
        assert bits_of(naming, number, "colour") == [COLOURS.index(str(one.colour))]
        assert bits_of(naming, number, "cell") == [CELLS.index(one.cell)]
        times = naming.bits_NA[number, -TIME_BINS:].nonzero().flatten().tolist()
        assert one.start_seconds * TIME_BINS // SECONDS in times
    spans = naming.span_of_row[0]
    unnamed = set(range(VISUAL, VISUAL + len(words))) - set(naming.rows_N.tolist())
    assert all(spans[row] == 0 for row in unnamed)
    assert naming.slots_N.tolist() == [0, 1]
    assert spans[:VISUAL] == [spans[row] for row in naming.rows_N] + [0, 0]


@pytest.mark.parametrize("seed", range(6))
def test_a_pair_knows_what_two_things_share(tokenizer, timeline, seed: int) -> None:
    question = ask(timeline, "relation", Random(seed))
    assert question is not None
    questions, numbers, bits = told(tokenizer, timeline, question).pairs()
    assert questions.tolist() == [0] and numbers.tolist() == [0]
    share = dict(zip(PAIR_BITS, bits[0].tolist(), strict=True))
    assert (share["row"], share["column"]) == {
        "same corner": (True, True),
        "same row": (True, False),
        "same column": (False, True),
        "opposite corner": (False, False),
    }[question.answer]


def test_of_four_names_the_pair_of_one_colour_is_found(tokenizer, timeline) -> None:
    question = ask(timeline, "same_colour", Random(1))
    assert question is not None
    naming = told(tokenizer, timeline, question)
    words = tokenizer(question.question, add_special_tokens=False).input_ids
    names = [tokenizer.decode([words[row - VISUAL]]) for row in naming.rows_N]
    _, numbers, bits = naming.pairs()
    visitor = timeline.with_role("visitor")[0].shape
    alike = [
        {names[slot] for slot in PAIRS[number]}
        for number, own in zip(numbers.tolist(), bits[:, PAIR_BITS.index("colour")], strict=True)
        if own and visitor in {names[slot] for slot in PAIRS[number]}
    ]
    assert alike == [{visitor, question.answer}]


@pytest.mark.parametrize("seed", range(6))
def test_the_length_between_two_names_is_the_gap_that_is_asked_for(
    tokenizer, timeline, seed: int
) -> None:
    question = ask(timeline, "gap", Random(seed))
    assert question is not None
    questions, numbers, rungs = told(tokenizer, timeline, question).lengths()
    assert set(questions.tolist()) == {0}
    assert [LADDER[rung] for rung in rungs[numbers == 0]] == [question.answer]


@pytest.mark.parametrize("seed", range(6))
def test_how_long_a_scene_is_seen_is_its_length(tokenizer, timeline, seed: int) -> None:
    question = ask(timeline, "scene_duration", Random(seed))
    assert question is not None
    _, numbers, rungs = told(tokenizer, timeline, question).lengths()
    assert numbers.tolist() == [len(PAIRS), NUM_LENGTHS - 1]
    assert LADDER[int(rungs[0])] == question.answer


def test_every_question_is_told_how_long_the_video_is(tokenizer, timeline) -> None:
    question = ask(timeline, "digit", Random(1))
    assert question is not None
    _, numbers, rungs = told(tokenizer, timeline, question).lengths()
    whole = int(rungs[numbers == NUM_LENGTHS - 1])
    others = [abs(math.log(rung / timeline.duration_seconds)) for rung in LADDER_SECONDS]
    assert others[whole] == min(others)


def test_what_is_compared_includes_when_it_was(tokenizer, timeline) -> None:
    question = ask(timeline, "gap", Random(1))
    assert question is not None
    naming = told(tokenizer, timeline, question)
    assert torch.equal(naming.compared_bits()[:, -TIME_BINS:], naming.bits_NA[:, -TIME_BINS:])


def test_a_slot_is_the_mean_of_its_visual_tokens() -> None:
    tokens = torch.arange(10.0)[None, :, None]
    assert slot_means(tokens).flatten().tolist() == [1.0, 3.5, 6.0, 8.5]


def test_a_question_of_one_span_keeps_it_for_all_its_rows(tokenizer, timeline) -> None:
    question = ask(timeline, "verb", Random(1))
    assert question is not None
    naming = told(tokenizer, timeline, question)
    assert set(naming.span_of_row[0]) == {0}
    assert ACTS.index(question.answer) in bits_of(naming, 0, "act")


def test_what_is_only_compared_is_looked_at_where_it_stands(tokenizer, timeline) -> None:
    question = ask(timeline, "same_colour", Random(1))
    assert question is not None
    naming = told(tokenizer, timeline, question)
    assert len(naming.rows_N) == 4
    colours = {flash.shape: flash.colour for flash in timeline.with_role("flash")}
    words = tokenizer(question.question, add_special_tokens=False).input_ids
    for number, row in enumerate(naming.rows_N.tolist()):
        name = tokenizer.decode([words[row - VISUAL]])
        if name in colours:
            assert bits_of(naming, number, "colour") == [COLOURS.index(str(colours[name]))]


def test_the_absent_and_the_unlabelled_are_told_nothing(tokenizer, timeline) -> None:
    ids = tokenizer(f"is there a {timeline.absent_shape}?", add_special_tokens=False).input_ids
    spans = torch.zeros(1, 1, SECONDS, dtype=torch.int8)
    classes = attribute_classes(attributes_per_second(timeline))[None]
    rows = [[VISUAL + len(ids)]]
    for given in (classes, None):
        naming = Names(tokenizer).tell(
            [[ids]], rows, spans, given, seconds_VF=[torch.arange(SECONDS)], first_word=VISUAL
        )
        assert naming.rows_N.tolist() == []
        assert naming.bits_NA.shape == (0, NUM_NAME_BITS)
        assert torch.equal(naming.spans_VQF, spans)


def test_an_act_is_labelled_when_it_shows() -> None:
    timeline = make_timeline(SECONDS, 5)
    agent = next(one for one in timeline.with_role("agent") if one.action == "squeezes")
    labels = attributes_per_second(timeline)["act"][:, CELLS.index(agent.cell)]
    own = labels[agent.start_seconds : agent.end_seconds].tolist()
    assert own == [-1, -1, *[ACTS.index("squeezes")] * 4]
