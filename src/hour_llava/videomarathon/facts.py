"""Facts worked out from the tables: durations, gaps, orders, places in time, existence.

A fact holds its answer, its wrong options, a claim that can be computed again, and the evidence. A
model may put it into other words; it never gives the answer.

    exact times     of a truth file, or measured: any difference counts
    clips' times    a model's: nothing is asked that a stride could turn round
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from hour_llava.videomarathon.records import (
    Claim,
    ClaimItem,
    ClipCaption,
    Event,
    Evidence,
    Span,
    Video,
)
from hour_llava.videomarathon.terms import THINGS, Run, TermIndex, first_sentence, sentence_with
from hour_llava.videomarathon.wording import say_duration, say_span

_T = TypeVar("_T")
_FAR_MS, _FAR_SHARE = 60_000, 0.2
_RATIO = 1.5  # of neighbouring options: well over the 25 % that they must be apart


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One fact.

    Args:
        task: Slug of the task.
        question: How it is to be asked; the words if nobody finds better ones.
        answer: The answer.
        wrong: The wrong options; empty where it cannot be a multiple-choice question.
        claim: What the answer comes to; None where it is no time, order or existence.
        evidence: Where it is seen.
        labels: Words that must stand in any question about it, as they are.
        cues: One of these words must stand in the question.
        not_cues: None of these may: they would ask for the opposite.
    """

    task: str
    question: str
    answer: str
    wrong: tuple[str, ...]
    claim: Claim | None
    evidence: tuple[Evidence, ...]
    labels: tuple[str, ...] = ()
    cues: tuple[str, ...] = ()
    not_cues: tuple[str, ...] = ()

    def is_asked_by(self, question: str) -> bool:
        """Say whether a question asks for this fact, and not for its opposite."""
        rest = question
        for label in sorted(self.labels, key=len, reverse=True):
            if label not in rest:
                return False
            rest = rest.replace(label, "")
        words = {word.strip("?,.;:\"'()").lower() for word in rest.split()}
        has_cue = not self.cues or bool(words & set(self.cues))
        gives_away = len(self.answer) > 3 and self.answer in rest
        return has_cue and not words & set(self.not_cues) and not gives_away


@dataclass(frozen=True, kw_only=True)
class FactTables:
    """What facts are worked out from; `step_ms` is a stride, or 0 where times are exact."""

    video: Video
    captions: tuple[ClipCaption, ...]
    events: tuple[Event, ...]
    step_ms: int

    @property
    def far_ms(self) -> int:
        """Return how far apart two pieces of evidence must lie at least."""
        return max(self.step_ms, min(_FAR_MS, round(_FAR_SHARE * self.video.duration_ms)), 1000)


def facts_for(task: str, tables: FactTables, count: int, rng: Random) -> list[Fact]:
    """Work out up to `count` facts of a computed task; empty where the tables carry none."""
    events = named_events(tables.events)
    match task:
        case "duration_perception":
            return spread(_durations(events, tables, rng), count, rng)
        case "temporal_gap_estimation":
            return spread(_gaps(events, tables, rng), count, rng)
        case "temporal_order":
            return spread(_orders(events, tables), count, rng)
        case "event_sequence":
            groups = far_groups([e.span for e in events], tables, count, rng)
            return [event_sequence([events[i] for i in group], rng) for group in groups]
        case "action_localization":
            runs = TermIndex(tables.captions).runs()
            return spread([_located(run, tables, rng) for run in _short(runs, tables)], count, rng)
        case "action_sequence":
            runs = _short(TermIndex(tables.captions).runs(), tables)
            groups = far_groups([run.span for run in runs], tables, count, rng)
            return [_action_sequence([runs[i] for i in group], rng) for group in groups]
        case "object_existence":
            return _existences(tables, count, rng)
        case _:
            raise ValueError(f"{task} is not computed")


def named_events(events: Sequence[Event]) -> list[Event]:
    """Keep the events that their titles name: unique, and no trouble inside quotes."""
    titles = [event.title.casefold() for event in events]
    return [
        event
        for event, title in zip(events, titles, strict=True)
        if titles.count(title) == 1
        and len(title) <= 120
        and not any(mark in title for mark in ('"', " > ", ", then "))
    ]


def spread(choices: Sequence[_T], count: int, rng: Random) -> list[_T]:
    """Draw up to `count` of them."""
    return rng.sample(list(choices), min(count, len(choices)))


def item_of(event: Event) -> ClaimItem:
    """Name an event in a claim."""
    return ClaimItem(label=event.title, span=event.span, event_id=event.id)


def cite(event: Event) -> Evidence:
    """Cite an event by the first sentence of its narrative."""
    quote = first_sentence(event.narrative or event.title)
    return Evidence(span=event.span, quote=quote, event_id=event.id)


def _durations(events: Sequence[Event], tables: FactTables, rng: Random) -> list[Fact]:
    return [
        Fact(
            task="duration_perception",
            question=f'How long does the part "{event.title}" last?',
            answer=say_duration(event.span.duration_ms),
            wrong=other_lengths(
                event.span.duration_ms, tables.step_ms, tables.video.duration_ms, rng
            ),
            claim=Claim(
                claim="duration", value=str(event.span.duration_ms), items=(item_of(event),)
            ),
            evidence=(cite(event),),
            labels=(event.title,),
            cues=("long", "duration", "length", "much", "many", "last", "lasts", "time"),
        )
        for event in events
        if event.span.duration_ms >= max(2 * tables.step_ms, 4000)
    ]


def _gaps(events: Sequence[Event], tables: FactTables, rng: Random) -> list[Fact]:
    facts: list[Fact] = []
    for first, second in itertools.combinations(events, 2):
        gap_ms = second.span.start_ms - first.span.end_ms
        if gap_ms < max(2 * tables.step_ms, 4000):
            continue
        facts.append(
            Fact(
                task="temporal_gap_estimation",
                question=f'How much time passes between the end of "{first.title}" and the start '
                f'of "{second.title}"?',
                answer=say_duration(gap_ms),
                wrong=other_lengths(gap_ms, tables.step_ms, tables.video.duration_ms, rng),
                claim=Claim(
                    claim="gap", value=str(gap_ms), items=(item_of(first), item_of(second))
                ),
                evidence=(cite(first), cite(second)),
                labels=(first.title, second.title),
                cues=("between", "until", "gap", "passes", "pass", "elapses"),
            )
        )
    return facts


def _orders(events: Sequence[Event], tables: FactTables) -> list[Fact]:
    facts: list[Fact] = []
    for first, second in itertools.combinations(events, 2):
        if second.span.start_ms - first.span.start_ms < tables.far_ms:
            continue
        facts.append(order_of_two(item_of(first), item_of(second), (cite(first), cite(second))))
    return facts


def order_of_two(first: ClaimItem, second: ClaimItem, evidence: tuple[Evidence, ...]) -> Fact:
    """Ask which of two comes first; the answer is `first`."""
    named = sorted((first.label, second.label))
    return Fact(
        task="temporal_order",
        question=f'Which happens first, "{named[0]}" or "{named[1]}"?',
        answer=first.label,
        wrong=(second.label,),
        claim=Claim(claim="order", value=f"{first.label} > {second.label}", items=(first, second)),
        evidence=evidence,
        labels=(first.label, second.label),
        cues=("first", "earlier", "before", "sooner", "precedes"),
        not_cues=("last", "later", "after", "second", "follows", "not"),
    )


def far_groups(
    spans: Sequence[Span], tables: FactTables, count: int, rng: Random
) -> list[tuple[int, ...]]:
    """Draw groups of three whose starts lie a step apart each, and far apart from end to end."""
    step = max(tables.step_ms, 1000)
    groups: list[tuple[int, ...]] = []
    if len(spans) < 3:
        return groups
    for _ in range(40 * count):
        group = tuple(sorted(rng.sample(range(len(spans)), 3)))
        starts = [spans[i].start_ms for i in group]
        apart = all(b - a >= step for a, b in itertools.pairwise(starts))
        if apart and starts[-1] - starts[0] >= tables.far_ms and group not in groups:
            groups.append(group)
        if len(groups) == count:
            break
    return groups


def event_sequence(events: Sequence[Event], rng: Random) -> Fact:
    """Ask for the order of three events."""
    titles = [event.title for event in events]
    named = ", ".join(f'"{title}"' for title in sorted(titles))
    return sequence(
        "event_sequence",
        f"In which order do these parts of the video take place: {named}?",
        titles,
        tuple(item_of(event) for event in events),
        tuple(cite(event) for event in events),
        rng,
    )


def _action_sequence(runs: Sequence[Run], rng: Random) -> Fact:
    labels = [run.label for run in runs]
    named = ", ".join(f'"{label}"' for label in sorted(labels))
    items = tuple(
        ClaimItem(label=run.label, span=run.span, clip_id=run.captions[0].clip_id) for run in runs
    )
    return sequence(
        "action_sequence",
        f"In which order are these actions performed: {named}?",
        labels,
        items,
        tuple(e for run in runs for e in _cite_action(run)[:1]),
        rng,
    )


def sequence(
    task: str,
    question: str,
    labels: Sequence[str],
    items: tuple[ClaimItem, ...],
    evidence: tuple[Evidence, ...],
    rng: Random,
) -> Fact:
    """Ask for the order of things; `labels` are in the right one."""
    others = [p for p in itertools.permutations(labels) if list(p) != list(labels)]
    return Fact(
        task=task,
        question=question,
        answer=", then ".join(labels),
        wrong=tuple(", then ".join(p) for p in rng.sample(others, min(3, len(others)))),
        claim=Claim(claim="order", value=" > ".join(labels), items=items),
        evidence=evidence,
        labels=tuple(labels),
        cues=("order", "sequence"),
        not_cues=("reverse", "reversed", "backwards", "last", "not"),
    )


def _short(runs: Sequence[Run], tables: FactTables) -> list[Run]:
    """Keep the runs that tell something: at most a third of the video."""
    return [run for run in runs if 3 * run.span.duration_ms <= tables.video.duration_ms]


def _located(run: Run, tables: FactTables, rng: Random) -> Fact:
    span = run.span
    return Fact(
        task="action_localization",
        question=f'When in the video is the action "{run.label}" to be seen?',
        answer=say_span(span),
        wrong=tuple(say_span(other) for other in other_spans(span, tables.video.duration_ms, rng)),
        claim=Claim(
            claim="localization",
            value=f"{span.start_ms}-{span.end_ms}",
            items=(ClaimItem(label=run.label, span=span, clip_id=run.captions[0].clip_id),),
            term=run.label,
        ),
        evidence=_cite_action(run),
        labels=(run.label,),
        cues=("when", "time", "part", "stretch", "point"),
    )


def _cite_action(run: Run) -> tuple[Evidence, ...]:
    """Cite the first and the last caption of a run that speak of its action under "Action"."""
    cited: list[Evidence] = []
    for caption in run.captions:
        quote = sentence_with(caption.aspects.action, run.label)
        if quote is not None:
            cited.append(
                Evidence(span=caption.span, quote=quote, clip_id=caption.clip_id, aspect="action")
            )
    return tuple(cited[:1] + cited[1:][-1:])


def _existences(tables: FactTables, count: int, rng: Random) -> list[Fact]:
    """Ask for things that are there and things that are not, in turn."""
    index = TermIndex(tables.captions)
    things = rng.sample(THINGS, len(THINGS))
    narratives = " ".join(f"{e.title} {e.narrative}" for e in tables.events).lower()
    present = [(thing, _cite_thing(thing, index)) for thing in things]
    yes = [_existence(thing, "Yes", cited) for thing, cited in present if cited]
    no = [
        _existence(thing, "No", ())
        for thing, cited in present
        if not cited and not index.knows_word(thing) and thing not in narratives
    ]
    first, second = (yes, no) if rng.random() < 0.5 else (no, yes)
    turns = itertools.chain.from_iterable(itertools.zip_longest(first, second))
    asked = [fact for fact in turns if fact is not None]
    # Where nothing of the list is there, a row of "no" would only teach to say no.
    return asked[:count] if yes and no else asked[: min(1, count)]


def _cite_thing(thing: str, index: TermIndex) -> tuple[Evidence, ...]:
    cited: list[Evidence] = []
    for place in index.places(thing):
        caption = index.captions[place]
        quote = sentence_with(caption.aspects.object, thing)
        if quote is not None:
            cited.append(
                Evidence(span=caption.span, quote=quote, clip_id=caption.clip_id, aspect="object")
            )
    return tuple(cited[:1] + cited[1:][-1:])


def _existence(thing: str, answer: str, cited: tuple[Evidence, ...]) -> Fact:
    article = "an" if thing[0] in "aeiou" else "a"
    named = thing if thing == "scissors" else f"{article} {thing}"
    return Fact(
        task="object_existence",
        question=f"Does {named} appear anywhere in the video?",
        answer=answer,
        wrong=("No" if answer == "Yes" else "Yes",),
        claim=Claim(claim="existence", value=answer.lower(), term=thing),
        evidence=cited,
        labels=(thing,),
        cues=("does", "is", "can", "do", "are", "was", "did"),
        not_cues=("no", "not", "never", "without", "absent", "missing"),
    )


def other_lengths(right_ms: int, step_ms: int, limit_ms: int, rng: Random) -> tuple[str, ...]:
    """Draw three wrong lengths: all four are over 25 % apart, and a step from the right one.

    How many are shorter than the right one is drawn, so that its rank tells nothing; none is longer
    than the video, `limit_ms`, if there is another way.
    """
    ratio = max(_RATIO, 1 + 2 * step_ms / right_ms)
    # Below 6 s rounding to seconds could bring two options too close.
    fitting = [k for k in range(4) if not k or right_ms / ratio**k >= 6000]
    within = [k for k in fitting if right_ms * ratio ** (3 - k) <= limit_ms]
    num_shorter = rng.choice(within or fitting[-1:])
    powers = [k for k in range(-num_shorter, 4 - num_shorter) if k]
    return tuple(say_duration(round(right_ms * ratio**k / 1000) * 1000) for k in powers)


def other_spans(right: Span, duration_ms: int, rng: Random) -> tuple[Span, ...]:
    """Draw three other stretches of the same length, apart from the right one; none if no room."""
    length = right.duration_ms
    taken = [right]
    starts = list(range(0, duration_ms - length + 1, 1000))
    for start in rng.sample(starts, len(starts)):
        span = Span(start_ms=start, end_ms=start + length)
        if all(5 * span.overlap_ms(other) <= length for other in taken):
            taken.append(span)
        if len(taken) == 4:
            return tuple(taken[1:])
    return ()
