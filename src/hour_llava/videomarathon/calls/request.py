"""What is asked of an endpoint, and what comes back.

Messages have the OpenAI chat format, with one difference: an image part's URL is `media:<sha256>`,
and its bytes lie in `media`. So keys and the ledger name pictures by content; they become `data:`
URLs on the wire alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from hour_llava.videomarathon.stage import Role

MEDIA = "media:"

ContentFault = Literal[
    "empty", "length", "whitespace", "loop", "refusal", "not_json", "schema", "unreadable"
]


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the model is to answer; all of it is in a call's key."""

    max_tokens: int
    temperature: float
    seed: int | None = None
    extra_body: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, kw_only=True)
class CallRequest:
    """One question to one endpoint.

    Args:
        role: Which of the endpoints.
        messages: OpenAI chat messages, pictures as `media:<sha256>`.
        media: JPEG bytes by sha256.
        schema: The JSON schema of the answer.
        schema_name: Its name on the wire, letters and digits.
        attempt: Another attempt is another call, with its own key.
        stage: Who asks, for the server's logs and ours; never in the key.
        unit: The same.
    """

    role: Role
    messages: Sequence[Mapping[str, Any]]
    schema: Mapping[str, Any]
    schema_name: str
    media: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    attempt: int = 0
    stage: str = ""
    unit: str = ""


@dataclass(frozen=True, kw_only=True)
class CallResult:
    """An answer that passed the guards; `is_paid_now` is false when the ledger had it."""

    key: str
    model: str
    text: str
    parsed: dict[str, Any]
    is_mock: bool
    is_paid_now: bool
    prompt_tokens: int
    completion_tokens: int


def media_url(data: bytes) -> str:
    """Name a picture by its content."""
    return MEDIA + hashlib.sha256(data).hexdigest()
