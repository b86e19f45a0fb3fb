"""A build in figures: what came in, what survived which rule, what it asks about, what it cost.

`collect` reads the parts of a build and gives one frozen `BuildStats`: the release's card, plots
and stats.json are drawn from it, and `synth stats` prints it. No clock value is in it.
Source: arXiv 2506.05332, table 1 and VideoMarathon's four panels (source, topic, duration, events).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from hour_llava.tasks import TASKS, TOPICS
from hour_llava.videomarathon.checks.balance import (
    PAPER_TOPIC_MIX,
    longest_rate,
    position_counts,
    topic_counts,
    yes_rate,
)
from hour_llava.videomarathon.checks.evidence import evidence_gap_ms
from hour_llava.videomarathon.checks.table import ALL_RULES, JUDGED_RULES
from hour_llava.videomarathon.records import (
    ClipCaption,
    Event,
    Outcome,
    QAPair,
    Record,
    SetAside,
    Video,
)

_BUILD_STEPS: tuple[tuple[int, tuple[str, ...]], ...] = (
    (2, JUDGED_RULES),
    (3, ("near_duplicate",)),
    (4, ("option_position", "longest_option", "yes_rate", "topic_mix")),
)
"""Place in the funnel -> the rules that decide whether a row gets there; all others decide on 1."""


@dataclass(frozen=True, kw_only=True)
class FunnelStep:
    """Rows that are still in after a step: candidates, verified, deduplicated, balanced."""

    name: str
    num_open_ended: int
    num_multiple_choice: int

    @property
    def num_rows(self) -> int:
        """Return both formats together."""
        return self.num_open_ended + self.num_multiple_choice


@dataclass(frozen=True, kw_only=True)
class RuleRate:
    """What one rule said of the rows that it looked at."""

    rule: str
    num_passed: int
    num_failed: int
    num_skipped: int

    @property
    def fail_rate(self) -> float:
        """Return failed over decided; 0 where nothing was decided."""
        decided = self.num_passed + self.num_failed
        return self.num_failed / decided if decided else 0.0


@dataclass(frozen=True, kw_only=True)
class TaskCount:
    """Accepted rows of one task."""

    task: str
    num_open_ended: int
    num_multiple_choice: int


@dataclass(frozen=True, kw_only=True)
class TopicShare:
    """Accepted rows of one topic, their share, and the share aimed at."""

    topic: str
    num_rows: int
    share: float
    target: float


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Calls and tokens of one stage; `usd` is None where the price is unknown."""

    stage: str
    num_calls: int
    num_prompt_tokens: int
    num_completion_tokens: int
    usd: float | None


@dataclass(frozen=True, kw_only=True)
class DatasetRow:
    """One row of the paper's table 1."""

    name: str
    hours: float
    mean_minutes: float
    min_minutes: float | None = None
    max_minutes: float | None = None
    num_open_ended: int
    num_multiple_choice: int


PAPER_TABLE_1: tuple[DatasetRow, ...] = (
    DatasetRow(
        name="LLaVA-Hound",
        hours=3000,
        mean_minutes=0.2,
        num_open_ended=900_000,
        num_multiple_choice=0,
    ),
    DatasetRow(
        name="ShareGPT4Video",
        hours=200,
        mean_minutes=0.3,
        num_open_ended=0,
        num_multiple_choice=0,
    ),
    DatasetRow(
        name="LLaVA-Video-178K",
        hours=2000,
        mean_minutes=0.6,
        num_open_ended=960_000,
        num_multiple_choice=196_000,
    ),
    DatasetRow(
        name="VideoMarathon",
        hours=9700,
        mean_minutes=20.9,
        min_minutes=3,
        max_minutes=60,
        num_open_ended=1_730_000,
        num_multiple_choice=1_570_000,
    ),
)
"""Source: arXiv 2506.05332, table 1; a length that it does not give is None."""


@dataclass(frozen=True, kw_only=True)
class BuildStats:
    """All figures of a build.

    Args:
        num_files: Files found, those set aside included.
        num_videos: Videos that went on to the end.
        set_aside: Reason -> number of files.
        hours: Of the videos that went on.
        num_clips: Clip captions.
        num_unusable_clips: Of them refused by caption_check.
        num_events: Of all videos.
        backends: Backend -> number of videos.
        sources: Data source -> number of videos.
        durations_minutes: A value a video.
        events_per_video: A value a video.
        funnel: From candidates to accepted rows, in order.
        rules: A rate a rule, in the order of the rules' table.
        reasons: Rule -> rows that are rejected for it (a row may have several).
        tasks: All 22, in the paper's order.
        topics: All six, in the paper's order.
        evidence_gaps_seconds: Of the accepted rows with two pieces of evidence or more: from the
            start of the first to the start of the last.
        option_positions: Number of options -> how often the answer stands at each place.
        longest_option_rate: Share of multiple-choice answers that are the longest option.
        yes_rate: Share of "yes" among accepted yes/no rows; None without any.
        usage: Calls, tokens and cost by stage.
        table_1: The paper's rows, and ours last.
    """

    num_files: int
    num_videos: int
    set_aside: Mapping[str, int]
    hours: float
    num_clips: int
    num_unusable_clips: int
    num_events: int
    backends: Mapping[str, int]
    sources: Mapping[str, int]
    durations_minutes: tuple[float, ...]
    events_per_video: tuple[int, ...]
    funnel: tuple[FunnelStep, ...]
    rules: tuple[RuleRate, ...]
    reasons: Mapping[str, int]
    tasks: tuple[TaskCount, ...]
    topics: tuple[TopicShare, ...]
    evidence_gaps_seconds: tuple[float, ...]
    option_positions: Mapping[int, tuple[int, ...]]
    longest_option_rate: float | None
    yes_rate: float | None
    usage: tuple[Usage, ...]
    table_1: tuple[DatasetRow, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values, keys in the fields' order."""
        return asdict(self)


class RowSource(Protocol):
    """What is asked of a build: the records of a stage, sorted by unit."""

    def rows(self, stage: str) -> Iterator[Record]:
        """Read all current parts of a stage."""
        ...


def collect(
    build: RowSource, *, name: str = "this build", usage: Iterable[Usage] = ()
) -> BuildStats:
    """Read a build's parts and count.

    A build that has not come to its end is counted as far as it has come: the rows are those of the
    last stage that has any.

    Args:
        build: Gives the records of each stage.
        name: What our row of table 1 is called.
        usage: From the ledger.
    """
    ingested = list(build.rows("ingest"))
    events = list(build.rows("event_captions"))
    split = list(build.rows("events"))
    rows: list[QAPair] = []
    for stage in ("balance", "dedup", "verify", "qa"):
        rows = [row for row in build.rows(stage) if isinstance(row, QAPair)]
        if rows:
            break
    return count(
        videos=[record for record in ingested if isinstance(record, Video)],
        set_aside=[record for record in (*ingested, *split) if isinstance(record, SetAside)],
        captions=[c for c in build.rows("caption_check") if isinstance(c, ClipCaption)],
        events=[record for record in (events or split) if isinstance(record, Event)],
        rows=rows,
        name=name,
        usage=usage,
    )


def count(
    *,
    videos: Sequence[Video],
    set_aside: Sequence[SetAside],
    captions: Sequence[ClipCaption],
    events: Sequence[Event],
    rows: Sequence[QAPair],
    name: str = "this build",
    usage: Iterable[Usage] = (),
) -> BuildStats:
    """Count records; `rows` are the last stage's, whose verdicts tell what happened before.

    Args:
        videos: All that were read, those of them included that were set aside later.
        set_aside: Files and videos that went no further.
        captions: Of all clips, unusable ones included.
        events: Of all videos.
        rows: Accepted and others.
        name: What our row of table 1 is called.
        usage: From the ledger.
    """
    dropped = {record.video_id for record in set_aside if record.video_id is not None}
    kept = [video for video in videos if video.id not in dropped]
    accepted = [row for row in rows if row.status == "accepted"]
    num_events = Counter(event.video_id for event in events)
    minutes = tuple(round(video.duration_ms / 60_000, 3) for video in kept)
    hours = sum(video.duration_ms for video in kept) / 3_600_000
    rate, _, _ = longest_rate(rows)
    ours = DatasetRow(
        name=name,
        hours=round(hours, 3),
        mean_minutes=round(sum(minutes) / len(minutes), 2) if minutes else 0.0,
        min_minutes=min(minutes, default=None),
        max_minutes=max(minutes, default=None),
        num_open_ended=sum(row.format == "oe" for row in accepted),
        num_multiple_choice=sum(row.format == "mc" for row in accepted),
    )
    known = {video.path for video in videos}
    return BuildStats(
        num_files=len(known | {record.path for record in set_aside}),
        num_videos=len(kept),
        set_aside=dict(sorted(Counter(record.reason for record in set_aside).items())),
        hours=round(hours, 4),
        num_clips=len(captions),
        num_unusable_clips=sum(not caption.is_usable for caption in captions),
        num_events=len(events),
        backends=dict(sorted(Counter(video.backend for video in kept).items())),
        sources=dict(sorted(Counter(video.source for video in kept).items())),
        durations_minutes=minutes,
        events_per_video=tuple(num_events[video.id] for video in kept),
        funnel=_funnel(rows),
        rules=_rule_rates(rows),
        reasons=_reasons(rows),
        tasks=_task_counts(accepted),
        topics=_topic_shares(accepted),
        evidence_gaps_seconds=tuple(
            evidence_gap_ms(row.evidence) / 1000 for row in accepted if len(row.evidence) > 1
        ),
        option_positions=position_counts(rows),
        longest_option_rate=rate,
        yes_rate=yes_rate(rows)[0],
        usage=tuple(usage),
        table_1=(*PAPER_TABLE_1, ours),
    )


def _funnel(rows: Sequence[QAPair]) -> tuple[FunnelStep, ...]:
    """Tell from verdicts how far each row came."""
    build_rules = {rule: step for step, rules in _BUILD_STEPS for rule in rules}
    names = ("candidates", "automatic rules", "judge and blind test", "deduplicated", "balanced")
    last: dict[str, int] = {}
    for row in rows:
        last[row.id] = len(names) - 1
        for reason in row.reasons if row.status != "accepted" else ():
            last[row.id] = min(last[row.id], build_rules.get(reason, 1) - 1)
    steps: list[FunnelStep] = []
    for index, step in enumerate(names):
        still = [row for row in rows if last[row.id] >= index]
        steps.append(
            FunnelStep(
                name=step,
                num_open_ended=sum(row.format == "oe" for row in still),
                num_multiple_choice=sum(row.format == "mc" for row in still),
            )
        )
    return tuple(steps)


def _rule_rates(rows: Sequence[QAPair]) -> tuple[RuleRate, ...]:
    said: Counter[tuple[str, Outcome]] = Counter(
        (verdict.rule, verdict.outcome) for row in rows for verdict in row.verdicts
    )
    others = sorted({rule for rule, _ in said} - set(ALL_RULES))
    return tuple(
        RuleRate(
            rule=rule,
            num_passed=said[rule, "pass"],
            num_failed=said[rule, "fail"],
            num_skipped=said[rule, "skip"],
        )
        for rule in (*ALL_RULES, *others)
    )


def _reasons(rows: Sequence[QAPair]) -> dict[str, int]:
    out = [row for row in rows if row.status in ("rejected", "quarantined")]
    counts = Counter(reason for row in out for reason in dict.fromkeys(row.reasons))
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _task_counts(accepted: Sequence[QAPair]) -> tuple[TaskCount, ...]:
    counts = Counter((row.task, row.format) for row in accepted)
    return tuple(
        TaskCount(
            task=task.slug,
            num_open_ended=counts[task.slug, "oe"],
            num_multiple_choice=counts[task.slug, "mc"],
        )
        for task in TASKS
    )


def _topic_shares(accepted: Sequence[QAPair]) -> tuple[TopicShare, ...]:
    counts = topic_counts(accepted)
    return tuple(
        TopicShare(
            topic=topic,
            num_rows=counts[topic],
            share=round(counts[topic] / len(accepted), 4) if accepted else 0.0,
            target=PAPER_TOPIC_MIX[topic],
        )
        for topic in TOPICS
    )
