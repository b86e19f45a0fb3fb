"""Questions about a timeline, each with its one right answer and the seconds that prove it.

A question is asked only where its answer is unique. Evidence spans are whole seconds: the frames
`start` to `end - 1` show it; next_scene points at two seconds on each side of the change; a shape
that never appears has no evidence (an empty list), for nothing can be pointed at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from hour_llava.errors import HourLlavaError
from hour_llava.schema import FrameSpan
from hour_llava.tasks import FORMATS
from hour_llava.world.facts import Fact, eighth_of, needle_facts
from hour_llava.world.families import (
    ALL_FAMILIES,
    ALTERNATING,
    ANSWERS,
    EIGHTHS,
    FAMILIES,
    LADDER,
    STORY_FAMILIES,
    TASK_OF,
    TWO_NAMED,
    formats_of,
    num_options,
    rungs_within,
)
from hour_llava.world.story_facts import story_facts
from hour_llava.world.timeline import PATIENTS, SCENES, SHAPES, Timeline
from hour_llava.world.wordings import TRAINING, UNSEEN, wordings_of, words_of

__all__ = [
    "ALL_FAMILIES",
    "ANSWERS",
    "EIGHTHS",
    "FAMILIES",
    "FORMATS",
    "STORY_FAMILIES",
    "Fact",
    "Question",
    "ask",
    "eighth_of",
    "facts_of",
    "make_questions",
    "num_options",
    "vocabulary",
]


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question; `options` are given for "mc" only, and `answer` is one of them exactly."""

    id: str
    family: str
    format: str
    question: str
    answer: str
    evidence: tuple[FrameSpan, ...]
    options: tuple[str, ...] | None = None

    @property
    def task(self) -> str:
        """The slug of the task that the family belongs to."""
        return TASK_OF[self.family]

    def to_json(self) -> str:
        """Write one line of questions.jsonl, without the line's end."""
        fields: dict[str, Any] = {
            "id": self.id,
            "task": self.task,
            "family": self.family,
            "format": self.format,
            "question": self.question,
        }
        if self.options is not None:
            fields["options"] = self.options
        spans = [
            {"start_seconds": s.start_seconds, "end_seconds": s.end_seconds} for s in self.evidence
        ]
        return json.dumps(fields | {"answer": self.answer, "evidence": spans})

    @staticmethod
    def from_json(line: str) -> Question:
        """Read what `to_json` wrote.

        Raises:
            HourLlavaError: the line is no question.
        """
        try:
            fields: dict[str, Any] = json.loads(line)
            options = fields.pop("options", None)
            fields.pop("task", None)  # the family says it; older files lack it
            if fields["family"] not in TASK_OF:
                raise KeyError(fields["family"])
            spans = tuple(FrameSpan(**span) for span in fields.pop("evidence"))
            return Question(**fields, evidence=spans, options=tuple(options) if options else None)
        except (json.JSONDecodeError, AttributeError, KeyError, TypeError) as error:
            raise HourLlavaError(f"questions.jsonl: a line is no question ({error!r})") from error


def facts_of(timeline: Timeline, family: str) -> list[Fact]:
    """List all that a family can ask of a video; empty where no answer is unique.

    Raises:
        ValueError: there is no such family; the message lists all.
    """
    if family in FAMILIES:
        return needle_facts(timeline, family)
    if family in STORY_FAMILIES:
        return story_facts(timeline, family)
    raise ValueError(f"no question family {family!r}; families are {', '.join(ALL_FAMILIES)}")


def _options(
    fact: Fact, family: str, timeline: Timeline, position: int, rng: Random
) -> tuple[str, ...]:
    """Draw wrong options, the near ones first, and put the right one at `position`."""
    count = num_options(family)
    if ANSWERS.get(family) is LADDER:
        wrong = _neighbouring_rungs(fact.answer, timeline.duration_seconds, rng)
    else:
        barred = {fact.answer, *fact.barred}
        near = [n for n in dict.fromkeys(fact.near) if n not in barred]
        if family not in TWO_NAMED:  # there the other thing named stays in front
            rng.shuffle(near)
        far = [a for a in ANSWERS.get(family, ()) if a not in barred and a not in near]
        rng.shuffle(far)
        wrong = (near + far)[: count - 1]
    rng.shuffle(wrong)
    return (*wrong[:position], fact.answer, *wrong[position:])


def _neighbouring_rungs(answer: str, duration_seconds: int, rng: Random) -> list[str]:
    """Draw three lengths around the right one, which is as often the shortest as the longest."""
    rungs = rungs_within(2 * duration_seconds)  # else the right one is mostly the longest
    place = rungs.index(answer)
    lows = range(max(0, place - 3), min(place, len(rungs) - 4) + 1)
    low = rng.choice(lows)
    return [rung for rung in rungs[low : low + 4] if rung != answer]


def _word(
    fact: Fact, family: str, wording: str, question_id: str, options: tuple[str, ...] | None
) -> Question:
    return Question(
        id=question_id,
        family=family,
        format="oe" if options is None else "mc",
        question=wording.format(**fact.slots),
        answer=fact.answer,
        evidence=fact.evidence,
        options=options,
    )


def ask(
    timeline: Timeline, family: str, rng: Random, *, format: str = "oe", wordings: str = "train"
) -> Question | None:
    """Draw one question of a family, None where the video has no unique answer for it.

    A summary is never multiple-choice: "mc" gives None.

    Cost: 10 to 250 microseconds, whatever the length.
    """
    facts = facts_of(timeline, family) if format in formats_of(family) else []
    if not facts:
        return None
    fact = rng.choice(facts)
    wording = rng.choice(wordings_of(family, wordings))
    options = None
    if format == "mc":
        options = _options(fact, family, timeline, rng.randrange(num_options(family)), rng)
    return _word(fact, family, wording, f"{family}-{format}", options)


def make_questions(
    timeline: Timeline,
    seed: int,
    *,
    wordings: str = "train",
    per_family: int = 2,
    formats: Sequence[str] = FORMATS,
    families: Sequence[str] = ALL_FAMILIES,
) -> tuple[Question, ...]:
    """Ask `per_family` questions a family and format; the same arguments give the same questions.

    A fact is asked again only when all others of its family were, and then in another wording. The
    right option's place goes round, so that each place is right equally often.

    Args:
        timeline: the truth.
        seed: of facts, wordings and options.
        wordings: "train", "unseen" or "all".
        per_family: how many a family and format, if it has anything to ask.
        formats: of "oe" (open-ended) and "mc" (multiple-choice).
        families: which ones.
    """
    key = f"questions {timeline.seed} {timeline.duration_seconds} {seed} {wordings}"
    questions: list[Question] = []
    for format in formats:
        for family in (f for f in families if format in formats_of(f)):
            rng = Random(f"{key} {format} {family}")
            facts = facts_of(timeline, family)
            if family in ALTERNATING:
                turn = rng.randrange(max(1, len(facts)))
                facts = facts[turn:] + facts[:turn]
            else:
                rng.shuffle(facts)
            ways = list(wordings_of(family, wordings))
            rng.shuffle(ways)
            place = rng.randrange(4)
            for number in range(per_family if facts else 0):
                fact, way = facts[number % len(facts)], ways[number % len(ways)]
                options = None
                if format == "mc":
                    place = (place + 1) % num_options(family)
                    options = _options(fact, family, timeline, place, rng)
                questions.append(_word(fact, family, way, f"{family}-{format}-{number}", options))
    return tuple(questions)


def vocabulary() -> tuple[str, ...]:
    """List every word and mark of all questions and answers, lower-cased and sorted."""
    texts = [w for wordings in (TRAINING, UNSEEN) for ways in wordings.values() for w in ways]
    texts = [re.sub(r"\{\w+\}", " ", text) for text in texts]
    texts += [answer for answers in ANSWERS.values() for answer in answers]
    texts += ["a an , then", *SHAPES, *SCENES, *PATIENTS]
    return tuple(sorted({word for text in texts for word in words_of(text)}))
