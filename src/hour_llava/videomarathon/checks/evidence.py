"""Is the evidence there: known captions, verbatim quotes, spans inside the video, apart in time."""

from __future__ import annotations

from hour_llava.videomarathon.checks.rule import Finding, Rule, failed, passed, skipped
from hour_llava.videomarathon.checks.tables import Tables, in_time_order, task_of
from hour_llava.videomarathon.records import Evidence, QAPair

MIN_APART_MS = 60_000
MIN_APART_SHARE = 0.2
REASONING_TASKS = frozenset(
    {"temporal_reasoning", "spatial_reasoning", "object_reasoning", "action_reasoning"}
)


def rests_on_absence(row: QAPair) -> bool:
    """Say whether the answer is that something is nowhere: then nothing can be cited."""
    claim = row.claim
    return claim is not None and claim.claim == "existence" and claim.value == "no"


def is_of_the_whole(row: QAPair) -> bool:
    """Say whether the answer speaks of the whole video: its evidence is the narrative."""
    return row.task == "overall_summarization"


def _is_cited(row: QAPair, tables: Tables) -> Finding:
    if rests_on_absence(row):
        return skipped("an absence cites nothing")
    if not row.evidence:
        return failed("no evidence")
    for number, evidence in enumerate(row.evidence, start=1):
        if tables.cited_text(evidence) is None:
            name = evidence.clip_id or evidence.event_id or "the global caption"
            return failed(f"evidence {number} cites {name}, which is not there")
    return passed(f"{len(row.evidence)} cited")


def _is_quoted(row: QAPair, tables: Tables) -> Finding:
    if not row.evidence:
        return skipped("no evidence")
    for number, evidence in enumerate(row.evidence, start=1):
        text = tables.cited_text(evidence)
        quote = _one_spaced(evidence.quote)
        if text is None:
            return skipped(f"evidence {number} cites nothing that is there")
        if not quote:
            return failed(f"evidence {number} has an empty quote")
        if quote not in _one_spaced(text):
            return failed(f'evidence {number}: "{_short(quote)}" is not in the cited caption')
    return passed(f"{len(row.evidence)} quotes found")


def _one_spaced(text: str) -> str:
    return " ".join(text.split())


def _short(text: str, size: int = 60) -> str:
    return text if len(text) <= size else text[: size - 3] + "..."


def _is_inside(row: QAPair, tables: Tables) -> Finding:
    if not row.evidence:
        return skipped("no evidence")
    end_ms = tables.video.duration_ms
    for number, evidence in enumerate(row.evidence, start=1):
        span, cited = evidence.span, tables.cited_span(evidence)
        if span.end_ms > end_ms:
            return failed(f"evidence {number} ends at {span.end_ms} ms of {end_ms}")
        if cited is not None and not span.overlap_ms(cited):
            return failed(
                f"evidence {number} at {span.start_ms}-{span.end_ms} ms cites a caption of "
                f"{cited.start_ms}-{cited.end_ms} ms"
            )
    return passed(f"within {end_ms} ms")


def needed_gap_ms(video_ms: int) -> int:
    """Return how far apart a long-form row's evidence lies: 60 s, or 20 % of a short video."""
    return min(MIN_APART_MS, round(MIN_APART_SHARE * video_ms))


def evidence_gap_ms(evidence: tuple[Evidence, ...]) -> int:
    """Return the time between the first and the last piece: how much video lies between them.

    Measured from start to start, for pieces may be whole events that touch each other.
    """
    spans = [e.span for e in in_time_order(evidence)]
    return spans[-1].start_ms - spans[0].start_ms if len(spans) > 1 else 0


def reach_ms(row: QAPair) -> int:
    """Return from the first cited moment to the end of the last."""
    if not row.evidence:
        return 0
    return max(e.span.end_ms for e in row.evidence) - min(e.span.start_ms for e in row.evidence)


def _spans_long(row: QAPair, tables: Tables) -> Finding:
    if row.form == "short" or rests_on_absence(row) or is_of_the_whole(row):
        return skipped("short-form" if row.form == "short" else "speaks of the whole video")
    if row.claim is not None and row.claim.claim in ("existence", "localization"):
        return skipped("the whole video has to be searched")
    needed = needed_gap_ms(tables.video.duration_ms)
    gap = evidence_gap_ms(row.evidence)
    if len(row.evidence) >= 2 and gap >= needed:
        return passed(f"{gap} ms apart")
    if row.claim is not None and row.claim.claim == "duration" and reach_ms(row) >= needed:
        return passed(f"one event of {reach_ms(row)} ms")
    return failed(f"{len(row.evidence)} pieces, {gap} ms apart; {needed} ms are needed")


def can_be_short(row: QAPair) -> bool:
    """Say whether a row that is not long-form may stay as a short-form one.

    Reasoning needs two moments whatever it is called, and so do order, gap and permanence where
    they cite fewer than two: those are rejected.
    """
    needs_two = row.task in REASONING_TASKS or task_of(row).slug == "object_permanence"
    return bool(row.evidence) and (len(row.evidence) >= 2 or not needs_two)


def _has_two_pieces(row: QAPair, tables: Tables) -> Finding:
    places = {(e.clip_id, e.event_id, e.span.start_ms) for e in row.evidence}
    if len(places) < 2:
        return failed(f"{len(places)} place cited; two are needed")
    return passed(f"{len(places)} places")


EVIDENCE_RULES: tuple[Rule, ...] = (
    Rule(
        name="evidence_cited",
        looks_at="evidence, captions",
        asks="at least one piece of evidence, each of a caption that is there",
        check=_is_cited,
    ),
    Rule(
        name="quote_found",
        looks_at="evidence, captions",
        asks="the quote stands verbatim in the cited caption (spaces apart)",
        check=_is_quoted,
    ),
    Rule(
        name="span_inside",
        looks_at="evidence, video",
        asks="the span lies inside the video and touches the cited clip or event",
        check=_is_inside,
    ),
    Rule(
        name="two_places",
        looks_at="evidence",
        asks="at least two different clips or events",
        check=_has_two_pieces,
        tasks=REASONING_TASKS | {"object_permanence", "scene_transition"},
    ),
    Rule(
        name="long_form",
        looks_at="evidence, video",
        asks="two pieces of evidence 60 s apart, or 20 % of the video; else the row becomes "
        "short-form",
        check=_spans_long,
    ),
)
