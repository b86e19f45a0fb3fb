"""A fact as the item of a reply: for backends that know their answers."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from hour_llava.videomarathon.facts import Fact
from hour_llava.videomarathon.records import ClipCaption, Event, Evidence
from hour_llava.videomarathon.schemas import QAEvidence, QAItem
from hour_llava.videomarathon.wording import say_key

LETTERS = "ABCD"


def item_of(
    fact: Fact,
    format_: str,
    captions: Sequence[ClipCaption],
    events: Sequence[Event],
    rng: Random,
) -> QAItem | None:
    """Word a fact in a format; None where it has no wrong options and needs them."""
    if format_ == "mc" and not fact.wrong:
        return None
    options = rng.sample([*fact.wrong, fact.answer], len(fact.wrong) + 1)
    return QAItem(
        question=fact.question,
        answer=fact.answer,
        options=lettered(options) if format_ == "mc" else None,
        evidence=tuple(_cited(evidence, captions, events) for evidence in fact.evidence),
        claim=fact.claim,
    )


def lettered(options: Sequence[str]) -> dict[str, str]:
    """Give options their letters."""
    return dict(zip(LETTERS, options, strict=False))


def _cited(
    evidence: Evidence, captions: Sequence[ClipCaption], events: Sequence[Event]
) -> QAEvidence:
    """Write evidence as models do: by the key of a clip, or the title of an event."""
    clips = [say_key(c.span) for c in captions if c.clip_id == evidence.clip_id]
    named = [event.id for event in events if event.id == evidence.event_id]
    return QAEvidence(
        quote=evidence.quote,
        clip=clips[0] if clips else None,
        event=named[0] if named else None,
        start_seconds=evidence.span.start_ms / 1000,
        end_seconds=evidence.span.end_ms / 1000,
    )
