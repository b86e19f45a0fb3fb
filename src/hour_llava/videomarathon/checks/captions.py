"""Is a clip caption what was asked for? Rules for model text: refusals, loops, chatter, copies.

Captions of a truth file or of measured facts are templates and right by construction: they are not
looked at (outcome "skip"). A caption is usable when no rule says "fail".
Source: arXiv 2506.05332, clip captions (their form); these checks are ours.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

from hour_llava.videomarathon.checks.rule import Finding, failed, passed, skipped
from hour_llava.videomarathon.checks.tables import aspect_text
from hour_llava.videomarathon.checks.words import jaccard, ngrams, words_of
from hour_llava.videomarathon.records import Aspects, ClipCaption, Verdict

MIN_WORDS, MIN_SUMMARY_WORDS = 20, 4
LOOP_SIZES = (1, 2, 3, 4, 5, 6, 8)
MAX_REPEATS = 4
COPIED_JACCARD = 0.9

_REFUSAL = re.compile(
    r"\b(?:(?:i['’]?m|i am) (?:sorry|afraid|unable|not able)|i (?:can(?:not|['’]?t| not)|could not|"
    r"could(?:n['’]?t)|won['’]?t) (?:\w+ )?"
    r"(?:help|assist|comply|describe|see|view|identify|analy[sz]e|"
    r"provide|access|process|determine)|as an? (?:ai|artificial|language|large)\b|"
    r"(?:no|without) (?:image|video|frame)s? (?:was|were|is|are|has been|have been)? ?"
    r"(?:provided|attached|given|available|supplied)|unable to (?:see|view|access|process|describe|"
    r"analy[sz]e|assist|help|comply)|against my (?:guidelines|policy)|content policy)",
    re.IGNORECASE,
)
_BOILERPLATE = re.compile(
    r"(?:^\s*(?:sure|certainly|of course|absolutely|okay|great)[,!.:]|\bhere(?:['’]s| is| are) "
    r"(?:the|a|an|your|my) (?:\w+ ){0,3}(?:caption|description|summary|json|answer|analysis|output|"
    r"response|breakdown)|\b(?:i )?hope (?:this|that) helps|\blet me know if|\bfeel free to|"
    r"```|\bjson (?:object|format)\b|\bthe (?:provided|given) (?:image|frame|clip|video)s?\b|"
    r"\[(?:insert|your|description)[^\]]*\]|"
    r"\b(?:lorem ipsum|placeholder)\b|\bas requested\b|\bplease note that\b)",
    re.IGNORECASE | re.MULTILINE,
)

_FUNCTION_WORDS = MappingProxyType(
    {
        "en": "the a an of and in is to with on at are as it from by his her their while this that",
        "de": "der die das ein eine und ist mit auf im den dem von zu sich sind wird während einem",
        "fr": "le la les un une des et est dans avec sur du de qui au il elle sont pendant aux en",
        "es": "el la los las un una y es en con de del que se por su está al son mientras",
        "it": "il lo la gli un una e è nel con di del che si su della sono mentre al dalla",
        "pt": "o a os as um uma e é em com de do da que se por no na são enquanto ao",
        "nl": "de het een en is in met op van te zijn wordt die dat aan terwijl naar door er",
    }
)
_SCRIPTS = MappingProxyType(
    {
        "zh": r"[\u4e00-\u9fff]",
        "ja": r"[\u3040-\u30ff\u4e00-\u9fff]",
        "ko": r"[\uac00-\ud7af\u1100-\u11ff]",
        "ru": r"[\u0400-\u04ff]",
        "uk": r"[\u0400-\u04ff]",
        "el": r"[\u0370-\u03ff]",
        "ar": r"[\u0600-\u06ff]",
        "fa": r"[\u0600-\u06ff]",
        "he": r"[\u0590-\u05ff]",
        "hi": r"[\u0900-\u097f]",
        "th": r"[\u0e00-\u0e7f]",
    }
)
_LATIN = r"[a-z\u00c0-\u024f]"


@dataclass(frozen=True, kw_only=True)
class CaptionRule:
    """A rule for captions; `check` sees the caption, the one before it, and the language."""

    name: str
    asks: str
    check: Callable[[ClipCaption, ClipCaption | None, str], Finding]


def check_caption(
    caption: ClipCaption, previous: ClipCaption | None, *, language: str = "en"
) -> tuple[Verdict, ...]:
    """Look at one caption by all rules.

    Args:
        caption: The caption.
        previous: The clip's before it, in time; None for the first.
        language: What was asked for: "en", "de", ... ; an unknown one skips that rule.
    """
    return tuple(_verdict(rule, caption, previous, language) for rule in CAPTION_RULES)


def _verdict(
    rule: CaptionRule, caption: ClipCaption, previous: ClipCaption | None, language: str
) -> Verdict:
    if caption.provenance.backend in ("truth", "embedded"):
        outcome, detail = skipped("worded from a table")
    else:
        outcome, detail = rule.check(caption, previous, language)
    return Verdict(rule=rule.name, outcome=outcome, detail=detail)


def _says_no_refusal(caption: ClipCaption, _: ClipCaption | None, __: str) -> Finding:
    found = _REFUSAL.search(aspect_text(caption))
    return failed(f'"{found.group()}"') if found else passed()


def _has_no_chatter(caption: ClipCaption, _: ClipCaption | None, __: str) -> Finding:
    found = _BOILERPLATE.search(aspect_text(caption))
    return failed(f'"{found.group().strip()}"') if found else passed()


def _is_long_enough(caption: ClipCaption, _: ClipCaption | None, __: str) -> Finding:
    for name in Aspects.model_fields:
        if not words_of(str(getattr(caption.aspects, name))):
            return failed(f"{name} is empty")
    num_words = len(words_of(aspect_text(caption)))
    num_summary = len(words_of(caption.aspects.summary))
    if num_summary < MIN_SUMMARY_WORDS:
        return failed(f"a summary of {num_summary} words; {MIN_SUMMARY_WORDS} are asked")
    if num_words < MIN_WORDS:
        return failed(f"{num_words} words in all; {MIN_WORDS} are asked")
    return passed(f"{num_words} words")


def _does_not_loop(caption: ClipCaption, _: ClipCaption | None, __: str) -> Finding:
    for name in Aspects.model_fields:
        words = words_of(str(getattr(caption.aspects, name)))
        looped = _repeated_run(words) or _repeated_often(words)
        if looped:
            return failed(f'{name} repeats "{looped}"')
    return passed()


def _repeated_run(words: list[str]) -> str | None:
    """Find words that follow themselves: "the man walks the man walks the man walks ..."."""
    for size in LOOP_SIZES:
        run = 1
        for at in range(size, len(words) - size + 1):
            run = run + 1 if words[at] == words[at - size] else 1
            if run >= size * (MAX_REPEATS - 1) + 1 and run > size:
                return " ".join(words[at - size + 1 : at + 1])
    return None


def _repeated_often(words: list[str]) -> str | None:
    """Find four words that make up a third of a text, however they are spread."""
    runs = Counter(tuple(words[i : i + 4]) for i in range(len(words) - 3))
    if not runs:
        return None
    run, times = runs.most_common(1)[0]
    return " ".join(run) if times >= MAX_REPEATS and times * 4 * 3 >= len(words) else None


def _is_no_copy(caption: ClipCaption, previous: ClipCaption | None, _: str) -> Finding:
    if previous is None:
        return skipped("the first clip")
    here, there = (ngrams(words_of(aspect_text(c)), 5) for c in (caption, previous))
    likeness = jaccard(here, there)
    if likeness >= COPIED_JACCARD:
        return failed(f"{likeness:.2f} like the caption of {previous.clip_id}")
    return passed(f"{likeness:.2f}")


def _is_in_language(caption: ClipCaption, _: ClipCaption | None, language: str) -> Finding:
    text = aspect_text(caption).lower()
    code = language.lower().split("-")[0].split("_")[0]
    letters = sum(letter.isalpha() for letter in text)
    if code not in _FUNCTION_WORDS and code not in _SCRIPTS:
        return skipped(f"no table for the language {language!r}")
    if not letters:
        return failed("no letters")
    share = len(re.findall(_SCRIPTS.get(code, _LATIN), text)) / letters
    if share < 0.7:
        return failed(f"{share:.0%} of the letters are of the script of {code}")
    if code in _SCRIPTS:
        return passed(f"{share:.0%} of its script")
    words = words_of(text)
    rates = {c: _rate(words, table) for c, table in _FUNCTION_WORDS.items()}
    best = max(rates, key=lambda c: (rates[c], c == code))
    if best != code and rates[best] > 1.25 * rates[code] and rates[best] > 0.1:
        return failed(f"reads like {best} ({rates[best]:.0%} of its small words), not {code}")
    return passed(f"{rates[code]:.0%} small words of {code}")


def _rate(words: list[str], table: str) -> float:
    known = set(table.split())
    return sum(word in known for word in words) / max(1, len(words))


CAPTION_RULES: tuple[CaptionRule, ...] = (
    CaptionRule(
        name="refusal",
        asks="the model describes; it does not say that it cannot",
        check=_says_no_refusal,
    ),
    CaptionRule(
        name="boilerplate",
        asks='no chatter around the caption ("Sure, here is the JSON")',
        check=_has_no_chatter,
    ),
    CaptionRule(
        name="too_short",
        asks=f"no aspect is empty, {MIN_SUMMARY_WORDS} words of summary, {MIN_WORDS} in all",
        check=_is_long_enough,
    ),
    CaptionRule(
        name="loop",
        asks="no words that follow themselves four times, no four words that make up a third",
        check=_does_not_loop,
    ),
    CaptionRule(
        name="copied_neighbour",
        asks="word 5-grams less than 0.9 alike with the clip before it",
        check=_is_no_copy,
    ),
    CaptionRule(
        name="wrong_language",
        asks="script and small words are those of the language asked for",
        check=_is_in_language,
    ),
)
