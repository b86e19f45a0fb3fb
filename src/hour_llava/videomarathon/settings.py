"""The settings of a build: build.toml as one frozen model.

What records depend on reaches a stage through its `parameters`; folders, rates and limits of
concurrency do not, so changing them repeats no work. Secrets are named here, never held: an
endpoint's key is read from the environment variable `api_key_env`.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hour_llava.errors import BuildError
from hour_llava.tasks import TOPICS
from hour_llava.videomarathon.stage import Role

FILE = "build.toml"

ClipPreset = Literal["paper", "fixed"]
BackendChoice = Literal["auto", "truth", "endpoint", "embedded"]

_WINDOWS_MS: Mapping[str, tuple[int, int]] = {"paper": (30_000, 20_000), "fixed": (30_000, 30_000)}
_Share = Annotated[float, Field(ge=0, le=1)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EndpointSettings(_Frozen):
    """One OpenAI-compatible endpoint and the model to call there; prices override prices.toml."""

    base_url: str
    model: str
    api_key_env: str | None = None
    max_concurrency: Annotated[int, Field(ge=1, le=4096)] = 8
    requests_per_minute: Annotated[float, Field(gt=0)] | None = None
    timeout_seconds: Annotated[float, Field(gt=0)] = 120
    max_tokens: Annotated[int, Field(ge=1)] = 2048
    temperature: Annotated[float, Field(ge=0)] = 0.2
    seed: int | None = 0
    images: bool = False
    usd_per_million_input: Annotated[float, Field(ge=0)] | None = None
    usd_per_million_output: Annotated[float, Field(ge=0)] | None = None
    extra_body: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _holds_no_key(self) -> Self:
        if not self.base_url.startswith(("http://", "https://")):
            raise ValueError(f"base_url {self.base_url!r} must begin with http:// or https://")
        if "@" in self.base_url.split("/")[2]:
            raise ValueError("base_url holds no name and key; name a variable in api_key_env")
        return self

    def sampling(self) -> dict[str, Any]:
        """Return what an answer depends on: the model and how it is asked, not where it runs."""
        names = {"model", "max_tokens", "temperature", "seed", "extra_body"}
        return self.model_dump(include=names)


class Endpoints(_Frozen):
    """Who is called in which role; judge and blind are `llm` where they are not given."""

    captioner: EndpointSettings | None = None
    llm: EndpointSettings | None = None
    judge: EndpointSettings | None = None
    blind: EndpointSettings | None = None

    def of(self, role: Role) -> EndpointSettings | None:
        """Return the endpoint of a role, or None."""
        own: EndpointSettings | None = getattr(self, role)
        return self.llm if own is None and role in ("judge", "blind") else own

    def by_role(self) -> dict[Role, EndpointSettings]:
        """Return every role that somebody serves."""
        roles: tuple[Role, ...] = ("captioner", "llm", "judge", "blind")
        return {role: found for role in roles if (found := self.of(role)) is not None}


class CheckSettings(_Frozen):
    """Which of the costly rules run: a judge model, and models that answer without the video."""

    judge: bool = False
    blind_models: Annotated[int, Field(ge=0, le=2)] = 1
    thin_to_topic_mix: bool = False


class Splits(_Frozen):
    """Shares of videos in a release."""

    train: _Share = 0.9
    validation: _Share = 0.05
    test: _Share = 0.05

    @model_validator(mode="after")
    def _add_up(self) -> Self:
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"train, validation and test add up to {total:g}, not 1")
        return self


class BuildSettings(_Frozen):
    """All settings of a build.

    Args:
        source: The folder of videos; relative ones are seen from the build folder.
        name: Of the release.
        data_source: Written into every row: which collection the videos come from.
        licence: Of the videos; pixels are exported only where it allows that.
        backend: Who describes a video; `auto`: its truth file, else the endpoint, else `embedded`.
        clip_preset: `paper` (30 s every 20 s) or `fixed` (30 s every 30 s).
        min_minutes: Shorter videos are set aside.
        max_minutes: Longer ones too.
        min_events: Videos with fewer events are set aside.
        qa_per_task: Questions asked for a task, topic and format.
        frame_side: Longest side, in pixels, of the pictures that the captioner sees.
        language: Of captions and questions.
        seed: Of everything drawn.
        topic_mix: Target shares of topics; empty is the paper's.
    """

    source: str
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")] = "videomarathon"
    data_source: str = "local"
    licence: str | None = None
    backend: BackendChoice = "auto"
    clip_preset: ClipPreset = "paper"
    min_minutes: Annotated[float, Field(ge=0)] = 3.0
    max_minutes: Annotated[float, Field(gt=0)] = 60.0
    min_events: Annotated[int, Field(ge=1)] = 3
    qa_per_task: Annotated[int, Field(ge=1, le=20)] = 3
    frame_side: Annotated[int, Field(ge=64, le=4096)] = 512
    language: str = "en"
    seed: int = 0
    topic_mix: dict[str, _Share] = Field(default_factory=dict)
    splits: Splits = Splits()
    checks: CheckSettings = CheckSettings()
    endpoints: Endpoints = Endpoints()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.max_minutes < self.min_minutes:
            raise ValueError(f"max_minutes {self.max_minutes:g} < min_minutes {self.min_minutes:g}")
        unknown = sorted(set(self.topic_mix) - set(TOPICS))
        if unknown:
            raise ValueError(f"topic_mix: no topic {unknown[0]!r}; they are {', '.join(TOPICS)}")
        missing = [role for role in ("captioner", "llm") if self.endpoints.of(role) is None]
        if self.backend == "endpoint" and missing:
            raise ValueError(f'backend = "endpoint" needs [endpoints.{missing[0]}]')
        if len(missing) == 1:
            raise ValueError(f"[endpoints.{missing[0]}] is missing: give both or none")
        return self

    @property
    def window_ms(self) -> int:
        """Return the length of a clip."""
        return _WINDOWS_MS[self.clip_preset][0]

    @property
    def stride_ms(self) -> int:
        """Return the time from a clip's start to the next one's."""
        return _WINDOWS_MS[self.clip_preset][1]

    @property
    def has_endpoint(self) -> bool:
        """Say whether models are there to caption and to write."""
        return self.endpoints.captioner is not None and self.endpoints.llm is not None


def read_settings(folder: Path) -> BuildSettings:
    """Read the build.toml of a build folder.

    Raises:
        BuildError: there is none, it is no TOML, or a setting is wrong; names the setting.
    """
    file = folder / FILE
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BuildError(
            f"{folder}: no build here ({FILE} is missing); make one with `hour-llava synth init "
            f"{folder} --source VIDEOS`"
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BuildError(f"{file}: cannot be read ({error}); repair it") from error
    return parse_settings(values, place=str(file))


def parse_settings(values: Mapping[str, Any], *, place: str) -> BuildSettings:
    """Check settings; `place` is where they come from, for the message.

    Raises:
        BuildError: names the setting, what is wrong, and what was given.
    """
    try:
        return BuildSettings.model_validate(values)
    except ValidationError as error:
        raise BuildError(f"{place}: {_describe(error)}") from None


def _describe(error: ValidationError) -> str:
    first = error.errors()[0]
    name = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        return _unknown([str(part) for part in first["loc"]])
    message = first["msg"].removeprefix("Value error, ")
    # Our own checks say what was given; pydantic would repeat a whole section, keys and all.
    says_enough = not name or first["type"] in ("missing", "value_error")
    given = "" if says_enough else f", not {first['input']!r}"
    return f"{name + ': ' if name else ''}{message}{given}"


def _unknown(place: list[str]) -> str:
    """Name a setting that there is not, and the one that is most like it."""
    *sections, wrong = place
    models: Mapping[str, type[BaseModel]] = {
        "": BuildSettings,
        "splits": Splits,
        "checks": CheckSettings,
        "endpoints": Endpoints,
    }
    known = list(models.get(".".join(sections), EndpointSettings).model_fields)
    close = difflib.get_close_matches(wrong, known, n=1, cutoff=0.6)
    prefix = "".join(f"{section}." for section in sections)
    hint = f"did you mean {prefix}{close[0]}?" if close else f"known are {', '.join(known)}"
    return f"unknown setting {prefix}{wrong}; {hint}"
