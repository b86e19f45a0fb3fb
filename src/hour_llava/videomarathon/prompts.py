"""The prompts: text files with a system and a user part, and `$places` to be filled.

They are our own words; each file carries all that the paper's prompts ask for. A prompt's digest
is part of its stage's fingerprint: a changed word is another build.
Source: arXiv 2506.05332, the prompts of VideoMarathon's pipeline.
"""

from __future__ import annotations

import hashlib
import string
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from hour_llava.errors import BuildError

NAMES: tuple[str, ...] = (
    "clip_caption",
    "event_split",
    "event_caption",
    "global_caption",
    "qa_open_ended",
    "qa_multiple_choice",
    "judge",
    "blind",
)
_SYSTEM, _USER = "# system\n", "# user\n"


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A prompt file's text, and the 16 hex digits that name it."""

    name: str
    text: str
    sha: str

    @property
    def places(self) -> tuple[str, ...]:
        """List the places to be filled, sorted."""
        return tuple(sorted(set(string.Template(self.text).get_identifiers())))


def load(name: str) -> Prompt:
    """Read a prompt file of the package.

    Raises:
        BuildError: there is none of this name, or it lacks one of its two parts.
    """
    file = resources.files("hour_llava.videomarathon") / "prompts" / f"{name}.txt"
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise BuildError(
            f"no prompt {name!r} ({error}); the prompts are {', '.join(NAMES)}"
        ) from error
    if not text.startswith(_SYSTEM) or text.count("\n" + _USER) != 1:
        raise BuildError(f"prompt {name!r}: a '# system' part, then a '# user' part; repair it")
    return Prompt(name=name, text=text, sha=hashlib.sha256(text.encode()).hexdigest()[:16])


def fill(name: str, values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Put values into a prompt's places.

    Values are data: a `$` in a caption stays a `$`, a line "# user" in it opens no part.

    Returns: [("system", text), ("user", text)].
    Raises:
        BuildError: a place without a value; names it.
    """
    system, user = load(name).text.removeprefix(_SYSTEM).split("\n" + _USER)
    try:
        return [
            (role, string.Template(text).substitute(values).strip())
            for role, text in (("system", system), ("user", user))
        ]
    except KeyError as error:
        raise BuildError(f"prompt {name!r}: no value for its place {error}") from None


@dataclass(frozen=True, kw_only=True)
class Example:
    """An example of a task's form; without options the answer alone is shown."""

    question: str
    answer: str
    options: tuple[str, ...]


def load_examples() -> tuple[dict[str, Example], str]:
    """Read the example of every task.

    Returns: (examples by the task's slug, 16 hex digits that name the file).
    """
    file = resources.files("hour_llava.videomarathon") / "prompts" / "examples.toml"
    text = file.read_text(encoding="utf-8")
    examples: dict[str, Example] = {}
    for slug, fields in tomllib.loads(text).items():
        options = tuple(fields.get("options", ()))
        answer = fields.get("answer") or options[0]
        examples[slug] = Example(question=fields["question"], answer=answer, options=options)
    return examples, hashlib.sha256(text.encode()).hexdigest()[:16]
