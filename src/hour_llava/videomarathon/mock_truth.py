"""The mock server's model for MarathonWorld videos: it knows their truth files.

Which video and which stretch a request is about stands in its `X-Hour-Llava-Unit` header and in
its prompt. What no truth file knows of is left to `mock_answers`, as are the facts that a prompt
gives: a model only words those.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from hour_llava.errors import HourLlavaError
from hour_llava.tasks import tasks_of_topic
from hour_llava.video import probe
from hour_llava.videomarathon.backends.truth import event_split, narrative_at, qa_reply
from hour_llava.videomarathon.backends.truth_check import read_truth
from hour_llava.videomarathon.mock_answers import Asked, answer
from hour_llava.videomarathon.records import (
    ClipCaption,
    Event,
    Provenance,
    Span,
    Video,
    clip_id,
    digest,
    event_id,
)
from hour_llava.videomarathon.schemas import ClipAspects, QAReply
from hour_llava.videomarathon.stage import Request
from hour_llava.videomarathon.wording import read_key
from hour_llava.world.captions import describe, global_narrative
from hour_llava.world.timeline import Timeline

_SPAN = re.compile(r"from (\d+(?:\.\d+)?) s to (\d+(?:\.\d+)?) s")
_LINE = re.compile(r"^\[(\S+s)\] ([^:\n]*)", re.MULTILINE)
_SOURCE = Provenance(stage="mock", stage_version=1, backend="mock")


class TruthAnswers:
    """Answers requests about the videos of a folder that have truth files beside them."""

    def __init__(self, folder: Path) -> None:
        """Remember where to look.

        Raises:
            HourLlavaError: no video with a truth file is there.
        """
        self._folder = folder
        if not self._timelines:
            raise HourLlavaError(
                f"--truth {folder}: no video with a truth file (name.truth.json, or truth.json "
                "beside video.mp4); make one with `hour-llava world make`"
            )

    def answer(self, asked: Asked) -> str | None:
        """Return the JSON text of an answer; None where no truth file knows it."""
        video_id = asked.unit.partition(":")[0]
        timeline = self._timelines.get(video_id)
        value = None if timeline is None else _value(timeline, asked, video_id)
        return None if value is None else json.dumps(value, ensure_ascii=False)

    @cached_property
    def _timelines(self) -> Mapping[str, Timeline]:
        """Find the videos by their ids, which are digests of their content."""
        found: dict[str, Timeline] = {}
        for truth in sorted(self._folder.rglob("*truth.json")):
            stem = truth.name.removesuffix(".truth.json")
            names = ["video"] if truth.name == "truth.json" else [stem]
            for video in truth.parent.iterdir():
                if video.stem in names and video != truth and video.suffix != ".json":
                    found[digest(probe(video).content_digest)] = read_truth(truth)
        return found


def _value(timeline: Timeline, asked: Asked, video_id: str) -> Any:
    properties: Mapping[str, Any] = asked.schema.get("properties", {})
    title = asked.schema.get("title")
    if "Temporality" in properties:
        span = read_span(asked.unit.partition(":")[2])
        return span and _aspects(timeline, span).model_dump(by_alias=True)
    if title == "EventSplit":
        return event_split(timeline).model_dump()
    if "Event-Level Description" in properties:
        times = _SPAN.search(asked.text)
        span = times and _span(float(times[1]) * 1000, float(times[2]) * 1000)
        return span and {"Event-Level Description": narrative_at(timeline, span)}
    if "Global-Level Description" in properties:
        return {"Global-Level Description": global_narrative(timeline)}
    if title == "QAReply":
        return _questions(timeline, asked, video_id)
    return None


def _aspects(timeline: Timeline, span: Span) -> ClipAspects:
    """Describe a stretch; of sentences of one make the first stays, for a model is not so even."""
    told = describe(timeline, span.start_ms / 1000, span.end_ms / 1000)
    return ClipAspects.model_validate(
        {aspect: _varied([s.text for s in statements]) for aspect, statements in told.items()}
    )


def _varied(sentences: Sequence[str]) -> str:
    kept: list[str] = []
    used: set[tuple[str, ...]] = set()
    for sentence in sentences:
        words = sentence.casefold().split()
        grams = set(zip(words, words[1:], words[2:], words[3:], strict=False))
        if not grams & used:
            kept.append(sentence)
            used |= grams
    return " ".join(kept)


def _questions(timeline: Timeline, asked: Asked, video_id: str) -> dict[str, Any]:
    """Take the world's questions, and the prompt's own facts for the computed tasks."""
    _, topic, format_ = asked.unit.rsplit(":", 2)
    tasks = [t for t in tasks_of_topic(topic.capitalize()) if format_ in t.formats]
    wanted = re.search(r"exactly (\d+) ", asked.text)
    request = Request(
        stage="qa",
        unit=asked.unit,
        role="llm",
        video=_video(timeline, video_id),
        prompt="",
        values={
            "format": format_,
            "num_pairs": int(wanted[1]) if wanted else 3,
            "tasks": tuple(task.slug for task in tasks if not task.is_computed),
        },
        schema=QAReply,
        subject=_subject(timeline, asked.text, video_id),
    )
    known = qa_reply(timeline, request).model_dump(exclude_none=True, exclude={"claim"})
    worded = json.loads(answer(asked))
    computed = {task.name for task in tasks if task.is_computed}
    return {name: worded.get(name, []) for name in computed} | known


def _subject(timeline: Timeline, text: str, video_id: str) -> tuple[Any, ...]:
    """Build the captions and events again from the lines of the prompt."""
    subject: list[Any] = []
    notes = text.partition("Notes under the topic")[2]
    captions, _, events = notes.partition("Events in the order of time, by their titles")
    for key, _ in _LINE.findall(captions):
        if (span := read_span(key.removesuffix("s"), seconds=True)) is not None:
            subject.append(
                ClipCaption(
                    clip_id=clip_id(video_id, span),
                    video_id=video_id,
                    span=span,
                    aspects=_aspects(timeline, span).aspects(),
                    provenance=_SOURCE,
                )
            )
    for index, (key, title) in enumerate(_LINE.findall(events)):
        if (span := read_span(key.removesuffix("s"), seconds=True)) is not None:
            subject.append(
                Event(
                    id=event_id(video_id, index),
                    video_id=video_id,
                    index=index,
                    span=span,
                    title=title.strip(),
                    clip_ids=(),
                    provenance=_SOURCE,
                )
            )
    return tuple(subject)


def read_span(text: str, *, seconds: bool = False) -> Span | None:
    """Read "20000-50000", the end of a clip's id, or "20-50" seconds."""
    if seconds:
        times = read_key(f"{text}s")
        return times and _span(*times)
    start, _, end = text.partition("-")
    return _span(int(start), int(end)) if start.isdigit() and end.isdigit() else None


def _span(start_ms: float, end_ms: float) -> Span | None:
    return Span(start_ms=round(start_ms), end_ms=round(end_ms)) if start_ms < end_ms else None


def _video(timeline: Timeline, video_id: str) -> Video:
    return Video(
        id=video_id,
        path="video.mp4",
        duration_ms=timeline.duration_seconds * 1000,
        width=1,
        height=1,
        average_fps=1.0,
        has_audio=False,
        content_digest=video_id,
        backend="mock",
    )
