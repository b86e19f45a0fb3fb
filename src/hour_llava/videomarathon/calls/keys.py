"""The key of a call: equal questions, equal key, on any machine, in any run.

In it: model, messages with pictures by content, schema, sampling, attempt and re-ask. Not in it:
endpoint, API key, ladder step, time-outs, who asks: none changes what was asked.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any

from hour_llava.videomarathon.calls.request import CallRequest, Sampling

_VERSION = 1


def call_key(request: CallRequest, *, model: str, sampling: Sampling, reask: int = 0) -> str:
    """Return 32 hex digits that name a call."""
    parts: dict[str, Any] = {
        "version": _VERSION,
        "model": model,
        "messages": request.messages,
        "schema": request.schema,
        "sampling": asdict(sampling),
        "attempt": [request.attempt, reask],
    }
    return hashlib.sha256(canonical_json(parts).encode()).hexdigest()[:32]


def canonical_json(value: Any) -> str:
    """Write plain values as JSON with sorted keys and no spaces."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
