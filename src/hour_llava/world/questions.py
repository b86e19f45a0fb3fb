"""Questions about a timeline, each with its one right answer and the seconds that prove it.

A question is asked only where its answer is unique. Evidence spans are whole seconds: the frames
`start` to `end - 1` show it; next_scene points at two seconds on each side of the change; a shape
that never appears has no evidence (an empty list), for nothing can be pointed at.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from hour_llava.errors import HourLlavaError
from hour_llava.schema import FrameSpan
from hour_llava.world.timeline import (
    ACTIONS,
    CELLS,
    COLOURS,
    DIGITS,
    SCENES,
    SHAPES,
    Appearance,
    Timeline,
)
from hour_llava.world.wordings import FAMILIES, TRAINING, UNSEEN, wordings_of, words_of

EIGHTHS: tuple[str, ...] = (
    "first eighth",
    "second eighth",
    "third eighth",
    "fourth eighth",
    "fifth eighth",
    "sixth eighth",
    "seventh eighth",
    "last eighth",
)
DURATIONS: tuple[str, ...] = ("1 second", "2 seconds", "3 seconds", "4 seconds")
FORMATS: tuple[str, ...] = ("oe", "mc")

ANSWERS: dict[str, tuple[str, ...]] = {
    "object": SHAPES,
    "colour": COLOURS,
    "digit": DIGITS,
    "scene": SCENES,
    "action": ACTIONS,
    "position": CELLS,
    "existence": ("yes", "no"),
    "order": SHAPES,
    "when": EIGHTHS,
    "next_scene": SCENES,
    "duration": DURATIONS,
}
"""What can be answered a family; multiple choice draws its wrong options from here."""


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

    def to_json(self) -> str:
        """Write one line of questions.jsonl, without the line's end."""
        fields: dict[str, Any] = {
            "id": self.id,
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
            spans = tuple(FrameSpan(**span) for span in fields.pop("evidence"))
            return Question(**fields, evidence=spans, options=tuple(options) if options else None)
        except (json.JSONDecodeError, AttributeError, KeyError, TypeError) as error:
            raise HourLlavaError(f"questions.jsonl: a line is no question ({error!r})") from error


@dataclass(frozen=True, kw_only=True)
class Fact:
    """Something that can be asked: what fills the wording's slots, the answer, the evidence.

    `near` are wrong options to prefer: what the video really shows.
    """

    slots: dict[str, str]
    answer: str
    evidence: tuple[FrameSpan, ...]
    near: tuple[str, ...] = ()


def facts_of(timeline: Timeline, family: str) -> list[Fact]:
    """List all that a family can ask of a video; empty where no answer is unique."""
    flashes = timeline.with_role("flash")
    match family:
        case "object":
            ringed = timeline.with_role("ringed")
            return [Fact(slots={}, answer=str(a.shape), evidence=_spans(a)) for a in ringed]
        case "colour":
            return [_fact(a, str(a.colour)) for a in flashes]
        case "digit":
            digits = timeline.with_role("digit")
            unique = digits if len(digits) == 1 else ()
            return [Fact(slots={}, answer=str(a.digit), evidence=_spans(a)) for a in unique]
        case "scene":
            near = tuple(s.name for s in timeline.scenes)
            return [_fact(a, timeline.scene_at(a.start_seconds).name, near) for a in flashes]
        case "action":
            return [_fact(a, str(a.action)) for a in timeline.with_role("actor")]
        case "position":
            return [_fact(a, a.cell) for a in flashes]
        case "existence":
            return _existence(timeline)
        case "order":
            return [_order(a, b, flashes) for a in flashes for b in flashes if a is not b]
        case "when":
            return [
                _fact(a, eighth_of(a.start_seconds, timeline.duration_seconds)) for a in flashes
            ]
        case "next_scene":
            return _next_scenes(timeline)
        case "duration":
            return [_fact(a, DURATIONS[a.end_seconds - a.start_seconds - 1]) for a in flashes]
        case _:
            raise ValueError(f"no question family {family!r}; families are {', '.join(FAMILIES)}")


def eighth_of(start_seconds: float, duration_seconds: float) -> str:
    """Name the eighth of the video in which something starts."""
    return EIGHTHS[min(max(int(8 * start_seconds / duration_seconds), 0), 7)]


def _span(start_seconds: float, end_seconds: float) -> FrameSpan:
    return FrameSpan(start_seconds=float(start_seconds), end_seconds=float(end_seconds))


def _spans(*appearances: Appearance) -> tuple[FrameSpan, ...]:
    ordered = sorted(appearances, key=lambda a: a.start_seconds)
    return tuple(_span(a.start_seconds, a.end_seconds) for a in ordered)


def _slots(shape: str) -> dict[str, str]:
    article = "an" if shape[0] in "aeiou" else "a"
    return {"shape": shape, "a_shape": f"{article} {shape}"}


def _fact(appearance: Appearance, answer: str, near: tuple[str, ...] = ()) -> Fact:
    assert appearance.shape is not None
    slots = _slots(appearance.shape)
    return Fact(slots=slots, answer=answer, evidence=_spans(appearance), near=near)


def _existence(timeline: Timeline) -> list[Fact]:
    """As many "no" as "yes": the one absent shape is asked as often as the needles together."""
    present = [_fact(a, "yes") for a in timeline.with_role("flash")]
    absent = Fact(slots=_slots(timeline.absent_shape), answer="no", evidence=())
    return [fact for yes in present for fact in (yes, absent)] or [absent]


def _order(a: Appearance, b: Appearance, flashes: Sequence[Appearance]) -> Fact:
    assert a.shape is not None and b.shape is not None
    first = a if a.start_seconds < b.start_seconds else b
    others = tuple(str(f.shape) for f in flashes if f is not first)
    named = (a.shape, b.shape) if first is b else (b.shape, a.shape)
    return Fact(
        slots={"a": a.shape, "b": b.shape},
        answer=str(first.shape),
        evidence=_spans(a, b),
        near=(named[0], *others),
    )


def _next_scenes(timeline: Timeline) -> list[Fact]:
    names = tuple(s.name for s in timeline.scenes)
    return [
        Fact(
            slots={"scene": before.name},
            answer=after.name,
            evidence=(_span(after.start_seconds - 2, after.start_seconds + 2),),
            near=tuple(n for n in names if n != before.name),
        )
        for before, after in zip(timeline.scenes, timeline.scenes[1:], strict=False)
    ]


def _options(fact: Fact, family: str, position: int, rng: Random) -> tuple[str, ...]:
    """Draw wrong options, the near ones first, and put the right one at `position`."""
    barred = {fact.answer, fact.slots.get("scene")}
    near = [n for n in dict.fromkeys(fact.near) if n not in barred]
    if family != "order":  # there the other named shape stays in front
        rng.shuffle(near)
    far = [a for a in ANSWERS[family] if a not in barred and a not in near]
    rng.shuffle(far)
    count = min(4, len(ANSWERS[family]))
    wrong = (near + far)[: count - 1]
    rng.shuffle(wrong)
    return (*wrong[:position], fact.answer, *wrong[position:])


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


def num_options(family: str) -> int:
    """Return how many options a multiple-choice question of a family has."""
    return min(4, len(ANSWERS[family]))


def ask(
    timeline: Timeline, family: str, rng: Random, *, format: str = "oe", wordings: str = "train"
) -> Question | None:
    """Draw one question of a family, None where the video has no unique answer for it.

    Cost: 40 microseconds, whatever the length.
    """
    facts = facts_of(timeline, family)
    if not facts:
        return None
    fact = rng.choice(facts)
    wording = rng.choice(wordings_of(family, wordings))
    options = None
    if format == "mc":
        options = _options(fact, family, rng.randrange(num_options(family)), rng)
    return _word(fact, family, wording, f"{family}-{format}", options)


def make_questions(
    timeline: Timeline,
    seed: int,
    *,
    wordings: str = "train",
    per_family: int = 2,
    formats: Sequence[str] = FORMATS,
    families: Sequence[str] = FAMILIES,
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
        for family in families:
            rng = Random(f"{key} {format} {family}")
            facts = facts_of(timeline, family)
            if family == "existence":  # they alternate yes and no: keep that
                turn = rng.randrange(len(facts))
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
                    options = _options(fact, family, place, rng)
                questions.append(_word(fact, family, way, f"{family}-{format}-{number}", options))
    return tuple(questions)


def vocabulary() -> tuple[str, ...]:
    """List every word and mark of all questions and answers, lower-cased and sorted."""
    texts = [w for wordings in (TRAINING, UNSEEN) for ways in wordings.values() for w in ways]
    slots = ("{shape}", "{a_shape}", "{scene}", "{a}", "{b}")
    for slot in slots:
        texts = [text.replace(slot, " ") for text in texts]
    texts += [answer for answers in ANSWERS.values() for answer in answers]
    texts += ["a", "an", *SHAPES]
    return tuple(sorted({word for text in texts for word in words_of(text)}))
