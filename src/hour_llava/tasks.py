"""The 22 tasks of VideoMarathon: the one table for prompts, checks, statistics, exams and docs.

A task asks about one topic. Short-form answers stand in one short stretch of video; long-form ones
need two pieces of evidence or the whole video. Sources name what an answer is taken from:

    Temporality .. Summary   one of the six aspects of the clips' captions
    events                   the event table: titles, starts, ends, narratives
    global                   the narrative of the whole video
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from hour_llava.errors import HourLlavaError

TOPICS: tuple[str, ...] = ("Temporality", "Spatiality", "Object", "Action", "Scene", "Event")
ASPECTS: tuple[str, ...] = ("Temporality", "Spatiality", "Object", "Action", "Scene", "Summary")
SOURCES: tuple[str, ...] = (*ASPECTS, "events", "global")
FORMATS: tuple[str, ...] = ("oe", "mc")
"""Open-ended and multiple-choice."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One kind of question.

    Args:
        name: as the paper prints it, "Temporal Perception".
        slug: the same for files and columns, "temporal_perception".
        topic: one of `TOPICS`.
        form: "short" or "long".
        definition: what is asked, in one or two sentences; goes into prompts and docs.
        source: where the answer comes from, of `SOURCES`.
        is_computed: the answer is a time, order, duration, gap or existence worked out from tables;
            a language model only words it.
        rule: what an automatic check asks of a row.
        formats: of "oe" and "mc".
    """

    name: str
    slug: str
    topic: str
    form: str
    definition: str
    source: tuple[str, ...]
    is_computed: bool
    rule: str
    formats: tuple[str, ...] = FORMATS

    @property
    def is_long(self) -> bool:
        """Say whether two pieces of evidence, or the whole video, are needed."""
        return self.form == "long"


def _task(
    name: str,
    topic: str,
    form: str,
    source: tuple[str, ...],
    *,
    asks: str,
    rule: str,
    is_computed: bool = False,
    formats: tuple[str, ...] = FORMATS,
) -> Task:
    slug = name.lower().replace(" ", "_")
    return Task(
        name=name,
        slug=slug,
        topic=topic,
        form=form,
        definition=asks,
        source=source,
        is_computed=is_computed,
        rule=rule,
        formats=formats,
    )


TASKS: tuple[Task, ...] = (
    _task(
        "Temporal Perception",
        "Temporality",
        "short",
        ("Temporality",),
        asks="What changes, starts, stops or goes on within one short stretch of the video, and in "
        "which direction or how fast.",
        rule="entailed by the cited clip, not contradicted by its neighbours",
    ),
    _task(
        "Duration Perception",
        "Temporality",
        "long",
        ("events",),
        asks="How long an event or activity lasts from its start to its end.",
        rule="end minus start of one event, within a stride; options at least 25 % apart",
        is_computed=True,
    ),
    _task(
        "Temporal Reasoning",
        "Temporality",
        "long",
        ("events", "Temporality"),
        asks="Why or how events hang together in time: a conclusion that needs the times of two or "
        "more of them and is stated by none.",
        rule="at least two events, the premise's order rechecked, judged",
    ),
    _task(
        "Temporal Gap Estimation",
        "Temporality",
        "long",
        ("events",),
        asks="How much time passes between the end of one event and the start of a later one.",
        rule="start of the later minus end of the earlier event, within a stride; titles unique; "
        "options at least 25 % apart",
        is_computed=True,
    ),
    _task(
        "Temporal Order",
        "Temporality",
        "long",
        ("events",),
        asks="Which of two events comes before or after the other.",
        rule="starts differ by at least a stride; reversing the timeline turns the answer round",
        is_computed=True,
    ),
    _task(
        "Spatial Perception",
        "Spatiality",
        "short",
        ("Spatiality",),
        asks="Where something is, or how two things stand to each other, at one moment.",
        rule="the relation stands in the cited clip and its inverse does not",
    ),
    _task(
        "Spatial Reasoning",
        "Spatiality",
        "long",
        ("Spatiality",),
        asks="How places, distances or relations in space compare or change between two moments of "
        "the video.",
        rule="the relations at both times support the claim, judged",
    ),
    _task(
        "Object Recognition",
        "Object",
        "short",
        ("Object",),
        asks="Which object, person or written sign is to be seen at a moment.",
        rule="the noun is found in the cited clip, the distractors are not",
    ),
    _task(
        "Object Attribute",
        "Object",
        "short",
        ("Object",),
        asks="Which colour, size, form, number or material an object has.",
        rule="noun and attribute are found together in the cited clip, the distractors are not",
    ),
    _task(
        "Object Interaction",
        "Object",
        "short",
        ("Object", "Action"),
        asks="What one object or person does to or with another.",
        rule="subject, verb and object are found in the cited clip, the distractors are not",
    ),
    _task(
        "Object Reasoning",
        "Object",
        "long",
        ("events", "Object"),
        asks="What follows about an object's part, use or sameness from two or more moments of the "
        "video.",
        rule="at least two clips, judged, strict blind test",
    ),
    _task(
        "Object Existence",
        "Object",
        "long",
        ("Object",),
        asks="Whether an object appears anywhere in the video.",
        rule='"no" needs no hit in any clip, synonyms included; yes and no balanced',
        is_computed=True,
    ),
    _task(
        "Object Permanence",
        "Object",
        "long",
        ("Object",),
        asks="What becomes of an object that goes out of sight: whether it is still there or comes "
        "back, when and how.",
        rule="seen, then not seen, then seen again, and it is the same object",
    ),
    _task(
        "Action Recognition",
        "Action",
        "short",
        ("Action",),
        asks="Which action somebody or something performs at a moment.",
        rule="the verb is found in the cited clip, the distractors' verbs are not",
    ),
    _task(
        "Action Localization",
        "Action",
        "long",
        ("Action",),
        asks="When in the video an action takes place.",
        rule="one contiguous run of clips; intersection over union at least 0.5",
        is_computed=True,
    ),
    _task(
        "Action Sequence",
        "Action",
        "long",
        ("Action",),
        asks="In which order several actions are performed.",
        rule="starts differ by at least a stride; reversing the timeline turns the answer round",
        is_computed=True,
    ),
    _task(
        "Action Reasoning",
        "Action",
        "long",
        ("events", "Action"),
        asks="Why an action is done or what it leads to, concluded from two or more moments of the "
        "video.",
        rule="at least two clips, judged, strict blind test",
    ),
    _task(
        "Scene Recognition",
        "Scene",
        "short",
        ("Scene",),
        asks="Where a moment takes place: the place, setting or surroundings.",
        rule="the place stands in the cited clip, the distractors do not",
    ),
    _task(
        "Scene Transition",
        "Scene",
        "long",
        ("Scene",),
        asks="How the setting changes: which scene follows or precedes another, and when.",
        rule="neighbouring clips with different scenes, both sides of the change, in their order",
    ),
    _task(
        "Event Sequence",
        "Event",
        "long",
        ("events",),
        asks="In which order three or more events take place.",
        rule="at least three events, starts at least a stride apart; reversing the timeline turns "
        "the answer round",
        is_computed=True,
    ),
    _task(
        "Key Event Extraction",
        "Event",
        "long",
        ("events", "global"),
        asks="Which event matters most to the video, or is the one that fits a description.",
        rule="maps to exactly one event, which the global narrative names",
    ),
    _task(
        "Overall Summarization",
        "Event",
        "long",
        ("global",),
        asks="What happens in the video as a whole.",
        rule="names at least 80 % of the events, and nothing that no event knows",
        formats=("oe",),
    ),
)
"""In the paper's order."""

_BY_NAME = MappingProxyType({key: task for task in TASKS for key in (task.slug, task.name.lower())})


def task_named(name: str) -> Task:
    """Find a task by its name or slug, whatever the case.

    Raises:
        HourLlavaError: there is none; the message lists all slugs.
    """
    try:
        return _BY_NAME[name.strip().lower()]
    except KeyError:
        known = ", ".join(task.slug for task in TASKS)
        raise HourLlavaError(f"no task {name!r}; the 22 tasks are {known}") from None


def tasks_of_topic(topic: str) -> tuple[Task, ...]:
    """List a topic's tasks in the paper's order.

    Raises:
        HourLlavaError: there is no such topic.
    """
    if topic not in TOPICS:
        raise HourLlavaError(f"no topic {topic!r}; the topics are {', '.join(TOPICS)}")
    return tuple(task for task in TASKS if task.topic == topic)
