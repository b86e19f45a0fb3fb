"""Grouping: a video's questions share samples, nothing is lost, everything else passes."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from hour_llava.data.grouping import GroupingCounts, group_samples
from hour_llava.data.manifest import Sample


def ask(video: str, question: str) -> Sample:
    turns = (
        {"from": "human", "value": f"<video>\n{question}"},
        {"from": "gpt", "value": f"to {question}"},
    )
    return Sample(id=question, video=video, conversations=turns)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 40)), max_size=60), st.integers(1, 7)
)
def test_every_question_is_there_once_and_no_sample_has_more_than_allowed(
    asked: list[tuple[str, int]], most: int
) -> None:
    counts = GroupingCounts()
    samples = [ask(video, f"q{number}") for video, number in asked]
    groups = list(group_samples(samples, max_questions=most, counts=counts))
    found = []
    for group in groups:
        values = [turn["value"] for turn in group.conversations]
        assert values[0].startswith("<video>\n") and "".join(values).count("<video>") == 1
        assert 1 <= len(values) // 2 <= most
        for question, answer in zip(values[::2], values[1::2], strict=True):
            question = question.removeprefix("<video>\n")
            assert answer == f"to {question}"
            found.append((group.video, int(question[1:])))
    assert sorted(found) == sorted(set(asked))
    assert counts.num_repeated == len(asked) - len(set(asked))
    assert len({group.id for group in groups}) == len(groups)
    again = list(group_samples(groups, max_questions=most))
    assert len(again) == len(groups)


def test_text_images_and_odd_conversations_pass_as_they_are() -> None:
    turns = ({"from": "human", "value": "why"}, {"from": "gpt", "value": "so"})
    samples = [
        Sample(id="t", conversations=turns),
        Sample(id="i", images=("a",), conversations=turns),
        Sample(id="v", video="a", conversations=turns[1:]),
    ]
    assert list(group_samples(samples)) == samples


def test_questions_of_users_and_answers_of_assistants_are_grouped_too() -> None:
    samples = [ask("a", "q1"), ask("a", "q2")]
    names = {"human": "user", "gpt": "assistant"}
    turns = [{**turn, "from": names[turn["from"]]} for turn in samples[1].conversations]
    (group,) = group_samples([samples[0], replace(samples[1], conversations=tuple(turns))])
    assert [turn["from"] for turn in group.conversations] == ["human", "gpt"] * 2
