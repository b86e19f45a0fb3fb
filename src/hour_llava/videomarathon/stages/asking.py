"""How stages ask: until an answer has the right structure, and several questions side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import Any, TypeVar

from hour_llava.videomarathon.records import Provenance
from hour_llava.videomarathon.stage import Reply, Request, Tools, UnitError

MAX_ATTEMPTS = 3
"""Answers asked for; as many more each time that `synth retry` was."""
_T = TypeVar("_T")


class StructureError(Exception):
    """An answer fits its schema and still cannot be used; the text says why."""


async def ask_until(
    tools: Tools, request: Request, parse: Callable[[Any], _T], *, version: int
) -> tuple[_T, Provenance]:
    """Ask, read the answer with `parse`, and ask anew while it raises StructureError.

    Answers that do not even fit the schema are the backend's to ask again.

    Args:
        tools: Of the unit.
        request: What to ask; its attempt is counted here.
        parse: Turns the payload into what the stage needs.
        version: The stage's, for the provenance.

    Returns: what `parse` gave, and where it came from, with the keys of all calls.
    Raises:
        UnitError: `MAX_ATTEMPTS` answers in a row could not be used.
    """
    keys: list[str] = []
    problem, num_answers = "", 0
    for attempt in range(MAX_ATTEMPTS * (1 + tools.retries)):
        reply = await tools.ask(replace(request, attempt=attempt))
        keys += [reply.call_key] if reply.call_key else []
        try:
            return parse(reply.payload), provenance(request.stage, version, reply, keys)
        except StructureError as error:
            problem, num_answers = str(error), attempt + 1
            if not keys:  # no model: the same question would get the same answer
                break
    raise UnitError(
        f"{request.stage} {request.unit}: {problem} (answers asked for: {num_answers}); try "
        "`synth retry`, or another model",
        failure="content",
    )


def provenance(stage: str, version: int, reply: Reply, keys: Iterable[str] = ()) -> Provenance:
    """Say where a reply came from."""
    return Provenance(
        stage=stage,
        stage_version=version,
        backend=reply.backend,
        model=reply.model,
        prompt=reply.prompt,
        call_keys=tuple(keys),
    )


async def gather(work: Iterable[Awaitable[_T]]) -> list[_T]:
    """Await side by side; a failure waits for the others, so that no paid call is cut off."""
    results = await asyncio.gather(*work, return_exceptions=True)
    done: list[_T] = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        done.append(result)
    return done
