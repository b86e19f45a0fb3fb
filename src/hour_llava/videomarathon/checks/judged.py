"""What models are asked about a row: what the captions entail, and what is guessed blind.

The judge reads the cited captions and names every option that they entail: exactly one must be, the
answer. The blind test shows the question without the video in four orders of its options; a row
that is answered right in three of them (two, for the tasks tested strictly) needs no video. It
stops as soon as the outcome is certain.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from hour_llava.videomarathon.checks.computed import COMPUTED_TASKS
from hour_llava.videomarathon.checks.options import normalised_option
from hour_llava.videomarathon.checks.rule import Finding, failed, passed
from hour_llava.videomarathon.checks.tables import Tables, aspect_text
from hour_llava.videomarathon.records import QAPair, digest

NUM_ORDERS = 4
OUT_AT, STRICT_OUT_AT = 3, 2
MIN_BLIND_OPTIONS = 3
STRICT_TASKS: frozenset[str] = frozenset({"object_reasoning", "action_reasoning"})


class JudgeReply(BaseModel):
    """Letters of all options that the captions entail, and one sentence of why."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    entailed: tuple[str, ...]
    why: str = ""


class BlindReply(BaseModel):
    """The letter of the option that is guessed without the video."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    answer: str


def is_judged(row: QAPair) -> bool:
    """Say whether a judge can add something: computed answers and whole summaries are checked."""
    return (
        row.task not in COMPUTED_TASKS
        and bool(row.evidence)
        and row.task != "overall_summarization"
    )


def is_blind_tested(row: QAPair) -> bool:
    """Say whether guessing can be told from knowing: two options are guessed right too often."""
    return row.format == "mc" and len(row.options or ()) >= MIN_BLIND_OPTIONS


def lettered(options: Sequence[str]) -> str:
    """Write options a line each, "A. red"."""
    return "\n".join(f"{letter_of(i)}. {option}" for i, option in enumerate(options))


def letter_of(index: int) -> str:
    """Return "A" for 0."""
    return string.ascii_uppercase[index]


def choices_of(row: QAPair) -> tuple[str, ...]:
    """Return what the judge is shown: the options, or the open answer as the only one."""
    return row.options if row.options is not None else (row.answer,)


def cited_captions(row: QAPair, tables: Tables) -> str:
    """Write the cited captions with their seconds, each once, in the order of evidence."""
    lines: list[str] = []
    for evidence in row.evidence:
        span = tables.cited_span(evidence)
        if evidence.clip_id in tables.caption_of:
            text = aspect_text(tables.caption_of[evidence.clip_id or ""])
        else:
            text = tables.cited_text(evidence) or ""
        where = "" if span is None else f"[{span.start_ms // 1000}-{span.end_ms // 1000}s] "
        line = where + " ".join(text.split())
        if line not in lines:
            lines.append(line)
    return "\n".join(lines)


def judge_finding(row: QAPair, reply: JudgeReply) -> Finding:
    """Hold the judge's letters against the answer's."""
    choices = choices_of(row)
    wanted = letter_of(choices.index(row.answer))
    letters = sorted({letter for said in reply.entailed if (letter := _letter(said, choices))})
    if letters == [wanted]:
        return passed(f"only {wanted} is entailed")
    return failed(f"{', '.join(letters) or 'none'} entailed, {wanted} is the answer")


def _letter(said: str, choices: Sequence[str]) -> str | None:
    """Read "B", "(b)", "B. red" or "red"."""
    bare = normalised_option(said)
    for index, choice in enumerate(choices):
        if bare == normalised_option(choice):
            return letter_of(index)
    match = re.match(r"\s*\(?([A-Za-z])(?:[).:\s]|$)", said)
    if match is None or ord(match[1].upper()) - ord("A") >= len(choices):
        return None
    return match[1].upper()


def blind_orders(row: QAPair) -> list[tuple[str, ...]]:
    """Return four orders of the options in which the answer moves through the places."""
    options = sorted(row.options or (), key=lambda option: digest("blind", row.id, option))
    turns = [tuple(options[k:] + options[:k]) for k in range(len(options))]
    turns += [tuple(reversed(turn)) for turn in turns]
    return turns[:NUM_ORDERS]


def is_right_blind(row: QAPair, order: Sequence[str], reply: BlindReply) -> bool:
    """Say whether a guess is the answer."""
    letter = _letter(reply.answer, order)
    return letter is not None and order[ord(letter) - ord("A")] == row.answer


def out_at(row: QAPair) -> int:
    """Return how many right guesses put a row out."""
    return STRICT_OUT_AT if row.task in STRICT_TASKS else OUT_AT


def is_decided(row: QAPair, num_right: int, num_asked: int) -> bool:
    """Say whether no further guess can change the outcome."""
    needed = out_at(row)
    return num_right >= needed or num_right + (NUM_ORDERS - num_asked) < needed


def blind_finding(row: QAPair, num_right: int, num_asked: int) -> Finding:
    """Say what the guesses come to."""
    said = f"right without the video in {num_right} of {num_asked} orders"
    return failed(said) if num_right >= out_at(row) else passed(said)
