"""Words as the checks compare them: folded, stemmed lightly, without the small words.

A stem is only good for saying that two words are the same one ("grows" and "growing", "knives" and
"knife"); it is no dictionary form. English; other languages fall back to whole words.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable, Iterator
from types import MappingProxyType

from hour_llava.videomarathon.checks.synonyms import BASE_OF, SYNONYM_OF

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+|\n+")
_CLAUSE_END = re.compile(r"[.!?;,:]\s+|\s+(?:while|whereas|but|and then)\s+|\n+")
_PHRASE_END = re.compile(
    r"\s(?:(?:and|or)(?=\s(?:an?|the|his|her|their|its|some|two|three|another|one)\b)|with|beside|"
    r"near|next to|behind|above|below|under|over|on|in|at|by|of|from|"
    r"inside|against|around|between|holding|wearing|carrying)\s",
    re.IGNORECASE,
)

_SMALL_WORDS_TEXT = """
    a an the this that these those there here it its it's he she they them him her his hers their
    we you i me my your our is are was were be been being am do does did doing done has have had
    having will would can could shall should may might must of in on at by for to from with into
    onto over under as and or nor but if then than so such not no yes what which who whom whose
    when where why how all any both each few more most other some own same only very just also too
    about after before during until while again further once up down out off through between
    because s t re ve ll d one ones thing things something someone
"""
SMALL_WORDS: frozenset[str] = frozenset(_SMALL_WORDS_TEXT.split())
"""Words that say nothing of what is seen. Left and right, first and last are not among them."""

_NEGATIONS: frozenset[str] = frozenset({"no", "not", "without", "never", "neither", "nor"})


def fold(text: str) -> str:
    """Return text in one case, one kind of quote, single spaces."""
    plain = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    return " ".join(plain.split())


def words_of(text: str) -> list[str]:
    """List all words, folded, in order; "Tom's" gives "tom"."""
    return [word.removesuffix("'s") for word in _WORD.findall(fold(text))]


@functools.lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
    """Return a word without its ending, and as the first of its synonyms.

    >>> stem("growing") == stem("grows"), stem("couches") == stem("sofa")
    (True, True)
    """
    base = BASE_OF.get(word, word)
    for form in (base, _singular(base)):
        if form in SYNONYM_OF:
            return _cut(SYNONYM_OF[form])
    cut = _cut(base)
    return _SYNONYM_OF_STEM.get(cut, cut)


def _singular(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if re.search(r"(?:s|x|z|ch|sh)es$", word):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def _cut(word: str) -> str:
    """Cut -s, -es, -ies, -ed, -ing, doubled consonants and a silent e."""
    if len(word) <= 3 or not word.isalpha():
        return word
    word = _singular(word)
    for ending in ("ing", "ed"):
        base = word.removesuffix(ending)
        if base != word and len(base) >= 3 and re.search("[aeiouy]", base):
            word = base
            if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "lsz":
                word = word[:-1]
            break
    word = word.removesuffix("e") if len(word) > 3 else word
    word = re.sub(r"v$", "f", word)
    return re.sub("i$", "y", word)


_SYNONYM_OF_STEM = MappingProxyType({_cut(word): _cut(SYNONYM_OF[word]) for word in SYNONYM_OF})


def content_words(text: str) -> list[str]:
    """List the stems of the words that say something, in order."""
    return [stem(word) for word in words_of(text) if word not in SMALL_WORDS]


def sentences_of(text: str) -> list[str]:
    """Split a text into its sentences."""
    return [part for part in _SENTENCE_END.split(text.strip()) if part.strip()]


def clauses_of(text: str) -> list[str]:
    """Split a text into sentences and their parts at commas, colons, "while" and "but"."""
    return [part for part in _CLAUSE_END.split(text.strip() + " ") if part.strip()]


def phrases_of(text: str) -> list[str]:
    """Split clauses further, at "and" and at prepositions: "a red car | and a blue bus"."""
    return [part for clause in clauses_of(text) for part in _PHRASE_END.split(clause) if part]


def ngrams(words: list[str], size: int) -> set[tuple[str, ...]]:
    """Return all runs of `size` words; a shorter text is one run."""
    if not words:
        return set()
    return {tuple(words[i : i + size]) for i in range(max(1, len(words) - size + 1))}


def jaccard(first: set[tuple[str, ...]], second: set[tuple[str, ...]]) -> float:
    """Return shared over all; 0 for two empty sets."""
    union = len(first | second)
    return len(first & second) / union if union else 0.0


def share_found(wanted: Iterable[str], known: Iterable[str]) -> float:
    """Return which part of the stems is among the known ones; 1 for none wanted."""
    stems = set(wanted)
    return len(stems & set(known)) / len(stems) if stems else 1.0


def mentions(text: str, term: str) -> bool:
    """Say whether a text affirms a term: its words in a row, synonyms count, "no dog" does not."""
    wanted = content_words(term)
    return bool(wanted) and any(_affirms(clause, wanted) for clause in _affirmable(text))


def _affirmable(text: str) -> Iterator[list[str]]:
    for sentence in sentences_of(text):
        yield words_of(sentence)


def _affirms(words: list[str], wanted: list[str]) -> bool:
    kept = [(i, stem(word)) for i, word in enumerate(words) if word not in SMALL_WORDS]
    stems = [s for _, s in kept]
    for at in range(len(stems) - len(wanted) + 1):
        if stems[at : at + len(wanted)] != wanted:
            continue
        place = kept[at][0]
        if not _NEGATIONS & set(words[max(0, place - 3) : place]):
            return True
    return False
