"""The pipeline: the stages in order, and the digest that names what a stage would do today.

`seal` is not among them: its result is files (`release.seal`), and the runner calls it last.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import json

from pydantic import BaseModel

from hour_llava.videomarathon import prompts, records
from hour_llava.videomarathon.schemas import json_schema
from hour_llava.videomarathon.settings import BuildSettings
from hour_llava.videomarathon.stage import Stage

NAMES: tuple[str, ...] = (
    "ingest",
    "clips",
    "captions",
    "caption_check",
    "events",
    "event_captions",
    "global_caption",
    "qa",
    "verify",
    "dedup",
    "balance",
)
MAY_SET_ASIDE: frozenset[str] = frozenset({"ingest", "events"})
"""Stages whose part may say that a video goes no further."""


@functools.cache
def pipeline() -> tuple[Stage, ...]:
    """Import the stages, in order."""
    return tuple(
        importlib.import_module(f"hour_llava.videomarathon.stages.{name}").STAGE for name in NAMES
    )


def fingerprint(stage: Stage, settings: BuildSettings) -> str:
    """Return 16 hex digits that change when the stage would give other records.

    In it: version, parameters, prompts, reply schemas, models and how they are asked. Not in it:
    folders, addresses, concurrency, the executor, the clock.
    """
    return _digest_of(
        {
            "stage": stage.name,
            "version": stage.version,
            "records": records.VERSION,
            "parameters": dict(stage.parameters(settings)),
            "prompts": [prompts.load(name).sha for name in stage.prompts],
            "schemas": [json_schema(model) for model in stage.schemas],
            "models": _models(stage, settings),
            "frame_side": settings.frame_side if "captioner" in stage.roles else None,
        }
    )


def _models(stage: Stage, settings: BuildSettings) -> list[object]:
    found = [(role, settings.endpoints.of(role)) for role in stage.roles]
    return [(role, one.sampling()) for role, one in found if one is not None]


def _digest_of(values: object) -> str:
    text = json.dumps(values, sort_keys=True, ensure_ascii=False, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value: object) -> object:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else repr(value)
