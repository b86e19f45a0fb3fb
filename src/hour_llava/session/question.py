"""Which questions can be asked at all; checked before minutes of work on a video."""

from __future__ import annotations

from collections.abc import Sequence

from hour_llava.errors import QuestionError

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
MAX_LETTERS = 20_000


def check_question(question: str, options: Sequence[str] = ()) -> None:
    """Refuse questions that no model can be asked.

    Raises:
        QuestionError: empty or far too long, or options that are no choice; both numbers are named.
    """
    if not question.strip():
        raise QuestionError("the question is empty; write what you want to know")
    if len(question) > MAX_LETTERS:
        raise QuestionError(
            f"the question has {len(question):,} characters, and at most {MAX_LETTERS:,} can be "
            "asked; shorten it"
        )
    if not options:
        return
    if not 2 <= len(options) <= len(LETTERS):
        given = "1 option" if len(options) == 1 else f"{len(options)} options"
        raise QuestionError(f"{given} given; a choice needs 2 to {len(LETTERS)} options")
    if any(not option.strip() for option in options):
        raise QuestionError("an option is empty; write every option out")
    if len({option.strip().casefold() for option in options}) < len(options):
        raise QuestionError("two options are the same; make every option differ")


def refuse_control_words(text: str, words: Sequence[str]) -> None:
    """Refuse the model's own control words: they would be read as structure, not as text.

    Raises:
        QuestionError: names the word.
    """
    found = next((word for word in words if word in text), None)
    if found is not None:
        raise QuestionError(
            f"the question holds {found!r}, a control word of the model; write it in another way"
        )


def with_letters(question: str, options: Sequence[str]) -> str:
    """Write a multiple-choice question as the released model was trained to read it."""
    lines = [f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False)]
    return "\n".join(
        [question, *lines, "Answer with the option's letter from the given choices directly."]
    )
