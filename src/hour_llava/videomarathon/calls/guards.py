"""What makes an answer unusable before anybody reads its words, and how JSON is got out of it.

Each fault is one of `request.ContentFault`; the caller asks again, and in the end the unit is set
aside. Whether the words are right is for the stages and the checks.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, cast

from hour_llava.videomarathon.calls.request import ContentFault

MOCK_FINGERPRINT = "hour-llava-mock"

_WHITESPACE = re.compile(r"\s{200,}")
_THOUGHTS = re.compile(r"^\s*<think>.*?</think>", re.DOTALL)
_FENCED = re.compile(r"```[a-zA-Z]*\s*\n(.*?)```", re.DOTALL)
_WORD = re.compile(r"\w+")
_SHORT_PERIOD, _LONG_PERIOD = 8, 64  # words that make one turn of a loop
_TAIL_WORDS = 400
_GRAM = 8
_LOOP_WORDS, _LOOP_TURNS = 40, 4
_REFUSAL = re.compile(
    r"^\W*(i['’]?m sorry|i am sorry|sorry,|i can(no|['’])t|i can not|i am unable|i['’]m unable|"
    r"i won['’]t|unfortunately,? i|as an ai|抱歉|对不起|很抱歉|我无法|我不能)",
    re.IGNORECASE,
)


class ContentError(Exception):
    """An answer that cannot be used; `fault` names the kind."""

    def __init__(self, fault: ContentFault, detail: str) -> None:
        super().__init__(detail)
        self.fault: ContentFault = fault


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A response's parts; token counts are None where the server gives none."""

    text: str
    model: str
    finish_reason: str
    refusal: str
    is_mock: bool
    prompt_tokens: int | None
    completion_tokens: int | None


def read_answer(body: str) -> Answer:
    """Read a chat completion.

    Raises:
        ContentError: the body is no chat completion.
    """
    try:
        response = json.loads(body)
        choice = response["choices"][0]
        message = dict(choice["message"])
    except (ValueError, LookupError, TypeError) as error:
        raise ContentError("unreadable", f"no chat completion: {body[:80]!r}") from error
    usage: dict[str, Any] = response.get("usage") or {}
    return Answer(
        text=_text_of(message.get("content")),
        model=str(response.get("model") or ""),
        finish_reason=str(choice.get("finish_reason") or ""),
        refusal=str(message.get("refusal") or ""),
        is_mock=str(response.get("system_fingerprint") or "").startswith(MOCK_FINGERPRINT),
        prompt_tokens=_whole(usage.get("prompt_tokens")),
        completion_tokens=_whole(usage.get("completion_tokens")),
    )


def read_object(answer: Answer) -> dict[str, Any]:
    """Return the JSON object of an answer that passes the guards.

    Raises:
        ContentError: it does not; names the fault.
    """
    text = _THOUGHTS.sub("", answer.text).strip()
    if answer.refusal or answer.finish_reason == "content_filter":
        raise ContentError("refusal", answer.refusal[:120] or "stopped by the content filter")
    if run := _WHITESPACE.search(answer.text):
        raise ContentError("whitespace", f"{run.end() - run.start()} blanks in a row")
    if not text:
        raise ContentError("empty", "an empty answer")
    if _is_loop(text):
        raise ContentError("loop", f"repeats itself: {text[-60:]!r}")
    if answer.finish_reason == "length":
        raise ContentError("length", f"cut at max_tokens, after {len(text):,} characters")
    value = _parse(text)
    if value is not None:
        return value
    if _REFUSAL.match(text):
        raise ContentError("refusal", repr(text[:80]))
    raise ContentError("not_json", f"no JSON object: {text[:80]!r}")


def _parse(text: str) -> dict[str, Any] | None:
    """Try the whole text, its fenced blocks, and from the first brace to the last."""
    fenced = [block.group(1) for block in _FENCED.finditer(text)]
    braces = text[text.find("{") : text.rfind("}") + 1]
    for candidate in (text, *reversed(fenced), braces):
        try:
            value = json.loads(candidate, strict=False)  # line ends in strings are common
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            return cast(dict[str, Any], value)
    return None


def _is_loop(text: str) -> bool:
    """Say whether words follow themselves over and over: few of them anywhere, many at the end."""
    words = _WORD.findall(text)
    if len(words) * 12 < len(text):  # a script without blanks: characters instead
        words = list(text.replace(" ", ""))
    grams = set(zip(*(words[i:] for i in range(_GRAM)), strict=False))
    if len(words) - _GRAM + 1 - len(grams) < _LOOP_WORDS // 2:
        return False  # a loop repeats more than that; ordinary text next to nothing
    tail = words[-_TAIL_WORDS:]
    periods = [(period, words) for period in range(1, _SHORT_PERIOD + 1)]
    periods += [(period, tail) for period in range(_SHORT_PERIOD + 1, _LONG_PERIOD + 1)]
    return any(
        _longest_run(some, period) >= max(_LOOP_WORDS, _LOOP_TURNS * period)
        for period, some in periods
    )


def _longest_run(words: list[str], period: int) -> int:
    """Return for how many words in a row each is the one that stood `period` before it."""
    same = "".join("=" if a == b else " " for a, b in zip(words, words[period:], strict=False))
    return max(map(len, same.split()), default=0)


def _text_of(content: Any) -> str:
    if isinstance(content, list):  # some servers answer in parts
        parts = cast(list[Any], content)
        texts = (cast(dict[str, Any], part).get("text") for part in parts if isinstance(part, dict))
        return "".join(str(text or "") for text in texts)
    return content if isinstance(content, str) else ""


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None
