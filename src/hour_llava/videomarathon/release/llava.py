"""The training JSON: a video and up to five of its questions as one conversation.

Source: arXiv 2506.05332, training stage 3 (at most five questions of one video a sample), in the
format of LLaVA; the letter prompt is the one that LLaVA's evaluations use.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from hour_llava.errors import RecordError
from hour_llava.videomarathon.records import QAPair, digest
from hour_llava.videomarathon.release.content import VideoContent
from hour_llava.videomarathon.release.parquet import letter

MAX_QUESTIONS = 5
IMAGE = "<image>"
LETTER_PROMPT = "Answer with the option's letter from the given choices directly."


class Turn(BaseModel):
    """One side of the conversation says something."""

    model_config = ConfigDict(populate_by_name=True, extra="forbid", frozen=True)

    speaker: Annotated[Literal["human", "gpt"], Field(alias="from")]
    value: Annotated[str, Field(min_length=1)]


class Sample(BaseModel):
    """One sample; `note` stands in those of a demonstration only."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    video: str
    data_source: str
    conversations: Annotated[tuple[Turn, ...], Field(min_length=2, max_length=2 * MAX_QUESTIONS)]
    note: str | None = None

    @model_validator(mode="after")
    def _is_a_conversation(self) -> Self:
        speakers = [turn.speaker for turn in self.conversations]
        if speakers != ["human", "gpt"] * (len(speakers) // 2):
            raise ValueError("human and gpt take turns, human first and gpt last")
        with_image = [
            number for number, turn in enumerate(self.conversations) if IMAGE in turn.value
        ]
        if with_image != [0] or not self.conversations[0].value.startswith(f"{IMAGE}\n"):
            raise ValueError(f"{IMAGE} begins the first human turn and stands nowhere else")
        return self


def make_samples(content: VideoContent, note: str | None = None) -> list[Sample]:
    """Group a video's accepted rows, shuffled by the video's id so that tasks are mixed."""
    rows = list(content.accepted)
    random.Random(digest("llava", content.video.id)).shuffle(rows)
    groups = [rows[at : at + MAX_QUESTIONS] for at in range(0, len(rows), MAX_QUESTIONS)]
    return [
        Sample(
            id=f"{content.video.id}:{number:04}",
            video=content.video.path,
            data_source=content.video.source,
            conversations=_turns(group),
            note=note,
        )
        for number, group in enumerate(groups)
    ]


def write_samples(path: Path, samples: Iterable[Sample]) -> int:
    """Write a JSON list, one sample a line, and return their number."""
    lines = [
        json.dumps(sample.model_dump(by_alias=True, exclude_none=True), ensure_ascii=False)
        for sample in samples
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")
    return len(lines)


def read_samples(path: Path) -> list[Sample]:
    """Read and check a training JSON.

    Raises:
        RecordError: it is no such list; names the file and the field.
    """
    try:
        return TypeAdapter(list[Sample]).validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise RecordError(f"{path} is no training JSON: {place}: {first['msg']}") from error


def _turns(rows: Sequence[QAPair]) -> tuple[Turn, ...]:
    turns: list[Turn] = []
    for row in rows:
        question, answer = _words(row)
        head = "" if turns else f"{IMAGE}\n"
        turns.append(Turn.model_validate({"from": "human", "value": head + question}))
        turns.append(Turn.model_validate({"from": "gpt", "value": answer}))
    return tuple(turns)


def _words(row: QAPair) -> tuple[str, str]:
    question = _plain(row.question)
    if row.options is None:
        return question, _plain(row.answer)
    lines = [f"{letter(index)}. {_plain(text)}" for index, text in enumerate(row.options)]
    return "\n".join([question, *lines, LETTER_PROMPT]), letter(row.options.index(row.answer))


def _plain(text: str) -> str:
    """Take out what a loader would obey: a second `<image>` would ask for a second video."""
    return text.replace(IMAGE, "image").replace("<video>", "video")
