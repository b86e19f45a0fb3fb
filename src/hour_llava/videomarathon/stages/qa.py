"""qa: questions of one topic in one format, with their evidence.

    computed tasks   facts are worked out from the tables and numbered; a model puts them into words
                     and never gives the answer. What it leaves out is worded by template
    other tasks      a model writes question, answer, options and quotes from the topic's captions
    truth, embedded  know what they say: their answers, claims and evidence are taken as they are
    overall summary  needs no call: the narrative of the whole video is the answer

Source: arXiv 2506.05332, questions by topic. Facts, evidence and claims are ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any, cast

from hour_llava.tasks import TOPICS, Task, task_named, tasks_of_topic
from hour_llava.videomarathon.facts import Fact, FactTables, cite, facts_for
from hour_llava.videomarathon.prompts import load_examples
from hour_llava.videomarathon.records import (
    Claim,
    Event,
    Evidence,
    Form,
    Format,
    GlobalCaption,
    Provenance,
    QAPair,
    Record,
    digest,
    qa_id,
)
from hour_llava.videomarathon.schemas import QAItem, QAReply
from hour_llava.videomarathon.stage import Request, Stage, Tools, Unit
from hour_llava.videomarathon.stages.asking import StructureError, ask_until
from hour_llava.videomarathon.stages.grounding import Sources, read_options, resolve
from hour_llava.videomarathon.stages.inputs import (
    MODEL_BACKENDS,
    aspect_lines,
    calls,
    captions_of,
    event_lines,
    events_of,
    global_caption_of,
    video_of,
)
from hour_llava.videomarathon.wording import say_key, say_language

_VERSION = 4
SUMMARY = "overall_summarization"
_SUMMARY_QUESTIONS = (
    "What happens in the video as a whole?",
    "Summarise the whole video from beginning to end.",
    "What is the video about, and how does it go from its beginning to its end?",
)
_MAX_SUMMARY_EVIDENCE = 12
_PROMPTS: Mapping[str, str] = {"oe": "qa_open_ended", "mc": "qa_multiple_choice"}


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A row before it has a name and a provenance."""

    task: Task
    question: str
    answer: str
    options: tuple[str, ...] | None
    evidence: tuple[Evidence, ...]
    claim: Claim | None


@dataclass(frozen=True, kw_only=True)
class Topic:
    """What one unit asks about: a topic, in one format, of one video."""

    name: str
    format: Format
    tasks: tuple[Task, ...]
    sources: Sources
    global_caption: GlobalCaption
    facts: Mapping[str, Fact]
    num_pairs: int
    language: str

    @property
    def is_modelled(self) -> bool:
        """Say whether a model answers, whose times, claims and options are not simply believed."""
        return self.sources.video.backend in MODEL_BACKENDS


def topic_of(unit: Unit, parameters: Mapping[str, Any]) -> Topic:
    """Read a unit `<video>:<topic>:<oe|mc>` and work out its facts."""
    _, slug, format_ = unit.id.rsplit(":", 2)
    name = next(topic for topic in TOPICS if topic.lower() == slug)
    video = video_of(unit)
    captions, events = tuple(captions_of(unit)), tuple(events_of(unit, "event_captions"))
    tasks = tuple(t for t in tasks_of_topic(name) if format_ in t.formats and t.slug != SUMMARY)
    tables = FactTables(
        video=video, captions=captions, events=events, step_ms=parameters["stride_ms"]
    )
    facts: list[Fact] = []
    for task in tasks:
        if task.is_computed and video.backend in MODEL_BACKENDS:
            rng = Random(f"{video.id} {task.slug} {format_}")
            found = facts_for(task.slug, tables, parameters["num_pairs"], rng)
            facts += [fact for fact in found if fact.wrong or format_ == "oe"]
    return Topic(
        name=name,
        format=cast(Format, format_),
        tasks=tasks,
        sources=Sources(video=video, captions=captions, events=events, aspect=slug),
        global_caption=global_caption_of(unit),
        facts={f"F{number}": fact for number, fact in enumerate(facts, start=1)},
        num_pairs=parameters["num_pairs"],
        language=parameters["language"],
    )


def request_for(topic: Topic, unit_id: str) -> Request:
    """Ask for a topic's questions."""
    sources = topic.sources
    return Request(
        stage="qa",
        unit=unit_id,
        role="llm",
        video=sources.video,
        prompt=_PROMPTS[topic.format],
        values={
            "topic": topic.name,
            "format": topic.format,
            "tasks": tuple(task.slug for task in topic.tasks),
            "subtasks": "\n".join(_describe(task) for task in topic.tasks),
            "examples": "\n".join(_example(task, topic.format) for task in topic.tasks),
            "global_caption": topic.global_caption.text,
            "captions": event_lines(sources.events)
            if topic.name == "Event"
            else aspect_lines(sources.captions, topic.name.lower()),
            "tables": _tables(topic),
            "num_pairs": topic.num_pairs,
            "language": say_language(topic.language),
        },
        schema=QAReply,
        subject=(*sources.captions, *sources.events, topic.global_caption),
    )


def _describe(task: Task) -> str:
    from_facts = " (from facts)" if task.is_computed else ""
    length = "needs two or more moments far apart" if task.is_long else "one moment"
    return f"- {task.name}{from_facts}: {task.definition} ({length})"


def _example(task: Task, format_: Format) -> str:
    example = load_examples()[0][task.slug]
    text = f"- {task.name}: {example.question}"
    if format_ == "mc":
        letters = "ABCD"
        # The right one in another place for each task, so that no letter is learned from them.
        place = len(task.slug) % len(example.options)
        options = [*example.options[1:]]
        options.insert(place, example.options[0])
        listed = " ".join(f"{letters[i]}. {option}" for i, option in enumerate(options))
        return f"{text} {listed} -> {letters[place]}"
    return f"{text} -> {example.answer}"


def _tables(topic: Topic) -> str:
    parts: list[str] = []
    if topic.name != "Event" and any("events" in task.source for task in topic.tasks):
        events = "\n".join(f"[{say_key(e.span)}] {e.title}" for e in topic.sources.events)
        parts.append(f"Events in the order of time, by their titles:\n{events}")
    lines = [
        f"{key} ({task_named(fact.task).name}): to be asked: {fact.question} "
        f"The answer: {fact.answer}"
        for key, fact in topic.facts.items()
    ]
    if lines:
        parts.append("Facts that are worked out already:\n" + "\n".join(lines))
    return "\n\n".join(parts)


def read_reply(reply: QAReply, topic: Topic) -> list[Draft]:
    """Turn a reply into drafts, up to `num_pairs` a task.

    Raises:
        StructureError: a task is missing, or none of its pairs can be read.
    """
    by_slug = {_slug(name): items for name, items in reply.root.items()}
    drafts: list[Draft] = []
    for task in topic.tasks:
        items = by_slug.get(task.slug)
        if topic.is_modelled and task.is_computed:
            drafts += _from_facts(task, items or (), topic)
            continue
        if items is None:
            if topic.is_modelled:
                raise StructureError(f'the answer lacks "{task.name}"')
            continue
        drafts += _from_items(task, items, topic)
    return drafts


def _slug(name: str) -> str:
    return "_".join(name.lower().replace("-", " ").replace("(from facts)", "").split())


def _from_items(task: Task, items: Sequence[QAItem], topic: Topic) -> list[Draft]:
    drafts: list[Draft] = []
    problem: StructureError | None = None
    for item in items:
        try:
            drafts.append(_from_item(task, item, topic))
        except StructureError as error:
            problem = error
    if problem is not None and not (drafts and topic.is_modelled):
        raise StructureError(f"{task.name}: {problem}")
    return drafts[: topic.num_pairs]


def _from_item(task: Task, item: QAItem, topic: Topic) -> Draft:
    options, answer = None, item.answer
    if topic.format == "mc":
        options, answer = read_options(item.options, item.answer)
    return Draft(
        task=task,
        question=item.question,
        answer=answer,
        options=options,
        evidence=resolve(item.evidence, topic.sources),
        claim=None if topic.is_modelled else item.claim,
    )


def _from_facts(task: Task, items: Sequence[QAItem], topic: Topic) -> list[Draft]:
    """Take a model's words where they ask for their fact; else the fact's own."""
    words: dict[str, str] = {}
    for item in items:
        key = (item.fact or "").strip().upper()
        fact = topic.facts.get(key)
        if fact is not None and fact.task == task.slug and fact.is_asked_by(item.question):
            words.setdefault(key, item.question)
    return [
        Draft(
            task=task,
            question=words.get(key, fact.question),
            answer=fact.answer,
            options=place_options(fact, topic) if topic.format == "mc" else None,
            evidence=fact.evidence,
            claim=fact.claim,
        )
        for key, fact in topic.facts.items()
        if fact.task == task.slug
    ]


def place_options(fact: Fact, topic: Topic) -> tuple[str, ...]:
    """Put the right option among the wrong ones, where a digest says; `balance` moves it later."""
    seed = digest(topic.sources.video.id, fact.question)
    options = Random(seed).sample([*fact.wrong, fact.answer], len(fact.wrong) + 1)
    return tuple(options)


def _summarise(topic: Topic) -> Draft:
    events = topic.sources.events
    step = max(1, -(-len(events) // _MAX_SUMMARY_EVIDENCE))
    choice = int(topic.sources.video.id, 16) % len(_SUMMARY_QUESTIONS)
    return Draft(
        task=task_named(SUMMARY),
        question=_SUMMARY_QUESTIONS[choice],
        answer=topic.global_caption.text,
        options=None,
        evidence=tuple(_cite_all(events[::step])),
        claim=None,
    )


def _cite_all(events: Sequence[Event]) -> list[Evidence]:
    return [cite(event) for event in events]


def _rows(drafts: Sequence[Draft], topic: Topic, source: Provenance) -> list[QAPair]:
    """Name the drafts; of two with the same words the first stays."""
    rows: dict[str, QAPair] = {}
    video_id = topic.sources.video.id
    for draft in drafts:
        name = qa_id(video_id, draft.task.slug, topic.format, draft.question)
        row = QAPair(
            id=name,
            video_id=video_id,
            task=draft.task.slug,
            format=topic.format,
            form=cast(Form, draft.task.form),
            question=draft.question,
            answer=draft.answer,
            options=draft.options,
            evidence=draft.evidence,
            claim=draft.claim,
            provenance=source,
        )
        rows.setdefault(name, row)
    return list(rows.values())


def _parameters(settings: Any) -> Mapping[str, Any]:
    return {
        "language": settings.language,
        "num_pairs": settings.qa_per_task,
        "stride_ms": settings.stride_ms,
        "examples": load_examples()[1],
    }


async def _run(unit: Unit, parameters: Mapping[str, Any], tools: Tools) -> list[Record]:
    topic = topic_of(unit, parameters)
    request = request_for(topic, unit.id)
    drafts, source = await ask_until(
        tools, request, partial(read_reply, topic=topic), version=_VERSION
    )
    rows = _rows(drafts, topic, source)
    if topic.name == "Event" and topic.format == "oe":
        told = topic.global_caption.provenance
        summary_source = told.model_copy(update={"stage": "qa", "stage_version": _VERSION})
        rows += _rows([_summarise(topic)], topic, summary_source)
    return list(rows)


STAGE = Stage(
    name="qa",
    version=_VERSION,
    unit="video_topic_format",
    needs=("ingest", "caption_check", "event_captions", "global_caption"),
    parameters=_parameters,
    prompts=tuple(_PROMPTS.values()),
    schemas=(QAReply,),
    roles=("llm",),
    run=_run,
    count_calls=lambda unit, parameters: calls(unit, 1),
)
