"""The truth backend: a MarathonWorld video's truth file stands in for captioner and language model.

Every answer is exact, so that a whole build can be checked end to end. Captions, events and
narratives are `world.captions`; questions are the world's own, in the wordings for training; those
of computed tasks are worked out from the truth, with claims.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from pydantic import BaseModel

from hour_llava.tasks import Task, task_named
from hour_llava.videomarathon.backends.items import item_of, lettered
from hour_llava.videomarathon.backends.truth_check import read_truth
from hour_llava.videomarathon.backends.truth_facts import cite, cite_sides, key_events, truth_facts
from hour_llava.videomarathon.checks.wording import artefact_in
from hour_llava.videomarathon.facts import FactTables
from hour_llava.videomarathon.records import ClipCaption, Event, Evidence, Span
from hour_llava.videomarathon.schemas import (
    ClipAspects,
    EventDescription,
    EventSplit,
    GlobalDescription,
    QAEvidence,
    QAItem,
    QAReply,
)
from hour_llava.videomarathon.stage import Reply, Request
from hour_llava.videomarathon.wording import say_key
from hour_llava.world.captions import describe, events_of, global_narrative, proofs_of
from hour_llava.world.families import TWO_NAMED, families_of
from hour_llava.world.questions import Question, make_questions
from hour_llava.world.timeline import Timeline
from hour_llava.world.wordings import words_of

MODEL = "marathon_world"
KEY_EVENT = "key_event_extraction"


class TruthBackend:
    """Answers for one video from its truth file."""

    def __init__(self, truth_file: Path) -> None:
        """Read the truth file.

        Raises:
            HourLlavaError: it cannot be read.
        """
        self.timeline = read_truth(truth_file)

    async def answer(self, request: Request) -> Reply:
        """Answer a request of any stage up to qa."""
        payload = await asyncio.to_thread(answer_from_truth, self.timeline, request)
        return Reply(payload=payload, backend="truth", model=MODEL)


def answer_from_truth(timeline: Timeline, request: Request) -> BaseModel:
    """Give the payload for a request; its subject names the clip, the event or the tables.

    Raises:
        ValueError: a schema that no truth knows of (judges and blind readers are models).
    """
    schema = request.schema
    if schema is ClipAspects:
        return clip_aspects(timeline, request.subject[0].span)
    if schema is EventSplit:
        return event_split(timeline)
    if schema is EventDescription:
        return EventDescription.model_validate(
            {"description": narrative_at(timeline, request.subject[0].span)}
        )
    if schema is GlobalDescription:
        return GlobalDescription.model_validate({"description": global_narrative(timeline)})
    if schema is QAReply:
        return qa_reply(timeline, request)
    raise ValueError(f"a truth file answers no {schema.__name__}")


def clip_aspects(timeline: Timeline, span: Span) -> ClipAspects:
    """Describe a stretch in six aspects."""
    told = describe(timeline, span.start_ms / 1000, span.end_ms / 1000)
    texts = {aspect: " ".join(s.text for s in statements) for aspect, statements in told.items()}
    return ClipAspects.model_validate(texts)


def event_split(timeline: Timeline) -> EventSplit:
    """Divide the video into its events, to the second."""
    return EventSplit(
        {say_key(_span(e.start_seconds, e.end_seconds)): e.title for e in events_of(timeline)}
    )


def narrative_at(timeline: Timeline, span: Span) -> str:
    """Tell the event that shares most with a stretch."""
    best = max(
        events_of(timeline),
        key=lambda e: _span(e.start_seconds, e.end_seconds).overlap_ms(span),
    )
    return best.narrative


def _span(start_seconds: float, end_seconds: float) -> Span:
    return Span(start_ms=round(start_seconds * 1000), end_ms=round(end_seconds * 1000))


def qa_reply(timeline: Timeline, request: Request) -> QAReply:
    """Ask the questions of a topic, in the request's format."""
    captions = tuple(one for one in request.subject if isinstance(one, ClipCaption))
    events = tuple(one for one in request.subject if isinstance(one, Event))
    tables = FactTables(video=request.video, captions=captions, events=events, step_ms=0)
    format_, count = str(request.values["format"]), int(request.values["num_pairs"])
    items: dict[str, tuple[QAItem, ...]] = {}
    for slug in request.values["tasks"]:
        task = task_named(slug)
        rng = Random(f"{request.video.id} {slug} {format_}")
        if task.is_computed or slug == KEY_EVENT:
            make = key_events if slug == KEY_EVENT else partial(truth_facts, slug)
            facts = make(timeline, tables, count, rng)
            found = [item_of(fact, format_, captions, events, rng) for fact in facts]
            items[task.name] = tuple(item for item in found if item is not None)
        else:
            items[task.name] = _world_items(task, timeline, captions, format_, count)
    return QAReply(items)


def _world_items(
    task: Task, timeline: Timeline, captions: Sequence[ClipCaption], format_: str, count: int
) -> tuple[QAItem, ...]:
    """Take the world's own questions of a task, its families in turn, up to `count`."""
    families = families_of(task.slug)
    questions = make_questions(
        timeline, timeline.seed, per_family=2 * count, formats=(format_,), families=families
    )
    by_family = [[q for q in questions if q.family == family] for family in families]
    turns = [q for row in _in_turn(by_family) for q in row]
    # Some wordings list what may be answered: they come last.
    turns.sort(key=lambda q: set(words_of(q.answer)) <= set(words_of(q.question)))
    items: dict[str, QAItem] = {}
    for question in turns:
        item = _world_item(question, timeline, captions)
        if item is not None:
            items.setdefault(_about(question), item)
    return tuple(items.values())[:count]


def _in_turn(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    longest = max((len(row) for row in rows), default=0)
    return [[row[i] for row in rows if i < len(row)] for i in range(longest)]


def _about(question: Question) -> str:
    """Name what is asked, whatever the wording: the same fact twice would be a near-duplicate."""
    spans = [(s.start_seconds, s.end_seconds) for s in question.evidence]
    return f"{question.family} {question.answer} {spans}"


def _world_item(
    question: Question, timeline: Timeline, captions: Sequence[ClipCaption]
) -> QAItem | None:
    """Turn a question of the world into an item; None where a sentence is missing, or unfit."""
    if not question.evidence or artefact_in(question.question):
        return None
    cited: list[QAEvidence] = []
    if question.task == "scene_transition" and len(question.evidence) == 1:
        cut = (question.evidence[0].start_seconds + question.evidence[0].end_seconds) / 2
        cited += [_as_said(e, captions) for e in cite_sides(cut, captions, timeline)]
    for proof in proofs_of(timeline, question) if not cited else ():
        found = next(
            (e for s in proof.statements if (e := cite(s, captions, timeline)) is not None), None
        )
        if found is None:
            return None
        cited.append(_as_said(found, captions))
    return QAItem(
        question=question.question,
        answer=question.answer,
        options=lettered(_options(question)) if question.options else None,
        evidence=tuple(cited),
    )


def _options(question: Question) -> tuple[str, ...]:
    """Offer what the question names, where it names two: other options could be struck unseen."""
    options = question.options or ()
    if question.family not in TWO_NAMED:
        return options
    words = set(words_of(question.question))
    named = tuple(option for option in options if words.issuperset(words_of(option)))
    return named if len(named) == 2 else options


def _as_said(evidence: Evidence, captions: Sequence[ClipCaption]) -> QAEvidence:
    key = next(say_key(c.span) for c in captions if c.clip_id == evidence.clip_id)
    return QAEvidence(
        quote=evidence.quote,
        clip=key,
        start_seconds=evidence.span.start_ms / 1000,
        end_seconds=evidence.span.end_ms / 1000,
    )
