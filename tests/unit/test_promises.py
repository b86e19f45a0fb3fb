"""What users see is frozen: exports, verbs, and the arguments of every verb with their defaults."""

from __future__ import annotations

import importlib
import inspect
import json
from pathlib import Path

import hour_llava
from hour_llava.cli import VERBS

EXPORTS = [
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

# verb -> positional arguments, and --flags with the words of their defaults
ARGUMENTS = json.loads((Path(__file__).parents[1] / "golden" / "verbs.json").read_text())

METHODS = {
    "remember": ["path", "fps", "start", "end", "progress", "use_cache"],
    "ask": [
        "memory",
        "question",
        "options",
        "evidence",
        "seed",
        "max_new_tokens",
        "max_memory",
    ],
}


def test_the_exports_are_those_promised_and_all_are_there() -> None:
    assert hour_llava.__all__ == EXPORTS == sorted(EXPORTS)
    assert all(getattr(hour_llava, name) is not None for name in EXPORTS)
    assert set(EXPORTS) <= set(dir(hour_llava))


def test_the_verbs_are_those_promised() -> None:
    assert list(VERBS) == list(ARGUMENTS)


def test_every_verb_takes_the_arguments_promised() -> None:
    for verb, (target, _) in VERBS.items():
        module, _, name = target.partition(":")
        parameters = inspect.signature(getattr(importlib.import_module(module), name)).parameters
        positional = [p.name for p in parameters.values() if p.kind is p.POSITIONAL_ONLY]
        flags = {
            p.name: "required" if p.default is p.empty else repr(p.default)
            for p in parameters.values()
            if p.kind is p.KEYWORD_ONLY
        }
        assert {"positional": positional, "flags": flags} == ARGUMENTS[verb], verb


def test_load_and_the_assistant_take_the_arguments_promised() -> None:
    assert list(inspect.signature(hour_llava.load).parameters) == ["name", "device", "dtype"]
    for name, expected in METHODS.items():
        found = list(inspect.signature(getattr(hour_llava.Assistant, name)).parameters)
        assert found == ["self", *expected]


def test_an_evidence_span_has_the_fields_promised() -> None:
    assert list(hour_llava.Evidence.__dataclass_fields__) == [
        "start_seconds",
        "end_seconds",
        "score",
    ]
