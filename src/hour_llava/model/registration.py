"""Tell transformers' Auto classes of Hour-LLaVA, without loading transformers for it.

`AutoConfig`, `AutoModelForImageTextToText` and `AutoProcessor` each live in a module of their own.
Where that is loaded already we register at once, else right after it has loaded.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import MappingProxyType, ModuleType
from typing import Any

_AUTO = "transformers.models.auto."


def _ours(module: str, name: str) -> Any:
    """Import a class of ours; None while its module is being imported: its end registers again."""
    return getattr(importlib.import_module(f"hour_llava.model.{module}"), name, None)


def _config_class() -> Any:
    return _ours("configuration_hour_llava", "HourLlavaConfig")


def _register_config(module: ModuleType) -> None:
    if (config := _config_class()) is not None:
        module.AutoConfig.register("hour_llava", config, exist_ok=True)


def _register_model(module: ModuleType) -> None:
    config = _config_class()
    model = _ours("modeling_hour_llava", "HourLlavaForConditionalGeneration")
    if config is not None and model is not None:
        module.AutoModelForImageTextToText.register(config, model, exist_ok=True)
        module.AutoModel.register(
            config, _ours("modeling_hour_llava", "HourLlavaModel"), exist_ok=True
        )


def _register_processor(module: ModuleType) -> None:
    config, processor = _config_class(), _ours("processing_hour_llava", "HourLlavaProcessor")
    if config is not None and processor is not None:
        module.AutoProcessor.register(config, processor, exist_ok=True)


_REGISTRATIONS: Mapping[str, tuple[str, Callable[[ModuleType], None]]] = MappingProxyType(
    {
        _AUTO + "configuration_auto": ("AutoConfig", _register_config),
        _AUTO + "modeling_auto": ("AutoModelForImageTextToText", _register_model),
        _AUTO + "processing_auto": ("AutoProcessor", _register_processor),
    }
)
"""module -> (the class that is there once the module is whole, what registers with it)"""


class _AfterLoading(Loader):
    """Loads a module as its own loader would, then registers."""

    def __init__(self, loader: Loader, register: Callable[[ModuleType], None]) -> None:
        self.loader = loader
        self.register = register

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self.loader.exec_module(module)
        # The module is whole: what registering imports may import it again.
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        module.__loader__ = self.loader
        self.register(module)


class _AutoFinder(MetaPathFinder):
    """Finds the Auto classes' modules as Python would, and registers once they are loaded."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _REGISTRATIONS:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _AfterLoading(spec.loader, _REGISTRATIONS[fullname][1])
        return spec


def register_auto_classes() -> None:
    """Make transformers know `model_type = "hour_llava"`, now or when its Auto classes load."""
    for name, (landmark, register) in _REGISTRATIONS.items():
        module = sys.modules.get(name)
        if module is not None and landmark in vars(module):
            register(module)
    if not any(isinstance(finder, _AutoFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AutoFinder())
