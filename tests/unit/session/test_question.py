"""Questions that no model can be asked are refused before any work."""

from __future__ import annotations

import pytest

from hour_llava.errors import QuestionError
from hour_llava.session.question import check_question, with_letters


@pytest.mark.parametrize("question", ["", "  ", "\n\t"])
def test_an_empty_question_is_refused(question: str) -> None:
    with pytest.raises(QuestionError, match="empty"):
        check_question(question)


def test_a_question_of_50000_characters_is_refused_with_both_numbers() -> None:
    with pytest.raises(QuestionError, match=r"50,000 characters.*20,000"):
        check_question("x" * 50_000)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["a"], "1 option"),
        (["a"] * 27, "27 option"),
        (["a", " "], "empty"),
        (["Red", "red "], "same"),
    ],
)
def test_options_that_are_no_choice_are_refused(options: list[str], expected: str) -> None:
    with pytest.raises(QuestionError, match=expected):
        check_question("which?", options)


@pytest.mark.parametrize("question", ["was ist das?", "这是什么", "ماذا حدث؟", "🦊?"])
def test_any_language_may_be_asked(question: str) -> None:
    check_question(question, ["a", "b"])


def test_letters_stand_before_the_options() -> None:
    assert with_letters("which?", ["x", "y"]).splitlines()[:3] == ["which?", "A. x", "B. y"]
