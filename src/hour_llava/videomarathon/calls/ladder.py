"""The ladder of ways to ask for JSON, from the strictest an endpoint takes downwards.

    json_schema   the server holds the model to the schema (vLLM, OpenAI)
    json_object   the server holds it to JSON; the schema stands in the prompt (DeepSeek)
    text          nobody holds it; the schema stands in the prompt, the answer in a fenced block

Which step an endpoint takes is found by the first call, alone, and remembered in the ledger.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal, cast, get_args

from hour_llava.videomarathon.calls.ledger import Ledger

Step = Literal["json_schema", "json_object", "text"]
STEPS: tuple[Step, ...] = get_args(Step)

_IN_PROMPT = "\n\nAnswer with one JSON object, and nothing else, that fits this JSON schema:\n"
_FENCED = (
    "\n\nAnswer with one JSON object in a fenced block (```json ... ```), and nothing else, that "
    "fits this JSON schema:\n"
)


class Ladder:
    """Knows each endpoint's step; one a process, over the ledger that outlives it."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._steps: dict[str, Step] = {}
        self._is_known: set[str] = set()
        self._probes: dict[str, asyncio.Lock] = {}

    def step(self, endpoint: str) -> Step:
        """Return the step to ask at: the known one, or the next to be tried."""
        if endpoint not in self._steps:
            kept = self._ledger.step(endpoint)
            known: Step | None = next((step for step in STEPS if step == kept), None)
            self._steps[endpoint] = known or STEPS[0]
            if known:
                self._is_known.add(endpoint)
        return self._steps[endpoint]

    def is_known(self, endpoint: str) -> bool:
        """Say whether the endpoint has answered at its step."""
        self.step(endpoint)
        return endpoint in self._is_known

    @asynccontextmanager
    async def asking(self, endpoint: str) -> AsyncGenerator[None]:
        """Let the first call of an endpoint go alone, so that its refusals are not multiplied."""
        if not self.is_known(endpoint):
            async with self._probes.setdefault(endpoint, asyncio.Lock()):
                if endpoint not in self._is_known:
                    yield
                    return
        yield

    async def confirm(self, endpoint: str, step: Step) -> None:
        """Remember that an endpoint has answered at a step."""
        if endpoint not in self._is_known and step == self.step(endpoint):
            self._is_known.add(endpoint)
            await self._ledger.remember_step(endpoint, step)

    async def step_down(self, endpoint: str, refused: Step) -> bool:
        """Leave a step that was refused; False where it was the last one."""
        if refused == STEPS[-1]:
            return False
        if self.step(endpoint) == refused:  # else another call has stepped down already
            self._steps[endpoint] = next_step(refused)
            if endpoint in self._is_known:
                await self._ledger.remember_step(endpoint, self._steps[endpoint])
        return True


def next_step(step: Step) -> Step:
    """Return the step below, or the last one."""
    return STEPS[min(STEPS.index(step) + 1, len(STEPS) - 1)]


def dress(
    messages: Sequence[Mapping[str, Any]], schema: Mapping[str, Any], name: str, step: Step
) -> dict[str, Any]:
    """Return the part of a request's body that says what to answer: messages, response_format."""
    if step == "json_schema":
        form = {"name": name, "schema": schema, "strict": is_strict(schema)}
        return {
            "messages": list(messages),
            "response_format": {"type": "json_schema", "json_schema": form},
        }
    words = _IN_PROMPT if step == "json_object" else _FENCED
    body: dict[str, Any] = {"messages": _with_text(messages, words + json.dumps(schema))}
    if step == "json_object":
        body["response_format"] = {"type": "json_object"}
    return body


def is_strict(schema: Any) -> bool:
    """Say whether a schema meets what OpenAI's strict mode asks: every object closed and full."""
    if isinstance(schema, list):
        return all(map(is_strict, cast(list[Any], schema)))
    if not isinstance(schema, Mapping):
        return True
    values = cast(Mapping[str, Any], schema)
    if values.get("type") == "object":
        is_closed = values.get("additionalProperties") is False
        if not is_closed or set(values.get("properties", {})) != set(values.get("required", [])):
            return False
    return all(map(is_strict, values.values()))


def _with_text(messages: Sequence[Mapping[str, Any]], text: str) -> list[dict[str, Any]]:
    """Put a text behind the last message's own."""
    *head, last = [dict(message) for message in messages]
    content = last["content"]
    if isinstance(content, str):
        last["content"] = content + text
    else:
        last["content"] = [*content, {"type": "text", "text": text.strip()}]
    return [*head, last]
