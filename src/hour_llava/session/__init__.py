"""Remember a video once, ask it as often as you like: the layer that users, CLI and servers call.

`load` gives an `Assistant`; `Assistant.remember` gives a memory, kept on disk by the content of the
video; `Assistant.ask` gives an `Answer` with the seconds that it was read from. torch loads with
the first of these names, not with the package: the cache and the pictures do without it.
"""

from __future__ import annotations

import importlib
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hour_llava.session.answer import Answer, Progress
    from hour_llava.session.assistant import Assistant, builtin_models, load

_MODULES = MappingProxyType(
    {
        "Answer": "hour_llava.session.answer",
        "Assistant": "hour_llava.session.assistant",
        "Progress": "hour_llava.session.answer",
        "builtin_models": "hour_llava.session.assistant",
        "load": "hour_llava.session.assistant",
    }
)

__all__ = ["Answer", "Assistant", "Progress", "builtin_models", "load"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'hour_llava.session' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
