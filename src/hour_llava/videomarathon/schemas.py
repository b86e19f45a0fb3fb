"""What a backend answers, validated before a stage sees it: one model for each kind of reply.

The keys are the paper's ("Event-Level Description", "20-50s"), so that an answer of the published
prompts' kind reads here too. Which options, clips and facts an answer may name is the stage's
affair: these models hold what can be said without the video.
Source: arXiv 2506.05332, VideoMarathon's captions, events and questions.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, RootModel, StringConstraints
from pydantic.json_schema import SkipJsonSchema

from hour_llava.videomarathon.records import Aspects, Claim

Said = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class _Reply(BaseModel):
    # Models like to add keys of their own; what was asked for is what counts.
    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class ClipAspects(_Reply):
    """A clip in six aspects."""

    temporality: Said = Field(alias="Temporality")
    spatiality: Said = Field(alias="Spatiality")
    object: Said = Field(alias="Object")
    action: Said = Field(alias="Action")
    scene: Said = Field(alias="Scene")
    summary: Said = Field(alias="Summary")

    def aspects(self) -> Aspects:
        """Return them as the record's part."""
        return Aspects(**self.model_dump(by_alias=False))


class EventSplit(RootModel[dict[str, Said]]):
    """Titles by stretch, `{"0-70s": "title"}`; neighbours may overlap a little."""


class EventDescription(_Reply):
    """The narrative of one event."""

    description: Said = Field(alias="Event-Level Description")


class GlobalDescription(_Reply):
    """The narrative of a whole video."""

    description: Said = Field(alias="Global-Level Description")


class QAEvidence(_Reply):
    """Where an answer is seen: the key of a clip ("20-50s") or an event's title, and its words."""

    quote: Said
    clip: str | None = None
    event: str | None = None
    start_seconds: float | None = None
    end_seconds: float | None = None


class QAItem(_Reply):
    """A question and its answer; `answer` is a letter of `options`, or the option itself.

    `fact` names the numbered fact that a computed answer is taken from. `claim` is given by
    backends that know the truth; no endpoint is shown it, and none is believed.
    """

    question: Said
    answer: Said
    options: dict[str, str] | None = None
    evidence: tuple[QAEvidence, ...] = ()
    fact: str | None = None
    claim: SkipJsonSchema[Claim | None] = None


class QAReply(RootModel[dict[str, tuple[QAItem, ...]]]):
    """Questions by the name of their sub-task; an empty list where the captions carry none."""


def json_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON schema that an endpoint is given; equal models, equal text."""
    return model.model_json_schema(by_alias=True)
