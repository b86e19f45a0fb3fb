"""A build in figures: what came in, what survived which rule, what it asks about, what it cost.

`collect` reads the parts of a build and gives one frozen `BuildStats`: the release's card, plots
and stats.json are drawn from it, and `synth stats` prints it. No clock value is in it.
Source: arXiv 2506.05332, table 1 and VideoMarathon's four panels (source, topic, duration, events).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, Protocol

from hour_llava.videomarathon.records import Record

PAPER_TOPIC_MIX: Mapping[str, float] = MappingProxyType(
    {
        "Temporality": 0.253,
        "Spatiality": 0.101,
        "Object": 0.302,
        "Action": 0.201,
        "Scene": 0.067,
        "Event": 0.076,
    }
)
"""Share of the rows by topic. Source: arXiv 2506.05332, VideoMarathon's panel of topics."""


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
    """Calls and tokens of one stage at one model; `usd` is None where the price is unknown."""

    stage: str
    model: str
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
    min_minutes: float | None
    max_minutes: float | None
    num_open_ended: int
    num_multiple_choice: int


PAPER_TABLE_1: tuple[DatasetRow, ...] = ()  # filled below


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
        evidence_gaps_seconds: Of the accepted long-form rows: from the end of the first piece of
            evidence to the start of the last.
        option_positions: Number of options -> how often the answer stands at each place.
        longest_option_rate: Share of multiple-choice answers that are the longest option.
        yes_rate: Share of "yes" among accepted yes/no rows; None without any.
        usage: Calls, tokens and cost by stage and model.
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

    Args:
        build: Gives the records of each stage.
        name: What our row of table 1 is called.
        usage: From the ledger.
    """
    raise NotImplementedError
