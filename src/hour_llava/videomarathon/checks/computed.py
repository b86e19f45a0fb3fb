"""Compute computed answers again: durations, gaps, orders, places in time, existence.

Two rules: the claim agrees with the tables, and the answer's words agree with the claim. Times of a
model's events are good to a stride; those of a truth file are exact, and words may round them to
half a second.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from types import MappingProxyType

from hour_llava.tasks import TASKS
from hour_llava.videomarathon.checks.quantities import overlap_ratio, single_length, span_in
from hour_llava.videomarathon.checks.rule import Finding, Rule, failed, passed, skipped
from hour_llava.videomarathon.checks.tables import Tables, aspect_text
from hour_llava.videomarathon.checks.words import content_words, fold, mentions, stem, words_of
from hour_llava.videomarathon.records import Claim, ClaimItem, QAPair, Span

COMPUTED_TASKS: frozenset[str] = frozenset(task.slug for task in TASKS if task.is_computed)
CLAIM_OF_TASK: Mapping[str, str] = MappingProxyType(
    {
        "duration_perception": "duration",
        "temporal_gap_estimation": "gap",
        "temporal_order": "order",
        "action_sequence": "order",
        "event_sequence": "order",
        "action_localization": "localization",
        "object_existence": "existence",
    }
)
ROUNDING_MS = 500
MIN_OVERLAP = 0.5
MIN_SEQUENCE = 3

_EARLY = re.compile(
    r"\b(?:first|before|earlier|earliest|sooner|soonest|precedes?|preceded|leads|initially|starts?)\b"
)
_LATE = re.compile(r"\b(?:last|after|later|latest|follows?|followed|second|next|finally|ends?)\b")
_TURNED = re.compile(r"\b(?:after|follow(?:s|ed|ing)?|later than|preceded by)\b")
_BACKWARDS = re.compile(r"\b(?:reverse|backwards?|last to first|latest to earliest)\b")


def _agrees_with_tables(row: QAPair, tables: Tables) -> Finding:
    claim = row.claim
    if claim is None:
        return failed("a computed answer without a claim cannot be computed again")
    wanted = CLAIM_OF_TASK[row.task]
    if claim.claim != wanted:
        return failed(f"a claim of {claim.claim}; {row.task} needs one of {wanted}")
    for item in claim.items:
        trouble = _item_trouble(item, row, tables)
        if trouble:
            return failed(trouble)
    return _AGAIN[claim.claim](claim, row, tables)


def _item_trouble(item: ClaimItem, row: QAPair, tables: Tables) -> str | None:
    """Say why an item does not stand in the tables as the claim has it."""
    if item.span.end_ms > tables.video.duration_ms:
        return f'"{item.label}" ends at {item.span.end_ms} ms of {tables.video.duration_ms}'
    if item.event_id is not None:
        event = tables.event_of.get(item.event_id)
        if event is None:
            return f'"{item.label}": no event {item.event_id}'
        if _is_off(item.span, event.span, tables.tolerance_ms):
            return f'"{item.label}" is at {_ms(event.span)} in the table, not {_ms(item.span)}'
        return None
    if item.clip_id is not None:
        caption = tables.caption_of.get(item.clip_id)
        if caption is None:
            return f'"{item.label}": no clip {item.clip_id}'
        return None if item.span.overlap_ms(caption.span) else f'"{item.label}" is not in its clip'
    if not tables.is_exact:
        return f'"{item.label}" is of no event and no clip'
    if row.evidence and not any(item.span.overlap_ms(e.span) for e in row.evidence):
        return f'"{item.label}" at {_ms(item.span)} is in none of the evidence'
    return None


def _ms(span: Span) -> str:
    return f"{span.start_ms}-{span.end_ms} ms"


def _is_off(first: Span, second: Span, tolerance_ms: int) -> bool:
    return (
        abs(first.start_ms - second.start_ms) > tolerance_ms
        or abs(first.end_ms - second.end_ms) > tolerance_ms
    )


def _table_span(item: ClaimItem, tables: Tables) -> Span:
    """Return the event table's span where the item is an event, else the item's own."""
    return item.span if item.event_id is None else tables.event_of[item.event_id].span


def _duration_again(claim: Claim, _: QAPair, tables: Tables) -> Finding:
    if len(claim.items) != 1:
        return failed(f"a duration of {len(claim.items)} things; one is needed")
    twin = _titled_twice(claim, tables)
    return (
        failed(twin)
        if twin
        else _same_ms(claim, _table_span(claim.items[0], tables).duration_ms, tables)
    )


def _gap_again(claim: Claim, _: QAPair, tables: Tables) -> Finding:
    if len(claim.items) != 2:
        return failed(f"a gap between {len(claim.items)} things; two are needed")
    twin = _titled_twice(claim, tables)
    if twin:
        return failed(twin)
    first, second = (_table_span(item, tables) for item in claim.items)
    gap_ms = second.start_ms - first.end_ms
    if gap_ms < 0:
        return failed(f"the second starts {-gap_ms} ms before the first ends")
    return _same_ms(claim, gap_ms, tables)


def _same_ms(claim: Claim, again_ms: int, tables: Tables) -> Finding:
    if not re.fullmatch(r"\d+", claim.value):
        return failed(f"{claim.value!r} is no number of milliseconds")
    off = abs(int(claim.value) - again_ms)
    if off > tables.tolerance_ms:
        return failed(f"{again_ms} ms by the tables, {claim.value} ms claimed")
    return passed(f"{again_ms} ms")


def _titled_twice(claim: Claim, tables: Tables) -> str | None:
    """Name a title that two events share: the question would not say which is meant."""
    for item in claim.items:
        title = _key(item.label)
        events = [e for e in tables.events if _key(e.title) == title]
        if len(events) > 1:
            return f'{len(events)} events are called "{item.label}"'
    labels = [tuple(_key(item.label)) for item in claim.items]
    return None if len(set(labels)) == len(labels) else "two things of one name"


def _key(text: str) -> list[str]:
    """Return the words by which a label is found again; "turn on" is not "turn off"."""
    return [stem(word) for word in words_of(text) if word not in ("a", "an", "the")]


def _order_again(claim: Claim, row: QAPair, tables: Tables) -> Finding:
    needed = MIN_SEQUENCE if row.task == "event_sequence" else 2
    if len(claim.items) < needed:
        return failed(f"an order of {len(claim.items)} things; {needed} are the least")
    twin = _titled_twice(claim, tables)
    if twin:
        return failed(twin)
    starts = [(_table_span(item, tables).start_ms, item.label) for item in claim.items]
    starts.sort()
    margin = min(b[0] - a[0] for a, b in pairwise(starts))
    least = max(1, tables.tolerance_ms)
    if margin < least:
        return failed(f"two start {margin} ms apart; {least} ms are needed")
    again = " > ".join(label for _, label in starts)
    if fold(again) != fold(claim.value):
        return failed(f'"{again}" by the tables')
    turned = " > ".join(label for _, label in reversed(starts))
    if fold(turned) == fold(claim.value):
        return failed("the reversed timeline gives the same answer")
    return passed(f"{margin} ms apart at least")


def _place_again(claim: Claim, row: QAPair, tables: Tables) -> Finding:
    if len(claim.items) != 1:
        return failed(f"the place of {len(claim.items)} things; one is needed")
    said = _span_of(claim.value)
    if said is None:
        return failed(f"{claim.value!r} is no span of milliseconds")
    if said.end_ms > tables.video.duration_ms:
        return failed(f"{_ms(said)} in a video of {tables.video.duration_ms} ms")
    span = _table_span(claim.items[0], tables)
    if _is_off(said, span, tables.tolerance_ms):
        return failed(f"{_ms(span)} by the tables, {_ms(said)} claimed")
    if row.evidence and not any(said.overlap_ms(e.span) for e in row.evidence):
        return failed(f"{_ms(said)} is in none of the evidence")
    if tables.is_exact or claim.term is None:
        return passed(_ms(said))
    return _is_one_run(said, claim.term, tables)


def _is_one_run(said: Span, term: str, tables: Tables) -> Finding:
    """Hold a span against the clips whose captions say the term: one run, half shared."""
    runs: list[Span] = []
    was_hit = False
    for caption in tables.captions:
        is_hit = mentions(aspect_text(caption), term)
        if is_hit and was_hit:
            runs[-1] = Span(start_ms=runs[-1].start_ms, end_ms=caption.span.end_ms)
        elif is_hit:
            runs.append(caption.span)
        was_hit = is_hit
    if not runs:
        return failed(f'no clip says "{term}"')
    if len(runs) > 1:
        return failed(f'"{term}" is said in {len(runs)} runs of clips; one is needed')
    shared = overlap_ratio(said, runs[0])
    if shared < MIN_OVERLAP:
        return failed(f'"{term}" is said at {_ms(runs[0])}: {shared:.2f} shared with {_ms(said)}')
    return passed(f"{shared:.2f} shared with the clips that say it")


def _span_of(value: str) -> Span | None:
    match = re.fullmatch(r"(\d+)-(\d+)", value)
    if match is None or int(match[2]) <= int(match[1]):
        return None
    return Span(start_ms=int(match[1]), end_ms=int(match[2]))


def _existence_again(claim: Claim, row: QAPair, tables: Tables) -> Finding:
    if claim.term is None or not content_words(claim.term):
        return failed("no term to look for")
    hits = [c.clip_id for c in tables.captions if mentions(aspect_text(c), claim.term)]
    hits += [e.id for e in tables.events if mentions(f"{e.title}\n{e.narrative}", claim.term)]
    again = "yes" if hits else "no"
    if claim.value != again:
        return failed(f'"{claim.term}" is in {len(hits)} captions; "{claim.value}" is claimed')
    if not set(content_words(claim.term)) <= set(content_words(row.question)):
        return failed(f'the question does not ask for "{claim.term}"')
    return passed(f"{len(hits)} hits")


_AGAIN: Mapping[str, Callable[[Claim, QAPair, Tables], Finding]] = MappingProxyType(
    {
        "duration": _duration_again,
        "gap": _gap_again,
        "order": _order_again,
        "localization": _place_again,
        "existence": _existence_again,
    }
)


def _says_what_is_claimed(row: QAPair, tables: Tables) -> Finding:
    if row.claim is None:
        return skipped("no claim")
    if row.claim.claim in ("duration", "gap"):
        return _says_length(row, row.claim, tables)
    if row.claim.claim == "order":
        return _says_order(row, row.claim)
    if row.claim.claim == "localization":
        return _says_place(row, row.claim, tables)
    return _says_existence(row, row.claim)


def _says_length(row: QAPair, claim: Claim, tables: Tables) -> Finding:
    said = single_length(row.answer)
    if said is None:
        return failed(f'"{row.answer}" names no single length of time')
    off = abs(said.ms - int(claim.value)) if claim.value.isdigit() else 0
    if off > max(tables.tolerance_ms, ROUNDING_MS):
        return failed(f"{said.ms} ms said, {claim.value} ms claimed")
    return passed(f"{off} ms off")


def _says_place(row: QAPair, claim: Claim, tables: Tables) -> Finding:
    said, wanted = span_in(row.answer), _span_of(claim.value)
    if said is None or wanted is None:
        return failed(f'"{row.answer}" names no span of time')
    if tables.is_exact and _is_off(said, wanted, ROUNDING_MS):
        return failed(f"{_ms(said)} said, {_ms(wanted)} claimed")
    shared = overlap_ratio(said, wanted)
    return (
        passed(f"{shared:.2f} shared") if shared >= MIN_OVERLAP else failed(f"{shared:.2f} shared")
    )


def yes_or_no(answer: str) -> str | None:
    """Return "yes" or "no" where an answer begins so, else None."""
    first = words_of(answer)[:1]
    return first[0] if first in (["yes"], ["no"]) else None


def _says_existence(row: QAPair, claim: Claim) -> Finding:
    said = yes_or_no(row.answer)
    if said is None:
        return failed(f'"{row.answer}" begins with neither yes nor no')
    return passed(said) if said == claim.value else failed(f"{said} said, {claim.value} claimed")


def _says_order(row: QAPair, claim: Claim) -> Finding:
    """Understand the answer's words: a sequence, one of two, before or after, yes or no."""
    ordered = [item.label for item in sorted(claim.items, key=lambda i: i.span.start_ms)]
    named = labels_in(row.answer, ordered)
    if len(named) >= 2:
        return _says_sequence(row, ordered, named)
    said = yes_or_no(row.answer)
    if len(named) == 1:
        return _says_one(row, ordered, named[0])
    relation = words_of(row.answer)[:1]
    asked = labels_in(row.question, ordered)
    if len(asked) == 2 and (said or relation in (["before"], ["after"])):
        is_before = ordered.index(asked[0]) < ordered.index(asked[1])
        if said:
            between = fold(row.question)
            if bool(_TURNED.search(between)) == bool(re.search(r"\bbefore\b", between)):
                return skipped("the question's direction is not clear")
            is_before = is_before != bool(_TURNED.search(between))
            right = "yes" if is_before else "no"
        else:
            right = "before" if is_before else "after"
        return passed(right) if (said or relation[0]) == right else failed(f"{right} is right")
    return failed("the answer names none of what is ordered")


def _says_sequence(row: QAPair, ordered: list[str], named: list[str]) -> Finding:
    wanted = [label for label in ordered if label in named]
    if _BACKWARDS.search(fold(row.question)):
        wanted.reverse()
    if len(named) == 2 and _TURNED.search(_between(row.answer, named)):
        wanted.reverse()
    if len(ordered) > 2 and len(named) < len(ordered):
        return failed(f"{len(named)} of {len(ordered)} are named")
    return passed() if named == wanted else failed(f'"{", ".join(named)}" said')


def _between(text: str, labels: list[str]) -> str:
    """Return the words between the first label and the second."""
    plain = fold(text)
    start = plain.find(fold(labels[0])) + len(labels[0])
    end = plain.find(fold(labels[1]), start)
    return plain[start:end] if end > start else ""


def _says_one(row: QAPair, ordered: list[str], named: str) -> Finding:
    question = fold(row.question)
    for anchor in labels_in(row.question, ordered):
        relation = _relation_to(question, anchor)
        if anchor == named or relation is None:
            continue
        is_right = (ordered.index(named) < ordered.index(anchor)) == (relation == "before")
        return passed() if is_right else failed(f'"{named}" is not {relation} "{anchor}"')
    is_early, is_late = bool(_EARLY.search(question)), bool(_LATE.search(question))
    if is_early == is_late:
        return skipped("the question's direction is not clear")
    wanted = ordered[0] if is_early else ordered[-1]
    return passed() if named == wanted else failed(f'"{wanted}" is right')


def _relation_to(question: str, label: str) -> str | None:
    """Return "before" or "after" where the question says so right before a label."""
    place = re.escape(fold(label))
    match = re.search(
        rf"\b(before|after|following|preceding|follows|precedes)\s+(?:the\s+|a\s+|an\s+)?[\"“'‘]?{place}",
        question,
    )
    if match is None:
        return None
    return "before" if match[1] in ("before", "preceding", "precedes") else "after"


def labels_in(text: str, labels: list[str]) -> list[str]:
    """List the labels that a text names, in its order; the longest wins where they overlap."""
    words = _key(text)
    found: list[tuple[int, str]] = []
    for label in sorted(labels, key=lambda each: -len(_key(each))):
        key = _key(label)
        for at in range(len(words) - len(key) + 1):
            if key and words[at : at + len(key)] == key:
                found.append((at, label))
                words[at : at + len(key)] = [""] * len(key)
                break
    return [label for _, label in sorted(found)]


COMPUTED_RULES: tuple[Rule, ...] = (
    Rule(
        name="claim_recomputed",
        looks_at="claim, event table, captions",
        asks="the duration, gap, order, place or existence comes out the same from the tables",
        check=_agrees_with_tables,
        tasks=COMPUTED_TASKS,
    ),
    Rule(
        name="answer_says_claim",
        looks_at="question, answer, claim",
        asks="the answer's words say what was computed",
        check=_says_what_is_claimed,
        tasks=COMPUTED_TASKS,
    ),
)
