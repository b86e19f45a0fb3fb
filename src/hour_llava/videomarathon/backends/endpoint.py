"""The backend that asks a model: fills the prompt, calls, validates."""

from __future__ import annotations

import re
from typing import Any

from hour_llava.videomarathon import prompts
from hour_llava.videomarathon.calls.caller import Caller
from hour_llava.videomarathon.calls.request import CallRequest, CallResult, media_url
from hour_llava.videomarathon.schemas import json_schema
from hour_llava.videomarathon.stage import Reply, Request


class EndpointBackend:
    """Answers requests by calls to OpenAI-compatible endpoints."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def answer(self, request: Request) -> Reply:
        """Return a model's answer, valid by the request's schema.

        Raises:
            UnitError, EndpointError, BudgetError, ResourceError: as `Caller.call`.
        """
        result: CallResult = await self._caller.call(
            to_call(request), validate=request.schema.model_validate
        )
        return Reply(
            payload=request.schema.model_validate(result.parsed),
            backend="mock" if result.is_mock else "endpoint",
            model=result.model,
            prompt=prompts.load(request.prompt).sha,
            call_key=result.key,
        )


def to_call(request: Request) -> CallRequest:
    """Render a stage's request as a call; `plan` counts the tokens of the same."""
    urls = [media_url(image) for image in request.images]
    messages = [
        {"role": role, "content": text}
        for role, text in prompts.fill(request.prompt, request.values)
    ]
    if urls:
        pictures = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
        last = messages[-1]
        content: list[dict[str, Any]] = [*pictures, {"type": "text", "text": last["content"]}]
        messages = [*messages[:-1], {"role": last["role"], "content": content}]
    return CallRequest(
        role=request.role,
        messages=messages,
        media={
            url.removeprefix("media:"): image
            for url, image in zip(urls, request.images, strict=True)
        },
        schema=json_schema(request.schema),
        schema_name=re.sub(r"\W", "", request.schema.__name__) or "Answer",
        attempt=request.attempt,
        stage=request.stage,
        unit=request.unit,
    )
