"""Rules that look at a video's course: premises, absences, scenes, key events, summaries."""

from __future__ import annotations

import re

from hour_llava.videomarathon.checks.computed import labels_in
from hour_llava.videomarathon.checks.found import all_stems
from hour_llava.videomarathon.checks.rule import Finding, Rule, failed, passed, skipped
from hour_llava.videomarathon.checks.tables import Tables, aspect_text, in_time_order
from hour_llava.videomarathon.checks.words import (
    SMALL_WORDS,
    content_words,
    fold,
    jaccard,
    sentences_of,
    share_found,
    stem,
    words_of,
)
from hour_llava.videomarathon.records import Event, QAPair

MIN_RECALL = 0.8
MIN_TITLE_FOUND = 0.6
MAX_SCENE_LIKENESS = 0.9

_GENERIC_THINGS_TEXT = """
    video scene beginning start end middle moment time event series sequence way while story part
    rest course whole minute second hour group person people man woman viewer camera footage
    recording setting background foreground activity action process step result order number
    variety pair couple few lot bit kind type focus shift change journey day place area view shot
    series montage object item thing left right top bottom side front
"""
_GENERIC_THINGS: frozenset[str] = frozenset(stem(word) for word in _GENERIC_THINGS_TEXT.split())
_DETERMINERS = frozenset(
    ("a", "an", "the", "his", "her", "their", "its", "another", "some", "several", "two", "three")
)


def _premise_holds(row: QAPair, tables: Tables) -> Finding:
    """Recheck "A before B" and "A after B" wherever question or answer say it of two events."""
    titles = [event.title for event in tables.events]
    starts = {event.title: event.span.start_ms for event in tables.events}
    num_checked = 0
    for sentence in sentences_of(f"{row.question}\n{row.answer}"):
        named = labels_in(sentence, titles)
        if len(named) != 2:
            continue
        relation = _relation_in(fold(sentence), fold(named[0]), fold(named[1]))
        if relation is None:
            continue
        first, second = named if relation == "before" else named[::-1]
        num_checked += 1
        if starts[first] >= starts[second]:
            return failed(f'"{first}" does not come before "{second}"')
    return passed(f"{num_checked} checked") if num_checked else skipped("no premise of two events")


def _relation_in(sentence: str, first: str, second: str) -> str | None:
    """Return how the first-named stands to the second-named: "before" or "after"."""
    start, end = sentence.find(first), sentence.find(second)
    if start < 0 or end < 0:
        return None
    between = sentence[start + len(first) : end]
    lead = sentence[:start]
    if re.search(r"\bbefore\b", between):
        return "before"
    if re.search(r"\b(?:after|following)\b", between):
        return "after"
    if re.search(r"\bafter (?:the |a |an )?[\"'“‘]?$", lead):
        return "before"
    return "after" if re.search(r"\bbefore (?:the |a |an )?[\"'“‘]?$", lead) else None


def _goes_and_comes_back(row: QAPair, tables: Tables) -> Finding:
    evidence = in_time_order(row.evidence)
    if len(evidence) < 2:
        return failed(f"{len(evidence)} pieces of evidence; it must be seen twice")
    first, last = evidence[0], evidence[-1]
    referent = set(content_words(first.quote)) & set(content_words(last.quote))
    referent -= _GENERIC_THINGS
    asked = referent & set(content_words(f"{row.question} {row.answer}"))
    if not asked:
        return failed("the two quotes share nothing that is asked about")
    between = [
        caption
        for caption in tables.captions
        if caption.span.start_ms >= first.span.end_ms and caption.span.end_ms <= last.span.start_ms
    ]
    if not between:
        if tables.is_exact and last.span.start_ms > first.span.end_ms:
            return passed("out of sight for less than a clip")
        return failed("no clip between the two in which it is out of sight")
    absent = [c for c in between if not asked <= set(all_stems(aspect_text(c)))]
    if not absent:
        return failed(f"{', '.join(sorted(asked))} is in all {len(between)} clips between")
    return passed(f"out of sight in {len(absent)} of {len(between)} clips")


def _scene_changes(row: QAPair, tables: Tables) -> Finding:
    if len(row.evidence) < 2:
        return failed(f"{len(row.evidence)} sides of the change; both are needed")
    first, second = row.evidence[0], row.evidence[-1]
    if second.span.start_ms <= first.span.start_ms:
        return failed("the second side does not come after the first")
    gap_ms = second.span.start_ms - first.span.end_ms
    if not tables.is_exact and gap_ms > tables.stride_ms:
        return failed(f"the two sides are {gap_ms} ms apart; they are no neighbours")
    one, other = set(content_words(first.quote)), set(content_words(second.quote))
    if jaccard({(w,) for w in one}, {(w,) for w in other}) >= MAX_SCENE_LIKENESS:
        return failed("both sides say the same scene")
    answer = set(content_words(row.answer)) - set(content_words(row.question)) - _GENERIC_THINGS
    if answer and not answer & (one | other):
        return failed("neither side says the answer")
    return _is_on_its_side(row, answer, one, other)


_TURNS = r"(?:become\w*|changes? (?:in)?to|turns? (?:in)?to|gives? way to|leads? (?:in)?to)"
_NAMED = r"\s+(?:the|an?)\b"
_ASKS_NEXT = re.compile(
    rf"\b(?:after|next|following|follow\w*|{_TURNS}(?!{_NAMED})|into (?:what|which))\b"
)
_ASKS_PREVIOUS = re.compile(rf"\b(?:before|prece[d]\w*|previous\w*|prior)\b|\b{_TURNS}{_NAMED}")
_DOES_IT_FOLLOW = re.compile(r"\b(?:does|do|did)\b[^?]*\b(?:follow|precede)\b")


def _is_on_its_side(row: QAPair, answer: set[str], one: set[str], other: set[str]) -> Finding:
    """Hold "what follows the forest" against the order of the two sides."""
    question = fold(row.question)
    asks_next, asks_previous = _ASKS_NEXT.search(question), _ASKS_PREVIOUS.search(question)
    if _DOES_IT_FOLLOW.search(question):  # "which place does the desert follow?"
        asks_next, asks_previous = asks_previous, asks_next
    if bool(asks_next) == bool(asks_previous) or not answer or answer & one & other:
        return passed()
    side = other if asks_next else one
    if answer & (one if asks_next else other) and not answer & side:
        return failed("the answer is on the other side of the change")
    return passed()


def title_share(event: Event, known: set[str]) -> float:
    """Return which part of an event's title is among known stems."""
    return share_found(content_words(event.title) or all_stems(event.title), known)


def _is_one_event(row: QAPair, tables: Tables) -> Finding:
    if tables.global_caption is None:
        return skipped("no global caption")
    fitting = _events_meant(row, tables)
    if len(fitting) != 1:
        names = ", ".join(f'"{event.title}"' for event in fitting[:3]) or "none"
        return failed(f"the answer means {len(fitting)} events ({names}); one is needed")
    share = title_share(fitting[0], set(all_stems(tables.global_caption.text)))
    if share < MIN_TITLE_FOUND:
        return failed(f'the global caption has {share:.0%} of "{fitting[0].title}"')
    return passed(f'"{fitting[0].title}"')


def _events_meant(row: QAPair, tables: Tables) -> list[Event]:
    """Return the events whose title the answer names; else those whose words it shares most."""
    named = labels_in(row.answer, [event.title for event in tables.events])
    if named:
        return [event for event in tables.events if event.title in named]
    known = set(all_stems(row.answer))
    shares = [(title_share(event, known), event) for event in tables.events]
    best = max((share for share, _ in shares), default=0.0)
    return [e for share, e in shares if share == best] if best >= MIN_TITLE_FOUND else []


def _recalls_events(row: QAPair, tables: Tables) -> Finding:
    if not tables.events:
        return skipped("no events")
    known = set(all_stems(row.answer))
    missing = [e.title for e in tables.events if title_share(e, known) < MIN_TITLE_FOUND]
    recall = 1 - len(missing) / len(tables.events)
    if recall < MIN_RECALL:
        return failed(f'{recall:.0%} of the events are named; missing: "{missing[0]}"')
    return passed(f"{recall:.0%} of {len(tables.events)} events")


def _knows_all_things(row: QAPair, tables: Tables) -> Finding:
    known = {
        word for event in tables.events for word in all_stems(f"{event.title}\n{event.narrative}")
    }
    known |= {word for caption in tables.captions for word in all_stems(aspect_text(caption))}
    unknown = [thing for thing in things_in(row.answer) if stem(fold(thing)) not in known]
    if unknown:
        return failed(f'no event knows "{unknown[0]}"')
    return passed()


def things_in(text: str) -> list[str]:
    """List what a text names: words after an article, names inside a sentence, numbers.

    No part-of-speech tagger: the last of the words that follow "a" or "the" up to the next small
    word, for that is the noun in most English phrases.
    """
    found: list[str] = []
    for sentence in sentences_of(text):
        raw = re.findall(r"[^\W_]+(?:['’-][^\W_]+)*|[,.;:]", sentence)
        found += [w for w in raw[1:] if (w[0].isupper() and w not in ("I",)) or w.isdigit()]
        for at, word in enumerate(raw):
            if word.lower() in _DETERMINERS:
                thing = _noun_after(raw[at + 1 :])
                if thing is not None:
                    found.append(thing)
    return [w for w in found if words_of(w) and stem(words_of(w)[-1]) not in _GENERIC_THINGS]


def _noun_after(raw: list[str]) -> str | None:
    phrase: list[str] = []
    for word in raw[:5]:
        if word.lower() in SMALL_WORDS or not word[0].isalnum() or _looks_like_verb(word, phrase):
            break
        phrase.append(word)
    return words_of(phrase[-1])[-1] if phrase and words_of(phrase[-1]) else None


def _looks_like_verb(word: str, phrase: list[str]) -> bool:
    """Say whether a word after a noun says what it does: "the dog runs", "a man cutting"."""
    if not phrase:
        return False
    return bool(re.search(r"(?:ing|ed|ly)$", word)) or (
        word.endswith("s") and not word.endswith("ss") and not phrase[-1].endswith("s")
    )


STORY_RULES: tuple[Rule, ...] = (
    Rule(
        name="premise_order",
        looks_at="question, answer, event table",
        asks='"A before B" holds in the event table wherever it is said of two events',
        check=_premise_holds,
        tasks=frozenset({"temporal_reasoning"}),
    ),
    Rule(
        name="out_of_sight",
        looks_at="evidence, captions between",
        asks="seen, then in some clip not seen, then seen again, and it is the same thing",
        check=_goes_and_comes_back,
        tasks=frozenset({"object_permanence"}),
    ),
    Rule(
        name="scene_changes",
        looks_at="evidence, question, answer",
        asks="two neighbouring sides with different scenes, in their order, one says the answer",
        check=_scene_changes,
        tasks=frozenset({"scene_transition"}),
    ),
    Rule(
        name="one_key_event",
        looks_at="answer, event table, global caption",
        asks="the answer means exactly one event, which the global caption names",
        check=_is_one_event,
        tasks=frozenset({"key_event_extraction"}),
    ),
    Rule(
        name="event_recall",
        looks_at="answer, event table",
        asks="at least 80 % of the events are named",
        check=_recalls_events,
        tasks=frozenset({"overall_summarization"}),
    ),
    Rule(
        name="no_unknown_thing",
        looks_at="answer, events, captions",
        asks="no noun, name or number that neither an event nor a caption knows",
        check=_knows_all_things,
        tasks=frozenset({"overall_summarization"}),
    ),
)
