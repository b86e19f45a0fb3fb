"""One HTTP try by the openai SDK, and what a failure of it means.

The SDK's own retries are off: limits, ledger and budget must see every try. A failure's text never
holds the API key, even where a server echoes it.
"""

from __future__ import annotations

import asyncio
import base64
import email.utils
import importlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from pydantic_core import to_json

from hour_llava.errors import EndpointError
from hour_llava.videomarathon.calls.request import MEDIA

if TYPE_CHECKING:
    from openai import AsyncOpenAI

    from hour_llava.videomarathon.settings import EndpointSettings

Kind = Literal["pressed", "failed", "format", "images", "too_long", "refusal", "bad", "fatal"]

_FORMAT_WORDS = ("response_format", "json_schema", "json_object", "guided", "grammar", "structured")
_IMAGE_WORDS = ("image", "vision", "multimodal", "multi-modal")
_LONG_WORDS = ("context length", "context_length", "maximum context", "too long", "too many tokens")
_REFUSAL_WORDS = ("content_filter", "content policy", "content_policy", "content exists risk")
SHORTEST_SECRET = 8
"""Letters of a key that is looked for in answers too; shorter ones are words of them."""
_FATAL_STATUS = {
    200: "this is no OpenAI-compatible endpoint",
    401: "the key is wrong or missing",
    402: "the account has no balance",
    403: "the key may not use this",
    404: "no such model or path",
}


class TryError(Exception):
    """A try without an answer; `kind` says what to do about it."""

    def __init__(
        self, kind: Kind, message: str, *, status: int = 0, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.kind: Kind = kind
        self.status = status
        self.retry_after = retry_after


class Client:
    """Sends requests to one endpoint; belongs to one event loop.

    Raises:
        EndpointError: openai is not installed, or the key's environment variable is not set.
    """

    def __init__(self, endpoint: EndpointSettings) -> None:
        self._timeout = endpoint.timeout_seconds
        self._secret = _read_key(endpoint)
        self._openai, self._response_type = _make_openai(endpoint, self._secret)

    async def send(self, body: Mapping[str, Any], headers: Mapping[str, str]) -> str:
        """Send one chat request and return the response's text, unparsed.

        Raises:
            TryError: there was no answer.
        """
        import aiohttp
        import openai

        safe = {name: quote(value, safe=":/-_. ") for name, value in headers.items()}
        try:
            async with asyncio.timeout(self._timeout):
                # `chat.completions.create` would walk through the body to transform it, and build
                # a model of the answer: half of a call's CPU time, for nothing. And pictures are
                # a megabyte of text, which pydantic's writer writes in a third of json's time.
                response = await self._openai.post(
                    "/chat/completions",
                    cast_to=self._response_type,
                    content=to_json(body),
                    options={"headers": safe},
                )
                text = response.content.decode("utf-8", errors="replace")
        except openai.APIStatusError as error:
            raise self._status_failure(error) from None
        except (openai.APIConnectionError, aiohttp.ClientError, TimeoutError) as error:
            raise TryError("failed", self._connection_words(error)) from None
        if len(self._secret) >= SHORTEST_SECRET:
            text = self._redact(text)
        if text.lstrip()[:1] == "<":
            raise TryError("fatal", "a web page came instead of an answer", status=200)
        if text.lstrip()[:9].startswith('{"error"'):  # some gateways say it with status 200
            raise self._failure(_code_in(text), text, None)
        return text

    async def models(self) -> list[str]:
        """List the endpoint's models.

        Raises:
            TryError: it gives no list.
        """
        import aiohttp
        import openai

        try:
            async with asyncio.timeout(self._timeout):
                return [model.id async for model in self._openai.models.list()]
        except openai.APIStatusError as error:
            raise self._status_failure(error) from None
        except (openai.APIConnectionError, aiohttp.ClientError, TimeoutError) as error:
            raise TryError("failed", self._connection_words(error)) from None
        except (openai.OpenAIError, AttributeError, TypeError) as error:
            raise TryError("failed", self._redact(str(error) or type(error).__name__)) from None

    async def close(self) -> None:
        """Close the connections."""
        await self._openai.close()

    def _status_failure(self, error: Any) -> TryError:
        after = error.response.headers.get("retry-after")
        code = error.code if error.code in ("insufficient_quota",) else ""
        return self._failure(error.status_code, f"{code} {error}".strip(), read_retry_after(after))

    def _failure(self, status: int, message: str, retry_after: float | None) -> TryError:
        said = " ".join(self._redact(message).split())[:300]
        kind = classify(status, message)
        return TryError(kind, said, status=status, retry_after=retry_after)

    def _connection_words(self, error: BaseException) -> str:
        """Say why no response came; causes tell, as the SDK calls a cut connection a time-out."""
        chain: list[BaseException] = [error]
        while (cause := chain[-1].__cause__) is not None and not _is_cancelled(cause):
            chain.append(cause)
        if any(isinstance(link, TimeoutError) for link in chain):
            return f"no answer in {self._timeout:g} s"
        words = next((str(link) for link in reversed(chain) if str(link)), type(chain[-1]).__name__)
        return f"connection: {' '.join(self._redact(words).split())[:200]}"

    def _redact(self, text: str) -> str:
        return text.replace(self._secret, "[key]") if self._secret else text


def classify(status: int, message: str) -> Kind:
    """Say what an HTTP error status means for the call."""
    words = message.casefold()
    if (status in _FATAL_STATUS and status != 200) or "insufficient_quota" in words:
        return "fatal"
    if status in (429, 529):
        return "pressed"
    if status == 413:
        return "too_long"
    if status in (408, 409, 425) or status >= 500:
        return "failed"
    kinds: tuple[tuple[Kind, tuple[str, ...]], ...] = (
        ("format", _FORMAT_WORDS),
        ("too_long", _LONG_WORDS),
        ("refusal", _REFUSAL_WORDS),
        ("images", _IMAGE_WORDS),
    )
    for kind, marks in kinds:
        if any(mark in words for mark in marks):
            return kind
    return "bad"


def explain_fatal(failure: TryError, endpoint: EndpointSettings, name: str) -> str:
    """Return the line for a failure after which an endpoint is asked no more."""
    why = _FATAL_STATUS.get(failure.status, "refused")
    key = f"the key in {endpoint.api_key_env}" if endpoint.api_key_env else "api_key_env (not set)"
    return (
        f"{name}: {why} ({failure}); check {key}, model and base_url in build.toml "
        "(`hour-llava synth doctor` tries them), then run again"
    )


def read_retry_after(value: str | None) -> float | None:
    """Read a Retry-After header, seconds or a date, as seconds from now."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def wire_messages(
    messages: Sequence[Mapping[str, Any]], media: Mapping[str, bytes]
) -> list[dict[str, Any]]:
    """Return messages with pictures as `data:` URLs."""
    wired: list[dict[str, Any]] = []
    for message in messages:
        content = message["content"]
        if not isinstance(content, str):
            content = [_wire_part(part, media) for part in content]
        wired.append({**message, "content": content})
    return wired


def _wire_part(part: Mapping[str, Any], media: Mapping[str, bytes]) -> Mapping[str, Any]:
    if part["type"] != "image_url":
        return part
    data = media[part["image_url"]["url"].removeprefix(MEDIA)]
    url = f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
    return {**part, "image_url": {**part["image_url"], "url": url}}


def _is_cancelled(error: BaseException) -> bool:
    return isinstance(error, asyncio.CancelledError)  # how asyncio's time-outs end what they end


def _code_in(text: str) -> int:
    try:
        code = json.loads(text)["error"]["code"]
        return int(code)
    except (ValueError, LookupError, TypeError):
        return 500


def _read_key(endpoint: EndpointSettings) -> str:
    if endpoint.api_key_env is None:
        return ""
    key = os.environ.get(endpoint.api_key_env, "").strip()
    if not key:
        raise EndpointError(
            f"{endpoint.model} at {endpoint.base_url}: the environment variable "
            f"{endpoint.api_key_env}, which should hold its key, is not set; "
            f"export {endpoint.api_key_env}=..., then run again"
        )
    return key


def _make_openai(endpoint: EndpointSettings, key: str) -> tuple[AsyncOpenAI, Any]:
    """Return the SDK's client and the class of raw responses that it knows.

    Over aiohttp, the SDK's other transport: a call costs a third less CPU time than over its
    first (benchmarks/results/calls.json).
    """
    try:
        importlib.import_module("aiohttp")
        from openai import AsyncOpenAI, DefaultAioHttpClient, DefaultAsyncHttpxClient
    except ImportError as error:
        raise EndpointError(
            "endpoints need the openai package with aiohttp; pip install 'hour-llava[synth]'"
        ) from error
    client = AsyncOpenAI(
        base_url=endpoint.base_url,
        api_key=key or "none",  # the SDK wants one; a server of one's own ignores it
        max_retries=0,
        timeout=endpoint.timeout_seconds,
        http_client=DefaultAioHttpClient(follow_redirects=False),
    )
    # httpx or httpx2: which one is the SDK's affair
    responses = importlib.import_module(DefaultAsyncHttpxClient.__mro__[1].__module__.split(".")[0])
    return client, responses.Response
