"""What a stage is: a name, a unit of work, and one function from its inputs to records.

A stage that needs a model builds `Request`s and awaits `ask`; who answers (an endpoint, a truth
file, measured facts) is the backend's affair, and all of them answer in the request's schema. The
executor reads a unit's inputs, calls `run`, and commits the records: stages know neither paths of
the build, nor processes, nor clocks.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from pydantic import BaseModel

from hour_llava.errors import HourLlavaError
from hour_llava.videomarathon.records import Backend, Record, Video

UnitKind = Literal["file", "video", "clip", "video_topic_format", "build"]
FailureClass = Literal["content", "input", "transient", "budget", "fatal"]
Role = Literal["captioner", "llm", "judge", "blind"]


class UnitError(HourLlavaError):
    """One unit failed for good; the build goes on. `failure` says in which class."""

    def __init__(self, message: str, *, failure: FailureClass) -> None:
        super().__init__(message)
        self.failure: FailureClass = failure


@dataclass(frozen=True, kw_only=True)
class Request:
    """One thing asked of a backend.

    Args:
        stage: The stage that asks.
        unit: Its unit's id: travels as a header for the endpoint's logs, never in the key.
        role: Which of the endpoints.
        video: Whose it is.
        prompt: Name of the prompt file; filled with `values`.
        values: What the prompt's places are filled with, and what other backends look at.
        images: JPEG files' bytes, in order of time.
        schema: The model that the answer is validated by.
        attempt: 0, 1, 2: a re-ask is another call.
        subject: The records the request is about (a clip, events, a row), for backends that
            compute instead of reading the prompt.
    """

    stage: str
    unit: str
    role: Role
    video: Video
    prompt: str
    values: Mapping[str, Any]
    schema: type[BaseModel]
    images: tuple[bytes, ...] = ()
    attempt: int = 0
    subject: tuple[Any, ...] = field(default=())


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An answer, valid by the request's schema, and where it came from."""

    payload: BaseModel
    backend: Backend
    model: str | None = None
    prompt: str | None = None
    call_key: str | None = None


Ask = Callable[[Request], Awaitable[Reply]]


class ClipFrames(Protocol):
    """Gives the frames of a video's clip as JPEG files, one a second, with their times."""

    async def __call__(
        self, video: Video, start_ms: int, end_ms: int
    ) -> Sequence[tuple[int, bytes]]: ...


@dataclass(frozen=True, kw_only=True)
class Tools:
    """What a stage may use besides its inputs."""

    ask: Ask
    frames: ClipFrames
    retries: int = 0
    """How often `synth retry` was asked for: each time three more answers may be asked for."""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One piece of work: its id, and the records of upstream stages that it needs, by stage."""

    id: str
    inputs: Mapping[str, Sequence[Record]]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage's definition.

    Args:
        name: As in the issue: ingest, clips, captions, ...
        version: Raised when the same inputs would give other records.
        unit: What one unit is.
        needs: Upstream stages whose records of the unit's video (or of the whole build) are inputs.
        parameters: Picks, from the build's settings, what the records depend on.
        prompts: Names of the prompt files used: their digests are part of the fingerprint.
        schemas: What replies are validated by: part of the fingerprint as well.
        roles: The endpoints that may be called.
        run: The one function.
        count_calls: Calls of one unit in a fault-free run, from its inputs: for `plan`.
    """

    name: str
    version: int
    unit: UnitKind
    needs: tuple[str, ...]
    parameters: Callable[[Any], Mapping[str, Any]]
    run: Callable[[Unit, Mapping[str, Any], Tools], Awaitable[list[Record]]]
    prompts: tuple[str, ...] = ()
    schemas: tuple[type[BaseModel], ...] = ()
    roles: tuple[Role, ...] = ()
    count_calls: Callable[[Unit, Mapping[str, Any]], int] | None = None
