"""`hour-llava synth doctor`: try a build's endpoints before a run spends hours and money."""

from __future__ import annotations

import asyncio
import io
import json as json_format
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import tyro

from hour_llava.commands.doctor import Check, Status
from hour_llava.commands.terminal import printable
from hour_llava.errors import HourLlavaError
from hour_llava.videomarathon.calls.budget import Budget, BudgetCaps
from hour_llava.videomarathon.calls.caller import Caller, RetryPolicy
from hour_llava.videomarathon.calls.client import Client, TryError
from hour_llava.videomarathon.calls.ledger import Ledger
from hour_llava.videomarathon.calls.limits import LimitPolicy, Limits, endpoint_id
from hour_llava.videomarathon.calls.prices import price_of
from hour_llava.videomarathon.calls.request import CallRequest, CallResult, media_url
from hour_llava.videomarathon.settings import EndpointSettings, read_settings
from hour_llava.videomarathon.stage import Role

_MARKS = {"ok": "ok  ", "note": "note", "fail": "FAIL"}
_SCHEMA: Mapping[str, Any] = {
    "title": "Colour",
    "type": "object",
    "properties": {"colour": {"type": "string"}},
    "required": ["colour"],
    "additionalProperties": False,
}


def doctor(
    build: Annotated[Path, tyro.conf.arg(metavar="BUILD_DIR")], /, *, json: bool = False
) -> int:
    """Try every endpoint of a build: key, reach, model, an answer, pictures, price.

    Each endpoint gets one or two tiny calls (some hundred tokens), which are not kept. Exit 1 when
    an endpoint cannot serve.

    Args:
        build: the build's folder
        json: print one JSON object
    """
    roles = read_settings(build).endpoints.by_role()
    checks: list[Check] = []
    if not roles:
        detail = "none; videos are described by their truth files or by measured facts"
        checks.append(Check(name="endpoints", status="note", detail=detail))
    for endpoint, names in _distinct(roles):
        checks += asyncio.run(_try_endpoint(endpoint, names))
    if json:
        is_fine = all(check.status != "fail" for check in checks)
        print(json_format.dumps({"ok": is_fine, "checks": [asdict(c) for c in checks]}))
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            print(f"{_MARKS[check.status]}  {check.name:<{width}}  {printable(check.detail)}")
    return 1 if any(check.status == "fail" for check in checks) else 0


def _distinct(
    roles: Mapping[Role, EndpointSettings],
) -> list[tuple[EndpointSettings, list[Role]]]:
    """Return each endpoint once, with the roles that it plays."""
    found: dict[str, tuple[EndpointSettings, list[Role]]] = {}
    for role, endpoint in roles.items():
        found.setdefault(endpoint.model_dump_json(), (endpoint, []))[1].append(role)
    return list(found.values())


async def _try_endpoint(endpoint: EndpointSettings, roles: list[Role]) -> list[Check]:
    who = ", ".join(roles)
    checks = [Check(name=who, status="note", detail=f"tried: {endpoint_id(endpoint)}")]

    def add(what: str, status: Status, detail: str) -> None:
        checks.append(Check(name=f"{who}: {what}", status=status, detail=detail))

    try:
        client = Client(endpoint)
    except HourLlavaError as error:
        add("key", "fail", str(error))
        return checks
    add("key", *_key(endpoint))
    try:
        add("models", *await _models(client, endpoint))
    finally:
        await client.close()
    status, detail = await _answer(endpoint, roles[0], picture=None)
    add("answer", status, detail)
    if "captioner" in roles and status == "ok":
        add("pictures", *await _answer(endpoint, "captioner", picture=_picture()))
    add("price", *_price(endpoint))
    return checks


def _key(endpoint: EndpointSettings) -> tuple[Status, str]:
    if endpoint.api_key_env is None:
        return "note", "none is sent; set api_key_env if the server wants one"
    return "ok", f"taken from {endpoint.api_key_env}"


async def _models(client: Client, endpoint: EndpointSettings) -> tuple[Status, str]:
    try:
        models = await client.models()
    except TryError as error:
        return ("fail" if error.kind == "fatal" and error.status != 404 else "note"), (
            f"no list of models ({error})"
        )
    if endpoint.model in models:
        return "ok", f"{endpoint.model} is one of {len(models)}"
    listed = ", ".join(models[:8]) or "none"
    return "note", f"{endpoint.model} is not in the list: {listed}"


async def _answer(
    endpoint: EndpointSettings, role: Role, *, picture: bytes | None
) -> tuple[Status, str]:
    """Ask one tiny question the way a run does; its ledger is thrown away."""
    with tempfile.TemporaryDirectory(prefix="hour-llava-") as folder:
        ledger = Ledger.open(Path(folder))
        policy = LimitPolicy(max_concurrency=1, open_seconds=0.5, max_openings=1)
        caller = Caller(
            {role: endpoint},
            ledger,
            Limits({endpoint_id(endpoint): policy}),
            Budget(BudgetCaps()),
            retry=RetryPolicy(tries=2, base_seconds=0.5),
        )
        try:
            result = await caller.call(_question(role, picture))
            step = ledger.step(endpoint_id(endpoint))
        except HourLlavaError as error:
            return "fail", str(error)
        finally:
            await caller.close()
            ledger.close()
    return "ok", _describe(result, str(step), picture is not None)


def _describe(result: CallResult, step: str, is_seen: bool) -> str:
    tokens = f"{result.prompt_tokens} + {result.completion_tokens} tokens"
    who = f"{result.model} (our mock server)" if result.is_mock else result.model
    seen = f"; said of a red square: {result.parsed}" if is_seen else ""
    return f"{who} answered by way of {step}, {tokens}{seen}"


def _price(endpoint: EndpointSettings) -> tuple[Status, str]:
    price = price_of(endpoint)
    if price is None:
        return "note", "unknown, so --max-usd is refused; set usd_per_million_input and _output"
    return "ok", f"${price.input:g} in, ${price.output:g} out a million tokens ({price.source})"


def _question(role: Role, picture: bytes | None) -> CallRequest:
    ask = "What colour is the sky on a clear day?" if picture is None else "What colour is this?"
    text = f'{ask} Answer in JSON: {{"colour": "..."}}'
    content: str | list[dict[str, Any]] = text
    media: dict[str, bytes] = {}
    if picture is not None:
        url = media_url(picture)
        media[url.removeprefix("media:")] = picture
        content = [
            {"type": "image_url", "image_url": {"url": url}},
            {"type": "text", "text": text},
        ]
    return CallRequest(
        role=role,
        messages=[{"role": "user", "content": content}],
        media=media,
        schema=_SCHEMA,
        schema_name="Colour",
        stage="doctor",
        unit="question" if picture is None else "picture",
    )


def _picture() -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.new("RGB", (112, 112), (220, 30, 30)).save(stream, format="JPEG")
    return stream.getvalue()
