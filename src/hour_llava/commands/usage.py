"""Reading a verb's arguments with tyro; what is wrong with them is one line, not tyro's box."""

from __future__ import annotations

import functools
import io
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path

from hour_llava.commands.terminal import printable

Verb = Callable[..., int | None]

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_RULE = re.compile(r"[─\-]+")
# Python's words for what was typed, and ours.
_PLAIN_WORDS = (
    (re.compile(r"invalid literal for int\(\) with base 10: (.*)"), r"\1 is no whole number"),
    (re.compile(r"could not convert string to float: (.*)"), r"\1 is no number"),
    (
        re.compile(r"Missing value for argument '(-.*)'\. Expected \d+ values?\."),
        r"\1 needs a value",
    ),
    (re.compile(r"Missing value for argument '(.*)'\. Expected \d+ values?\."), r"\1 is missing"),
    (re.compile(r"Error parsing (.*)"), r"\1"),
)


class UsageError(Exception):
    """The arguments fit no verb; the text is one line that ends with where to read on."""


def read_arguments(
    verb: Verb, arguments: Sequence[str], *, program: str
) -> Callable[[], int | None]:
    """Read the arguments of a verb and give the call that they ask for.

    Raises:
        UsageError: they do not fit.
        SystemExit: `--help` was printed.
    """
    import tyro

    @functools.wraps(verb)
    def bind(*args: object, **kwargs: object) -> Callable[[], int | None]:
        return functools.partial(verb, *args, **kwargs)

    box = io.StringIO()
    is_help = bool({"-h", "--help"} & set(_before_bare_dashes(arguments)))
    try:
        with redirect_stderr(box), _columns(None if is_help else 100_000):
            return tyro.cli(
                bind, prog=program, args=arguments, config=(tyro.conf.FlagCreatePairsOff,)
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        faults = [_one_line(box.getvalue()), *_dash_hint(arguments)]
        raise UsageError(f"{program}: {'; '.join(faults)}; see {program} --help") from None


def _one_line(box: str) -> str:
    """Say in one line what tyro says in a box: its first part, and what may have been meant."""
    lines = _COLOUR.sub("", box).splitlines()
    has_frame = any(line.startswith("╭") for line in lines)  # else a title and a rule stand above
    parts: list[list[str]] = [[]]
    for line in lines:
        content = (line[2:-2] if has_frame else line[2:]).rstrip()
        if _RULE.fullmatch(content.strip()):
            parts.append([])
        elif line[:1] not in ("╭", "╰"):
            parts[-1].append(content)
    parts = parts if has_frame else parts[1:]
    said = _plain(parts[0]) if parts else "wrong usage"
    if len(parts) > 1 and parts[1][0].startswith("Perhaps you meant"):
        meant = next((row.split() for row in parts[1][1:] if row.strip()), [])
        said += f" (did you mean {meant[0]}?)" if meant else ""
    return printable(said)


def _plain(rows: Sequence[str]) -> str:
    if rows and rows[0].startswith("Missing from"):  # names at one depth, their help deeper
        names = [row.strip() for row in rows[1:] if re.match(r" {4}\S", row)]
        return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} missing"
    text = " ".join(row.strip() for row in rows)
    for pattern, plain in _PLAIN_WORDS:
        text = pattern.sub(plain, text)
    text = text.removesuffix(".")
    return text[:1].lower() + text[1:] if text[:1].isalpha() and text[1:2].islower() else text


def _dash_hint(arguments: Sequence[str]) -> list[str]:
    """Tell who typed a name that begins with a dash how to pass it."""
    for word in _before_bare_dashes(arguments):
        is_file = word.startswith("-") and Path(word).exists()
        if is_file or re.match(r"-[^-\d]", word):
            other = f"write ./{word}" if is_file or " " not in word else "write it otherwise"
            return [f"if {word} is no flag, {other} or put -- before it, behind all flags"]
    return []


def _before_bare_dashes(arguments: Sequence[str]) -> Sequence[str]:
    return arguments[: arguments.index("--")] if "--" in arguments else arguments


@contextmanager
def _columns(width: int | None) -> Iterator[None]:
    """Let tyro believe in a terminal of this width, so that it breaks no word in two."""
    before = os.environ.get("COLUMNS")
    if width is not None:
        os.environ["COLUMNS"] = str(width)
    try:
        yield
    finally:
        if before is not None:
            os.environ["COLUMNS"] = before
        elif width is not None:
            del os.environ["COLUMNS"]
