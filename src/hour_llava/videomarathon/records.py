"""The records of a build, from a file to a question with its evidence.

    Video -> Clip -> ClipCaption -> Event -> GlobalCaption -> QAPair (Evidence, Claim, Verdict)
                                     SetAside: a video that goes no further, with the reason

Times are integer milliseconds of presentation time, half-open. A record is one JSON line; its
`version` is raised when a field changes its meaning, and a newer one than ours is refused.
Nothing here depends on the clock, the machine or the order of work: equal inputs, equal bytes.
Source: arXiv 2506.05332, VideoMarathon; evidence, claims, verdicts and provenance are ours.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from hour_llava.errors import RecordError

VERSION = 1

Backend = Literal["endpoint", "truth", "embedded", "mock"]
Format = Literal["oe", "mc"]
Form = Literal["short", "long"]
Aspect = Literal["temporality", "spatiality", "object", "action", "scene", "summary"]
Outcome = Literal["pass", "fail", "skip"]
Status = Literal["candidate", "accepted", "rejected", "quarantined"]

DEMONSTRATION_BACKENDS: frozenset[str] = frozenset({"embedded", "mock"})
"""Rows of these are never training data."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Span(_Frozen):
    """A stretch of video in milliseconds, from `start_ms` up to, not including, `end_ms`."""

    start_ms: Annotated[int, Field(ge=0)]
    end_ms: int

    @model_validator(mode="after")
    def _is_ordered(self) -> Self:
        if self.end_ms <= self.start_ms:
            raise ValueError(f"a span ends after its start, not {self.start_ms}-{self.end_ms} ms")
        return self

    @property
    def duration_ms(self) -> int:
        """Return its length."""
        return self.end_ms - self.start_ms

    def overlap_ms(self, other: Span) -> int:
        """Return how long both last together."""
        return max(0, min(self.end_ms, other.end_ms) - max(self.start_ms, other.start_ms))


class Provenance(_Frozen):
    """Who said it: the stage, its backend, and the ledger's keys of the calls paid for it."""

    stage: str
    stage_version: int
    backend: Backend
    model: str | None = None
    prompt: str | None = None
    call_keys: tuple[str, ...] = ()


class Verdict(_Frozen):
    """What one rule says of one row; `detail` names the numbers or words that decided."""

    rule: str
    outcome: Outcome
    detail: str = ""


class _Record(_Frozen):
    version: int = VERSION


class Video(_Record):
    """One file: `id` names its content, `path` where it lies under the build's source folder."""

    kind: Literal["video"] = "video"
    id: str
    path: str
    source: str = "local"
    url: str | None = None
    licence: str | None = None
    duration_ms: int
    width: int
    height: int
    average_fps: float
    has_audio: bool
    content_digest: str
    backend: Backend
    truth_path: str | None = None
    truth_digest: str | None = None
    num_damaged_ms: int = 0


class SetAside(_Record):
    """A file or video that goes no further, and why; it stays in the build's list."""

    kind: Literal["set_aside"] = "set_aside"
    stage: str
    path: str
    video_id: str | None = None
    reason: str
    detail: str


class Clip(_Record):
    """A window of a video."""

    kind: Literal["clip"] = "clip"
    id: str
    video_id: str
    index: int
    span: Span


class Aspects(_Frozen):
    """The six things that a clip caption speaks of (arXiv 2506.05332, clip captions)."""

    temporality: str
    spatiality: str
    object: str
    action: str
    scene: str
    summary: str


class ClipCaption(_Record):
    """A clip in words; `verdicts` are those of caption_check, `is_usable` what they come to."""

    kind: Literal["clip_caption"] = "clip_caption"
    clip_id: str
    video_id: str
    span: Span
    aspects: Aspects
    provenance: Provenance
    verdicts: tuple[Verdict, ...] = ()
    is_usable: bool = True


class Event(_Record):
    """A stretch with one theme; its narrative is empty until event_captions has told it."""

    kind: Literal["event"] = "event"
    id: str
    video_id: str
    index: int
    span: Span
    title: str
    clip_ids: tuple[str, ...]
    narrative: str = ""
    provenance: Provenance


class GlobalCaption(_Record):
    """The whole video as one narrative without times."""

    kind: Literal["global_caption"] = "global_caption"
    video_id: str
    text: str
    event_ids: tuple[str, ...]
    provenance: Provenance


class Evidence(_Frozen):
    """Where an answer can be seen: a span, and the words of a caption that say so, verbatim.

    `clip_id` or `event_id` (or neither: the global caption) is the caption that holds the quote.
    An answer that rests on absence ("no") cites nothing.
    """

    span: Span
    quote: str
    clip_id: str | None = None
    event_id: str | None = None
    aspect: Aspect | None = None


class ClaimItem(_Frozen):
    """One thing that a computed answer speaks of, with its place in the tables."""

    label: str
    span: Span
    event_id: str | None = None
    clip_id: str | None = None


class Claim(_Frozen):
    """What a computed answer comes to, so that it can be computed again from the tables.

    duration      value: milliseconds of items[0]
    gap           value: milliseconds from the end of items[0] to the start of items[1]
    order         value: labels joined by " > " in order of start; also all sequences
    localization  value: "start_ms-end_ms" of items[0], one contiguous run of `term`
    existence     value: "yes" or "no": is `term` in any caption of the video
    """

    claim: Literal["duration", "gap", "order", "localization", "existence"]
    value: str
    items: tuple[ClaimItem, ...] = ()
    term: str | None = None


class QAPair(_Record):
    """A question about a video, its answer, its evidence, and what every rule said of it.

    `options` are given for "mc" only, and `answer` is one of them exactly. `reasons` are the rules
    that rejected or changed it. `task` is a slug of `hour_llava.tasks`.
    """

    kind: Literal["qa"] = "qa"
    id: str
    video_id: str
    task: str
    format: Format
    form: Form
    question: str
    answer: str
    options: tuple[str, ...] | None = None
    evidence: tuple[Evidence, ...] = ()
    claim: Claim | None = None
    provenance: Provenance
    status: Status = "candidate"
    verdicts: tuple[Verdict, ...] = ()
    reasons: tuple[str, ...] = ()


Record = Video | SetAside | Clip | ClipCaption | Event | GlobalCaption | QAPair
_ADAPTER: TypeAdapter[Record] = TypeAdapter(Annotated[Record, Field(discriminator="kind")])


def to_json(record: Record) -> str:
    """Write one line, without its end; keys in the fields' order: equal rows, equal bytes."""
    return record.model_dump_json(exclude_none=True)


def from_json(line: str | bytes) -> Record:
    """Read what `to_json` wrote.

    Raises:
        RecordError: the line is no record, or of a newer version; names the field.
    """
    try:
        record = _ADAPTER.validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the line"
        raise RecordError(f"not a record: {place}: {first['msg']}; run `synth check`") from error
    if record.version > VERSION:
        raise RecordError(
            f"a {record.kind} record of version {record.version}; this release reads up to "
            f"{VERSION}: upgrade hour-llava"
        )
    return record


def digest(*parts: str | bytes) -> str:
    """Return 16 hex digits that name the parts; their borders count."""
    sha = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        sha.update(len(data).to_bytes(8, "little") + data)
    return sha.hexdigest()[:16]


def clip_id(video_id: str, span: Span) -> str:
    """Name a clip: video:start_ms-end_ms."""
    return f"{video_id}:{span.start_ms}-{span.end_ms}"


def event_id(video_id: str, index: int) -> str:
    """Name an event: video:e000."""
    return f"{video_id}:e{index:03d}"


def normalise_question(text: str) -> str:
    """Return a question without case, punctuation and doubled spaces: what its id is made of."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(re.sub(r"[^\w\s]", " ", folded).split())


def qa_id(video_id: str, task: str, format_: str, question: str) -> str:
    """Name a question: the video, and a digest of task, format and normalised words."""
    return f"{video_id}:{digest(video_id, task, format_, normalise_question(question))}"


def as_dict(record: Record) -> dict[str, Any]:
    """Return plain JSON values, for tables."""
    return record.model_dump(mode="json")
