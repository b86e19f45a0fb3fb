"""The computed tasks of a MarathonWorld video, worked out from its truth to the second.

Events are the event table's; things and deeds are those that the video shows only once, so that
their names mean one moment. What is asked, answered and claimed follows `videomarathon.facts`.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from hour_llava.videomarathon.checks.words import sentences_of
from hour_llava.videomarathon.facts import (
    Fact,
    FactTables,
    facts_for,
    far_groups,
    named_events,
    order_of_two,
    other_lengths,
    other_spans,
    sequence,
    spread,
)
from hour_llava.videomarathon.facts import (
    cite as cite_event,
)
from hour_llava.videomarathon.records import (
    Claim,
    ClaimItem,
    ClipCaption,
    Event,
    Evidence,
    Span,
    Video,
)
from hour_llava.videomarathon.wording import say_duration, say_span
from hour_llava.world.captions import Statement, describe, thing
from hour_llava.world.story_facts import CLEARLY
from hour_llava.world.timeline import ACTIONS, COLOURS, SHAPES, Appearance, Timeline


@dataclass(frozen=True, kw_only=True)
class Shown:
    """Something that the video shows once: its name, when, and the sentence that says so."""

    label: str
    span: Span
    evidence: Evidence

    @property
    def item(self) -> ClaimItem:
        """Return it as a claim speaks of it."""
        return ClaimItem(label=self.label, span=self.span, clip_id=self.evidence.clip_id)


def truth_facts(
    task: str, timeline: Timeline, tables: FactTables, count: int, rng: Random
) -> list[Fact]:
    """Work out up to `count` facts of a computed task."""
    match task:
        case "duration_perception" | "event_sequence":
            return facts_for(task, tables, count, rng)
        case "temporal_gap_estimation":
            gaps = [
                _gap(a, b, tables.video, rng)
                for a, b in _far_pairs(_things(timeline, tables), tables)
            ]
            return spread([*gaps, *facts_for(task, tables, count, rng)], count, rng)
        case "temporal_order":
            pairs = _far_pairs(_things(timeline, tables), tables)
            orders = [_order(a, b) for a, b in pairs]
            return spread([*orders, *facts_for(task, tables, count, rng)], count, rng)
        case "action_localization":
            deeds = _deeds(timeline, tables)
            return [_located(deed, tables.video, rng) for deed in spread(deeds, count, rng)]
        case "action_sequence":
            deeds = _deeds(timeline, tables)
            groups = far_groups([deed.span for deed in deeds], tables, count, rng)
            return [_in_order([deeds[i] for i in group], rng) for group in groups]
        case "object_existence":
            return _existences(timeline, tables, count, rng)
        case _:
            raise ValueError(f"{task} is not computed")


def cite(
    statement: Statement,
    captions: Sequence[ClipCaption],
    timeline: Timeline,
    span: Span | None = None,
) -> Evidence | None:
    """Cite a sentence (or a part of its time) in the caption of the clip that shows most of it."""
    told = span or Span(
        start_ms=round(statement.start_seconds * 1000),
        end_ms=min(round(statement.end_seconds * 1000), timeline.duration_seconds * 1000),
    )
    best = max(captions, key=lambda caption: caption.span.overlap_ms(told), default=None)
    if best is None or statement.text not in getattr(best.aspects, statement.aspect.lower()):
        return None
    return Evidence.model_validate(
        {
            "span": told,
            "quote": statement.text,
            "clip_id": best.clip_id,
            "aspect": statement.aspect.lower(),
        }
    )


def cite_sides(
    cut_seconds: float, captions: Sequence[ClipCaption], timeline: Timeline
) -> tuple[Evidence, ...]:
    """Cite both sides of a change of scene: two seconds before it, two seconds after it."""
    cut_ms = round(cut_seconds * 1000)
    cited: list[Evidence] = []
    for start_ms, end_ms in ((cut_ms - 2000, cut_ms), (cut_ms, cut_ms + 2000)):
        name = timeline.scene_at(start_ms / 1000).name
        said = [
            s
            for s in describe(timeline, start_ms / 1000, end_ms / 1000)["Scene"]
            if s.text == f"The scene is the {name}."
        ]
        span = Span(start_ms=start_ms, end_ms=end_ms)
        found = cite(said[0], captions, timeline, span) if said else None
        cited += [found] if found else []
    return tuple(cited) if len(cited) == 2 else ()


def key_events(timeline: Timeline, tables: FactTables, count: int, rng: Random) -> list[Fact]:
    """Ask for the longest part, and for the part in which something shown once is seen."""
    events = named_events(tables.events)
    if len(events) < 2:
        return []
    facts: list[Fact] = []
    first, second = sorted(events, key=lambda e: -e.span.duration_ms)[:2]
    if first.span.duration_ms >= CLEARLY * second.span.duration_ms:
        question = "Which part takes up more of the video than any other?"
        facts.append(
            _key_event(question, first, events, (cite_event(first), cite_event(second)), rng)
        )
    for shown in rng.sample(things := _things(timeline, tables), len(things)):
        told = [(e, s) for e in events for s in sentences_of(e.narrative) if shown.label in s]
        holding = {e.id for e, _ in told}
        if len(holding) != 1 or shown.label in told[0][0].title:
            continue
        event, sentence = told[0]
        cited = Evidence(span=event.span, quote=sentence.strip(), event_id=event.id)
        question = f"Which part of the video is it that also shows the {shown.label}?"
        facts.append(_key_event(question, event, events, (cited, shown.evidence), rng))
    return facts[:count]


def _key_event(
    question: str,
    right: Event,
    events: Sequence[Event],
    evidence: tuple[Evidence, ...],
    rng: Random,
) -> Fact:
    others = [event.title for event in events if event is not right]
    num_wrong = 3 if len(others) >= 3 else 1
    return Fact(
        task="key_event_extraction",
        question=question,
        answer=right.title,
        wrong=tuple(rng.sample(others, num_wrong)),
        claim=None,
        evidence=evidence,
    )


def _sentence(
    appearance: Appearance, aspect: str, timeline: Timeline, *, starts: str
) -> Statement | None:
    """Find the sentence of an aspect about an appearance, by its times and its first words."""
    start, end = appearance.start_seconds, appearance.end_seconds
    for statement in describe(timeline, start, end)[aspect]:
        same = (statement.start_seconds, statement.end_seconds) == (start, end)
        if same and statement.text.startswith(starts):
            return statement
    return None


def _shown(
    label: str,
    appearance: Appearance,
    statement: Statement | None,
    timeline: Timeline,
    tables: FactTables,
) -> list[Shown]:
    evidence = cite(statement, tables.captions, timeline) if statement else None
    if evidence is None:
        return []
    span = Span(start_ms=appearance.start_seconds * 1000, end_ms=appearance.end_seconds * 1000)
    return [Shown(label=label, span=span, evidence=evidence)]


def _things(timeline: Timeline, tables: FactTables) -> list[Shown]:
    """List the flashes and the actor: each is of a shape that comes only once."""
    shown: list[Shown] = []
    for appearance in timeline.needles:
        if appearance.role in ("flash", "actor"):
            name = thing(appearance)
            said = _sentence(appearance, "Temporality", timeline, starts=f"The {name} ") or (
                _sentence(appearance, "Temporality", timeline, starts=f"{name} ")
            )
            shown += _shown(name, appearance, said, timeline, tables)
    return shown


def _deeds(timeline: Timeline, tables: FactTables) -> list[Shown]:
    """List what is done once in a video, by whoever does it: "red star spins"."""
    acting = [a for a in timeline.appearances if a.action in ACTIONS]
    labels = Counter(f"{thing(a)} {a.action}" for a in acting)
    shown: list[Shown] = []
    for appearance in acting:
        label = f"{thing(appearance)} {appearance.action}"
        said = _sentence(appearance, "Action", timeline, starts=f"The {label}")
        if labels[label] == 1:
            shown += _shown(label, appearance, said, timeline, tables)
    return shown


def _far_pairs(shown: Sequence[Shown], tables: FactTables) -> list[tuple[Shown, Shown]]:
    ordered = sorted(shown, key=lambda one: one.span.start_ms)
    return [
        (a, b)
        for a, b in itertools.combinations(ordered, 2)
        if b.span.start_ms - a.span.end_ms >= tables.far_ms
    ]


def _gap(first: Shown, second: Shown, video: Video, rng: Random) -> Fact:
    gap_ms = second.span.start_ms - first.span.end_ms
    return Fact(
        task="temporal_gap_estimation",
        question=f"How much time passes between the end of the appearance of the {first.label} and "
        f"the start of the appearance of the {second.label}?",
        answer=say_duration(gap_ms),
        wrong=other_lengths(gap_ms, 0, video.duration_ms, rng),
        claim=Claim(claim="gap", value=str(gap_ms), items=(first.item, second.item)),
        evidence=(first.evidence, second.evidence),
    )


def _order(first: Shown, second: Shown) -> Fact:
    fact = order_of_two(first.item, second.item, (first.evidence, second.evidence))
    named = sorted((first.label, second.label))
    question = f"Which is seen first, the {named[0]} or the {named[1]}?"
    return replace(fact, question=question)


def _located(deed: Shown, video: Video, rng: Random) -> Fact:
    wrong = other_spans(deed.span, video.duration_ms, rng)
    return Fact(
        task="action_localization",
        question=f'When in the video does this take place: "the {deed.label}"?',
        answer=say_span(deed.span),
        wrong=tuple(say_span(span) for span in wrong),
        claim=Claim(
            claim="localization",
            value=f"{deed.span.start_ms}-{deed.span.end_ms}",
            items=(deed.item,),
            term=deed.label,
        ),
        evidence=(deed.evidence,),
    )


def _in_order(deeds: Sequence[Shown], rng: Random) -> Fact:
    labels = [deed.label for deed in deeds]
    named = ", ".join(f'"the {label}"' for label in sorted(labels))
    return sequence(
        "action_sequence",
        f"In which order do these take place: {named}?",
        labels,
        tuple(deed.item for deed in deeds),
        tuple(deed.evidence for deed in deeds),
        rng,
    )


def _existences(timeline: Timeline, tables: FactTables, count: int, rng: Random) -> list[Fact]:
    """Ask for shapes in colours that are there and for some that are not, in turn."""
    seen = {(a.colour, a.shape): a for a in reversed(timeline.appearances) if a.shape}
    yes: list[Fact] = []
    for (colour, shape), appearance in sorted(seen.items(), key=lambda pair: str(pair[0])):
        said = next(
            (
                s
                for s in describe(timeline, appearance.start_seconds, appearance.end_seconds)[
                    "Object"
                ]
                if f"{colour} {shape}" in s.text
            ),
            None,
        )
        evidence = cite(said, tables.captions, timeline) if said else None
        if evidence is not None:
            yes.append(_existence(f"{colour} {shape}", "Yes", (evidence,)))
    absent = [f"{c} {s}" for c in COLOURS for s in SHAPES if (c, s) not in seen]
    no = [_existence(term, "No", ()) for term in absent]
    # The shape that never comes is asked for without a colour.
    no.append(_existence(timeline.absent_shape, "No", ()))
    yes, no = rng.sample(yes, min(count, len(yes))), rng.sample(no, min(count, len(no)))
    first, second = (yes, no) if rng.random() < 0.5 else (no, yes)
    turns = itertools.chain.from_iterable(itertools.zip_longest(first, second))
    return [fact for fact in turns if fact is not None][:count]


def _existence(term: str, answer: str, evidence: tuple[Evidence, ...]) -> Fact:
    article = "an" if term[0] in "aeiou" else "a"
    return Fact(
        task="object_existence",
        question=f"Does {article} {term} appear anywhere in the video?",
        answer=answer,
        wrong=("No" if answer == "Yes" else "Yes",),
        claim=Claim(claim="existence", value=answer.lower(), term=term),
        evidence=evidence,
    )
