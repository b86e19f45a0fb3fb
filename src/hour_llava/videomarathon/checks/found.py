"""Is the answer in the cited caption, with its subject, and are the wrong options not?

For the short-form tasks. Words that the question already says prove nothing, so only the others are
looked for. Of a truth row only the quoted words are held against the distractors: its captions list
everything in the picture, and the question is known to have one answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from hour_llava.tasks import task_named
from hour_llava.videomarathon.checks.rule import Finding, Rule, failed, passed, skipped
from hour_llava.videomarathon.checks.tables import Tables, aspect_text
from hour_llava.videomarathon.checks.words import (
    SMALL_WORDS,
    clauses_of,
    content_words,
    phrases_of,
    sentences_of,
    share_found,
    stem,
    words_of,
)
from hour_llava.videomarathon.records import ClipCaption, QAPair

MIN_FOUND = 0.6

_GENERIC_TEXT = """
    colour color kind type sort object item person people man woman video scene moment time part
    place position side shape size number seen shown visible appear see show happen take located
    find happening performing doing currently using held being picture screen frame describe name
    tell identify stand lie sit hang kindly relation relative compared main person's setting action
"""
_GENERIC = frozenset(stem(word) for word in _GENERIC_TEXT.split())

OPPOSITES: tuple[tuple[str, str], ...] = (
    ("left", "right"),
    ("top", "bottom"),
    ("upper", "lower"),
    ("above", "below"),
    ("over", "under"),
    ("front", "behind"),
    ("front", "back"),
    ("inside", "outside"),
    ("near", "far"),
    ("foreground", "background"),
    ("up", "down"),
    ("grow", "shrink"),
    ("rise", "fall"),
    ("rise", "sink"),
    ("rise", "set"),
    ("open", "close"),
    ("begin", "end"),
    ("increase", "decrease"),
    ("appear", "disappear"),
    ("enter", "leave"),
    ("enter", "exit"),
    ("brighten", "darken"),
    ("brighter", "darker"),
    ("bright", "dark"),
    ("faster", "slower"),
    ("quickly", "slowly"),
    ("accelerate", "slow"),
    ("fill", "empty"),
    ("forward", "backward"),
    ("clockwise", "counterclockwise"),
    ("more", "less"),
    ("louder", "quieter"),
    ("approach", "recede"),
    ("advance", "retreat"),
    ("expand", "contract"),
    ("melt", "freeze"),
)


_COLOURS_TEXT = """
    red orange yellow green cyan turquoise blue purple violet pink white black grey brown beige gold
    silver golden maroon navy teal magenta tan cream
"""
_COLOURS = frozenset(stem(word) for word in _COLOURS_TEXT.split())


def _opposite_table() -> Mapping[str, frozenset[str]]:
    table: dict[str, set[str]] = {}
    for one, other in OPPOSITES:
        table.setdefault(stem(one), set()).add(stem(other))
        table.setdefault(stem(other), set()).add(stem(one))
    return MappingProxyType({word: frozenset(others) for word, others in table.items()})


_OPPOSITES_OF = _opposite_table()


def all_stems(text: str) -> list[str]:
    """Return the stems of all words; "above" and "up" are small but not empty of meaning here."""
    return [stem(word) for word in words_of(text)]


def informative(text: str, row: QAPair) -> set[str]:
    """Return the stems of a text that carry it: not the question's, not "somebody" or "slowly".

    Where nothing is left, less is taken away, at last nothing.
    """
    words = [word for word in words_of(text) if word not in SMALL_WORDS] or words_of(text)
    asked = set(content_words(row.question))
    stems = {stem(word) for word in words}
    weighty = {stem(word) for word in words if not word.endswith("ly")} - _GENERIC
    return (weighty - asked) or (stems - asked) or stems


def _cited_captions(row: QAPair, tables: Tables) -> list[ClipCaption]:
    ids = [e.clip_id for e in row.evidence if e.clip_id is not None]
    return [tables.caption_of[i] for i in ids if i in tables.caption_of]


def _cited_texts(row: QAPair, tables: Tables) -> list[str]:
    texts = [aspect_text(caption) for caption in _cited_captions(row, tables)]
    others = [tables.cited_text(e) for e in row.evidence if e.clip_id is None]
    return texts + [text for text in others if text is not None]


def _is_found(row: QAPair, tables: Tables) -> Finding:
    text = "\n".join(_cited_texts(row, tables))
    if not text:
        return skipped("nothing is cited")
    wanted = informative(row.answer, row)
    known = set(all_stems(text))
    share = share_found(wanted, known)
    missing = ", ".join(sorted(wanted - known))
    if share < MIN_FOUND:
        return failed(f"{share:.0%} of the answer's words are cited; missing: {missing}")
    return passed(f"{share:.0%} found")


def _is_found_together(row: QAPair, tables: Tables) -> Finding:
    """Find the answer and something that the question names in one sentence."""
    texts = _cited_texts(row, tables)
    if not texts:
        return skipped("nothing is cited")
    wanted = informative(row.answer, row)
    named = _named_things(row)
    sentences = [set(all_stems(s)) for text in texts for s in sentences_of(text)]
    fitting = [s for s in sentences if share_found(wanted, s) >= MIN_FOUND]
    if not fitting:
        return failed("no cited sentence holds the answer")
    if named and not any(named & sentence for sentence in fitting):
        return failed(f"no cited sentence joins the answer with {', '.join(sorted(named))}")
    other = _other_colour(wanted, named, [s for text in texts for s in phrases_of(text)])
    return failed(f'"{other}" is cited of it') if other else passed()


def _other_colour(wanted: set[str], named: set[str], phrases: list[str]) -> str | None:
    """Return a phrase that gives the named thing a colour, where none gives it the answer's."""
    colour = wanted & _COLOURS
    about = [(phrase, set(all_stems(phrase))) for phrase in phrases]
    about = [(phrase, stems) for phrase, stems in about if named & stems and stems & _COLOURS]
    if not colour or not about or any(colour & stems for _, stems in about):
        return None
    return about[0][0].strip()


def _named_things(row: QAPair) -> set[str]:
    return set(content_words(row.question)) - _GENERIC - informative(row.answer, row)


def _scope(row: QAPair, tables: Tables) -> list[str]:
    """Return the texts in which a wrong option must not be: quotes, or the task's aspects too."""
    quotes = [e.quote for e in row.evidence]
    if tables.is_exact:
        return quotes
    aspects = [source.lower() for source in task_named(row.task).source]
    captions = _cited_captions(row, tables)
    return quotes + [
        aspect_text(caption, aspect)
        for caption in captions
        for aspect in aspects
        if aspect in type(caption.aspects).model_fields
    ]


def _distractors_are_absent(row: QAPair, tables: Tables) -> Finding:
    texts = _scope(row, tables)
    if not texts:
        return skipped("nothing is cited")
    known = {word for text in texts for word in all_stems(text)}
    for option, words in _distractors(row):
        if words <= known:
            return failed(f'the cited caption also says "{option}"')
    return passed()


def _distractors(row: QAPair) -> list[tuple[str, set[str]]]:
    """List the wrong options with the words that neither question nor answer says."""
    ours = set(all_stems(row.answer))
    found: list[tuple[str, set[str]]] = []
    for option in row.options or ():
        words = informative(option, row) - ours
        if option != row.answer and words:
            found.append((option, words))
    return found


def _other_attributes_are_absent(row: QAPair, tables: Tables) -> Finding:
    """Look at phrases that name the question's thing: the red car may stand beside a blue bus."""
    texts = _scope(row, tables)
    if not texts:
        return skipped("nothing is cited")
    named = _named_things(row)
    phrases = [set(all_stems(phrase)) for text in texts for phrase in phrases_of(text)]
    about = [phrase for phrase in phrases if named & phrase]
    for option, words in _distractors(row):
        if any(words <= phrase for phrase in about):
            return failed(f'the cited caption also says "{option}" of it')
    return passed()


def _inverse_in(row: QAPair, text: str) -> str | None:
    """Return a clause that says the opposite of the answer about the same things."""
    answer = set(all_stems(row.answer))
    relations = {word for word in answer if word in _OPPOSITES_OF}
    things = (_named_things(row) | (set(content_words(row.answer)) - relations)) - _GENERIC
    for clause in clauses_of(text):
        words = set(all_stems(clause))
        if not things & words or not _is_about(things, words, text):
            continue
        for relation in relations:
            if relation not in words and _OPPOSITES_OF[relation] & words:
                return clause.strip()
    return None


def _is_about(things: set[str], clause: set[str], text: str) -> bool:
    """Say whether a clause names all of the things that its text names at all."""
    return things & set(all_stems(text)) <= clause


def _inverse_is_absent(row: QAPair, tables: Tables) -> Finding:
    if not any(word in _OPPOSITES_OF for word in all_stems(row.answer)):
        return skipped("no relation with an inverse")
    for text in _scope(row, tables):
        clause = _inverse_in(row, text)
        if clause:
            return failed(f'the cited caption says "{clause}"')
    return passed()


def _is_not_contradicted(row: QAPair, tables: Tables) -> Finding:
    """Ask the cited clip and those that overlap the cited span for the opposite."""
    if not any(word in _OPPOSITES_OF for word in all_stems(row.answer)):
        return skipped("no change with an opposite")
    texts = _scope(row, tables)
    if not tables.is_exact:
        spans = [e.span for e in row.evidence]
        texts += [
            caption.aspects.temporality
            for caption in tables.captions
            if any(span.overlap_ms(caption.span) for span in spans)
        ]
    for text in texts:
        clause = _inverse_in(row, text)
        if clause:
            return failed(f'a clip of the same seconds says "{" ".join(clause.split())}"')
    return passed()


FOUND_RULES: tuple[Rule, ...] = (
    Rule(
        name="answer_found",
        looks_at="answer, cited captions",
        asks="three fifths of the answer's own words stand in the cited captions",
        check=_is_found,
        tasks=frozenset(
            {
                "temporal_perception",
                "spatial_perception",
                "object_recognition",
                "object_attribute",
                "object_interaction",
                "action_recognition",
                "scene_recognition",
            }
        ),
    ),
    Rule(
        name="found_together",
        looks_at="question, answer, cited captions",
        asks="one cited sentence holds the answer and a thing that the question names",
        check=_is_found_together,
        tasks=frozenset({"object_attribute", "object_interaction"}),
    ),
    Rule(
        name="distractors_absent",
        looks_at="options, cited captions",
        asks="no wrong option stands in the cited caption's aspect",
        check=_distractors_are_absent,
        formats=("mc",),
        tasks=frozenset(
            {"object_recognition", "object_interaction", "action_recognition", "scene_recognition"}
        ),
    ),
    Rule(
        name="other_attributes_absent",
        looks_at="options, cited captions",
        asks="no cited clause says a wrong option of the same thing",
        check=_other_attributes_are_absent,
        formats=("mc",),
        tasks=frozenset({"object_attribute"}),
    ),
    Rule(
        name="inverse_absent",
        looks_at="answer, cited captions",
        asks="no cited clause says the inverse relation of the same things",
        check=_inverse_is_absent,
        tasks=frozenset({"spatial_perception"}),
    ),
    Rule(
        name="not_contradicted",
        looks_at="answer, cited captions, overlapping clips",
        asks="no clip of the same seconds says the opposite change of the same thing",
        check=_is_not_contradicted,
        tasks=frozenset({"temporal_perception"}),
    ),
)
