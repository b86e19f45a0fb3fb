"""A model endpoint that costs nothing: OpenAI's chat format over real HTTP, faults on request.

    GET  /v1/models             the models it plays
    POST /v1/chat/completions   an answer from `mock_answers`, with usage numbers
    GET  /mock/stats            what it was asked, what it has answered, which faults it gave

Whether a request meets a fault depends on the request's bytes, how often they came, and the seed:
not on the order in which concurrent requests arrive. Its answers carry the system_fingerprint
"hour-llava-mock...", by which rows are marked `mock`.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import math
import socket
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hour_llava.errors import HourLlavaError
from hour_llava.videomarathon.calls.guards import MOCK_FINGERPRINT
from hour_llava.videomarathon.calls.tokens import TOKENS_PER_MESSAGE, count_image, count_text
from hour_llava.videomarathon.mock_answers import Asked, answer

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

MODELS = ("mock-captioner", "mock-llm")
FAULTS: Mapping[str, str] = {
    "429": "status 429 with Retry-After",
    "500": "status 500",
    "503": "status 503",
    "hang": "no answer until the client leaves",
    "cut": "the connection is cut in the middle of the answer",
    "broken": "status 200 with half a response body",
    "truncated": "JSON that ends in the middle, finish_reason length",
    "empty": "an empty content",
    "whitespace": "JSON that runs on in blanks",
    "loop": "the same words for ever",
    "refusal": "a polite refusal",
    "not_json": "prose instead of JSON",
    "wrong_schema": "JSON with other keys",
    "no_json_schema": "status 400 on response_format json_schema",
    "no_json_object": "status 400 on response_format json_object",
    "wrong_model": "another model's name in the answer",
    "no_images": "status 400 on pictures",
    "401": "status 401, as for a wrong key",
    "404": "status 404, as for an unknown model",
    "400": "status 400 for no stated reason",
}
_ON_FORM = {"no_json_schema": "json_schema", "no_json_object": "json_object"}
_IN_CONTENT = ("truncated", "empty", "whitespace", "loop", "refusal", "not_json", "wrong_schema")
Responder = Callable[[Asked], str | None]
_SCHEMA_IN_PROMPT = "fits this JSON schema:\n"


@dataclass(frozen=True, kw_only=True)
class MockSettings:
    """How the server behaves.

    Args:
        faults: Rates by the names of `FAULTS`; of one request at most one strikes.
        script: Faults (or "ok") of the first requests, in the order of arrival; goes first.
        seed: Another seed, other requests that are struck.
        retry_after: Seconds in the 429's header.
        latency_seconds: Every answer's.
        key: When set, requests without it get 401.
        is_strict: Refuse other models than its own (404), as a real server does.
    """

    faults: Mapping[str, float] = field(default_factory=dict[str, float])
    script: Sequence[str] = ()
    seed: int = 0
    retry_after: float = 1.0
    latency_seconds: float = 0.0
    key: str | None = None
    is_strict: bool = False


def read_faults(words: Sequence[str]) -> dict[str, float]:
    """Read "429:0.1"; a name alone always strikes.

    Raises:
        HourLlavaError: an unknown name, or a rate that is none.
    """
    rates: dict[str, float] = {}
    for word in words:
        name, _, text = word.partition(":")
        check_fault(name)
        try:
            rate = float(text) if text else 1.0
        except ValueError:
            rate = math.nan
        if not 0 <= rate <= 1:
            raise HourLlavaError(f"--fault {word}: the rate is between 0 and 1, as in 429:0.1")
        rates[name] = rate
    return rates


def check_fault(name: str) -> str:
    """Return the name of a fault, or "ok".

    Raises:
        HourLlavaError: there is none of this name; lists them.
    """
    if name not in FAULTS and name != "ok":
        raise HourLlavaError(f"no fault {name!r}; there are {', '.join(FAULTS)}")
    return name


class MockServer:
    """The server's state: what came, and what it has answered."""

    def __init__(self, settings: MockSettings, respond: Responder | None = None) -> None:
        self.settings = settings
        self._respond = respond
        self._seen: Counter[str] = Counter()
        self._answered: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()
        self._num_requests = 0
        self._num_now = 0
        self._most_at_once = 0

    def app(self) -> Starlette:
        """Return the ASGI application."""
        return Starlette(
            routes=[
                Route("/v1/models", self._models),
                Route("/v1/chat/completions", self._chat, methods=["POST"]),
                Route("/mock/stats", self._stats),
            ]
        )

    async def _models(self, request: Request) -> Response:
        if (refused := self._check_key(request)) is not None:
            return refused
        models = [{"id": name, "object": "model", "owned_by": "hour-llava"} for name in MODELS]
        return JSONResponse({"object": "list", "data": models})

    async def _stats(self, _: Request) -> Response:
        return JSONResponse(
            {
                "requests": self._num_requests,
                "answered": sum(self._answered.values()),
                "answered_twice": sum(n - 1 for n in self._answered.values()),
                "most_at_once": self._most_at_once,
                "faults": dict(self._faults),
            }
        )

    async def _chat(self, request: Request) -> Response:
        data = await request.body()
        if (refused := self._check_key(request)) is not None:
            return refused
        self._num_now += 1
        self._most_at_once = max(self._most_at_once, self._num_now)
        try:
            return await self._answer(request, data)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return _error(400, f"no chat request: {error!r}", "bad_request")
        finally:
            self._num_now -= 1

    async def _answer(self, request: Request, data: bytes) -> Response:
        digest = hashlib.sha256(data).hexdigest()
        body = json.loads(data)
        fault = self._draw(digest, body)
        if self.settings.is_strict and body.get("model") not in MODELS:
            fault = "404"
        if fault is not None:
            self._faults[fault] += 1
        await asyncio.sleep(self.settings.latency_seconds)
        if fault is not None and fault in _STATUS_FAULTS:
            return _STATUS_FAULTS[fault](body, self.settings)
        if fault == "hang":
            await _until_gone(request)
            return Response(status_code=499)
        content = self._content(request, body)
        reply = _completion(body, content, fault, digest)
        if fault in ("cut", "broken"):
            half = json.dumps(reply).encode()[: len(content) // 2 + 40]
            return (
                Response(half, media_type="application/json") if fault == "broken" else _Cut(half)
            )
        self._answered[digest] += 1
        return JSONResponse(reply)

    def _draw(self, digest: str, body: Mapping[str, Any]) -> str | None:
        nth, self._seen[digest] = self._seen[digest], self._seen[digest] + 1
        place, self._num_requests = self._num_requests, self._num_requests + 1
        if place < len(self.settings.script):
            name = self.settings.script[place]
            return name if name != "ok" and _applies(name, body) else None
        seed = hashlib.sha256(f"{self.settings.seed} {digest} {nth}".encode()).digest()
        left = int.from_bytes(seed[:8], "big") / 2**64
        for name, rate in self.settings.faults.items():
            if not _applies(name, body):
                continue
            if left < rate:
                return name
            left -= rate
        return None

    def _content(self, request: Request, body: Mapping[str, Any]) -> str:
        text = "\n".join(_texts(body))
        asked = Asked(
            schema=_schema_of(body, text),
            text=text.partition(_SCHEMA_IN_PROMPT)[0],
            unit=request.headers.get("x-hour-llava-unit", ""),
        )
        said = self._respond(asked) if self._respond else None
        content = answer(asked) if said is None else said
        is_fenced = "response_format" not in body
        return f"Here it is:\n```json\n{content}\n```" if is_fenced else content

    def _check_key(self, request: Request) -> Response | None:
        key = self.settings.key
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if key is None or given == key:
            return None
        self._faults["401"] += 1
        # Servers do echo what they were given: nobody may print it.
        return _error(401, f"Incorrect API key provided: {given}", "invalid_api_key")


def _applies(name: str, body: Mapping[str, Any]) -> bool:
    if name in _ON_FORM:
        return _form_of(body).get("type") == _ON_FORM[name]
    return name != "no_images" or bool(_pictures(body))


def _error(status: int, message: str, code: str, **headers: str) -> Response:
    body = {"error": {"message": message, "type": "mock", "param": None, "code": code}}
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return JSONResponse(body, status_code=status, headers=names)


_Refuse = Callable[[Mapping[str, Any], MockSettings], Response]
_STATUS_FAULTS: Mapping[str, _Refuse] = {
    "429": lambda _, s: _error(429, "slow down", "rate_limit", retry_after=f"{s.retry_after:g}"),
    "500": lambda _, __: _error(500, "something broke", "server_error"),
    "503": lambda _, __: _error(503, "overloaded", "overloaded"),
    "401": lambda _, __: _error(401, "Incorrect API key provided", "invalid_api_key"),
    "404": lambda b, _: _error(404, f"The model {b.get('model')} does not exist", "no_model"),
    "400": lambda _, __: _error(400, "this cannot be done", "bad_request"),
    "no_json_schema": lambda _, __: _error(
        400, "This response_format type is unavailable now", "invalid_request_error"
    ),
    "no_json_object": lambda _, __: _error(
        400, "response_format json_object is not supported", "invalid_request_error"
    ),
    "no_images": lambda _, __: _error(
        400, "this model takes text only; image_url is not supported", "invalid_request_error"
    ),
}


def _completion(
    body: Mapping[str, Any], content: str, fault: str | None, digest: str
) -> dict[str, Any]:
    finish = "length" if fault in ("truncated", "whitespace", "loop") else "stop"
    content = _spoil(content, fault)
    num_prompt, num_completion = count_prompt(body), count_text(content)
    return {
        "id": f"chatcmpl-{digest[:24]}",
        "object": "chat.completion",
        "created": 0,
        "model": "another-model" if fault == "wrong_model" else body.get("model", MODELS[1]),
        "system_fingerprint": f"{MOCK_FINGERPRINT}-1",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": content, "refusal": None},
                "finish_reason": finish,
                "logprobs": None,
            }
        ],
        "usage": {
            "prompt_tokens": num_prompt,
            "completion_tokens": num_completion,
            "total_tokens": num_prompt + num_completion,
        },
    }


def _spoil(content: str, fault: str | None) -> str:
    if fault not in _IN_CONTENT:
        return content
    spoilt = {
        "truncated": content[: len(content) // 2],
        "empty": "",
        "whitespace": content[: len(content) // 2] + " \n\t" * 800,
        "loop": '{"Summary": "' + "the man walks on and on and " * 200,
        "refusal": "I'm sorry, but I can't help with that request.",
        "not_json": "The video shows a man. He walks to a house and opens the door.",
        "wrong_schema": '{"thoughts": ["none"]}',
    }
    return spoilt[fault]


def count_prompt(body: Mapping[str, Any]) -> int:
    """Count a request's prompt tokens by the rule of `calls.tokens`."""
    num_tokens = TOKENS_PER_MESSAGE * len(body["messages"])
    num_tokens += sum(map(count_text, _texts(body)))
    return num_tokens + sum(map(count_image, _pictures(body)))


def _texts(body: Mapping[str, Any]) -> list[str]:
    texts: list[str] = []
    for message in body["messages"]:
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        texts += [part["text"] for part in parts if part["type"] == "text"]
    return texts


def _pictures(body: Mapping[str, Any]) -> list[bytes]:
    """Return the pictures' first bytes, where their size stands."""
    pictures: list[bytes] = []
    for message in body["messages"]:
        if isinstance(message["content"], str):
            continue
        for part in message["content"]:
            if part["type"] == "image_url":
                coded = part["image_url"]["url"].partition("base64,")[2][:4096]
                pictures.append(base64.b64decode(coded + "=" * (-len(coded) % 4)))
    return pictures


def _form_of(body: Mapping[str, Any]) -> Mapping[str, Any]:
    return body.get("response_format") or {}


def _schema_of(body: Mapping[str, Any], text: str) -> Mapping[str, Any]:
    form = _form_of(body)
    if form.get("type") == "json_schema":
        return form["json_schema"]["schema"]
    _, found, schema = text.partition(_SCHEMA_IN_PROMPT)
    return json.loads(schema) if found else {"type": "object", "properties": {}}


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class _Cut(Response):
    """Promises more bytes than it sends, so that the server closes the connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        length = str(len(self.body) + 1000).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", length)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        await asyncio.sleep(0.02)  # so that the half is on its way before the end


def serve(server: MockServer, *, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve until interrupted; `ready` is told the base URL, with the real port.

    Raises:
        HourLlavaError: the port cannot be had.
    """
    import uvicorn

    try:
        listening = socket.create_server((host, port), backlog=1024)
    except (OSError, OverflowError) as error:
        raise HourLlavaError(f"{host}:{port}: {error}; --port 0 takes a free one") from error
    url = f"http://{host}:{listening.getsockname()[1]}/v1"
    config = uvicorn.Config(
        server.app(), log_level="critical", timeout_graceful_shutdown=1, lifespan="off"
    )
    ready(url)
    uvicorn.Server(config).run(sockets=[listening])
