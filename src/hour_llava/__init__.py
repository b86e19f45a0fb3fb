"""Hour-LLaVA: ask questions of hour-long videos, and build the models that answer them.

    import hour_llava
    assistant = hour_llava.load("nano")
    memory = assistant.remember("lecture.mp4")
    answer = assistant.ask(memory, "What is written on the board at the end?", evidence=True)

Importing this package loads neither torch nor transformers; the names below arrive on first use.
After `import hour_llava` the Auto classes of transformers know `model_type = "hour_llava"`.
"""

from __future__ import annotations

import importlib
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from hour_llava.model.registration import register_auto_classes

if TYPE_CHECKING:
    from hour_llava.errors import HourLlavaError
    from hour_llava.memory import MemAug, MemoryRepository
    from hour_llava.model.configuration_hour_llava import HourLlavaConfig
    from hour_llava.model.modeling_hour_llava import (
        HourLlavaForConditionalGeneration,
        HourLlavaModel,
    )
    from hour_llava.model.processing_hour_llava import HourLlavaProcessor
    from hour_llava.schema import Evidence
    from hour_llava.session import Answer, Assistant, load

_MODULES = MappingProxyType(
    {
        "Answer": "hour_llava.session",
        "Assistant": "hour_llava.session",
        "Evidence": "hour_llava.schema",
        "HourLlavaConfig": "hour_llava.model.configuration_hour_llava",
        "HourLlavaError": "hour_llava.errors",
        "HourLlavaForConditionalGeneration": "hour_llava.model.modeling_hour_llava",
        "HourLlavaModel": "hour_llava.model.modeling_hour_llava",
        "HourLlavaProcessor": "hour_llava.model.processing_hour_llava",
        "MemAug": "hour_llava.memory",
        "MemoryRepository": "hour_llava.memory",
        "load": "hour_llava.session",
    }
)

__all__ = [
    "Answer",
    "Assistant",
    "Evidence",
    "HourLlavaConfig",
    "HourLlavaError",
    "HourLlavaForConditionalGeneration",
    "HourLlavaModel",
    "HourLlavaProcessor",
    "MemAug",
    "MemoryRepository",
    "load",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("hour-llava")
    if name not in _MODULES:
        raise AttributeError(f"module 'hour_llava' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


register_auto_classes()
