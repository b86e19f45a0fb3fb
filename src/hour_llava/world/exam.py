"""The exam: ask anything that answers about videos, and count.

V videos, C cells (families of one format and kind of wording), R bootstrap rounds. Questions of
one video share its luck, so intervals resample whole videos.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from hour_llava.tasks import TASKS
from hour_llava.world.facts import eighth_of
from hour_llava.world.families import ALL_FAMILIES, TASK_OF, chance_of
from hour_llava.world.questions import Question
from hour_llava.world.timeline import SCENES
from hour_llava.world.wordings import is_unseen, words_of

__all__ = [
    "EVIDENCE_SLACK_SECONDS",
    "ExamAnswer",
    "ExamResult",
    "ExamVideo",
    "Outcome",
    "Score",
    "add_up",
    "chance_of",
    "decayed_seconds",
    "exam",
    "is_near",
    "is_right",
    "is_same_answer",
    "oracle_coverage",
    "uniform_seconds",
]

Video = TypeVar("Video")

EVIDENCE_SLACK_SECONDS = 2.0
SUMMARY_RECALL = 0.8


@dataclass(frozen=True, kw_only=True)
class ExamAnswer:
    """What was answered, and the second that was read most (None: not known)."""

    text: str
    peak_seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class ExamVideo(Generic[Video]):
    """One video of an exam: what `answer` takes (a path, frames, a memory) and its questions."""

    name: str
    video: Video
    duration_seconds: int
    questions: tuple[Question, ...]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one question went.

    `is_near` says whether the peak is within 2 s of one of the `num_spans` spans of the evidence.
    """

    video: str
    question_id: str
    family: str
    format: str
    is_unseen: bool
    expected: str
    answered: str
    is_right: bool
    is_near: bool | None
    is_right_by_peak: bool | None
    num_spans: int = 0

    @property
    def task(self) -> str:
        """The slug of the question's task."""
        return TASK_OF[self.family]


@dataclass(frozen=True, kw_only=True)
class Score:
    """A share of questions with its 95 % interval; `family` "mean" weighs families equally.

    In a score a task, `family` is the task's slug.
    """

    family: str
    format: str
    wordings: str
    num_questions: int
    num_videos: int
    share: float
    low: float
    high: float
    chance: float


@dataclass(frozen=True, kw_only=True)
class ExamResult:
    """All outcomes and what they add up to.

    `tasks` has a score a task and format over all wordings; `accuracy` a score a family and format
    over all wordings, then over the seen and the unseen ones; `evidence` the share of peaks near
    the truth (format "peak"), `single_evidence` that of questions with one span only;
    `when_by_peak` the accuracy of reading *when* off the peak's clock.
    """

    outcomes: tuple[Outcome, ...]
    accuracy: tuple[Score, ...]
    evidence: tuple[Score, ...]
    when_by_peak: tuple[Score, ...]
    tasks: tuple[Score, ...] = ()
    single_evidence: tuple[Score, ...] = ()

    def to_json(self) -> str:
        """Write all scores and outcomes as JSON text."""
        return json.dumps(asdict(self), indent=1) + "\n"

    def to_markdown(self) -> str:
        """Draw two tables, a row a family and a row a task: accuracy by format with its interval,
        chance, evidence.
        """
        by_task = _table("task", self.tasks, (), [task.slug for task in TASKS])
        lines = [_table("family", self.accuracy, self.evidence, ALL_FAMILIES), by_task]
        for score in self.when_by_peak:
            lines.append(f"*when* by the peak's clock: {_with_interval(score)}\n")
        return "\n".join(lines)


def is_same_answer(answered: str, expected: str) -> bool:
    """Compare two answers word by word and mark by mark: not case, blanks and a last full stop."""
    return _plain(answered) == _plain(expected)


def is_right(question: Question, answered: str) -> bool:
    """Mark an answer: a summary by what it names, anything else by being the same.

    A summary names at least 80 % of the video's scenes, and no other scene.
    """
    if question.family != "summary":
        return is_same_answer(answered, question.answer)
    expected = set(words_of(question.answer)) & set(SCENES)
    named = set(words_of(answered)) & set(SCENES)
    return named <= expected and len(named) >= SUMMARY_RECALL * len(expected)


def _plain(text: str) -> str:
    return " ".join(words_of(text.strip().removesuffix(".")))


def exam(
    answer: Callable[[Video, Question], ExamAnswer],
    videos: Iterable[ExamVideo[Video]],
    *,
    num_rounds: int = 1000,
    seed: int = 0,
) -> ExamResult:
    """Ask every question of every video once and add up.

    Args:
        answer: called with an `ExamVideo.video` and one of its questions.
        videos: may be a generator: each is done before the next is taken.
        num_rounds: of the bootstrap.
        seed: of the bootstrap.
    """
    outcomes: list[Outcome] = []
    for video in videos:
        for question in video.questions:
            outcomes.append(_judge(video, question, answer(video.video, question)))
    return add_up(outcomes, num_rounds=num_rounds, seed=seed)


def _judge(
    video: ExamVideo[Video],
    question: Question,
    given: ExamAnswer,
) -> Outcome:
    peak = given.peak_seconds
    by_peak = None
    if question.family == "when" and peak is not None:
        by_peak = eighth_of(peak, video.duration_seconds) == question.answer
    return Outcome(
        video=video.name,
        question_id=question.id,
        family=question.family,
        format=question.format,
        is_unseen=is_unseen(question.family, question.question),
        expected=question.answer,
        answered=given.text,
        is_right=is_right(question, given.text),
        is_near=is_near(question, peak) if peak is not None and question.evidence else None,
        is_right_by_peak=by_peak,
        num_spans=len(question.evidence),
    )


def is_near(question: Question, peak_seconds: float) -> bool:
    """Say whether a time lies within 2 s of any span of a question's evidence."""
    return any(
        span.start_seconds - EVIDENCE_SLACK_SECONDS
        <= peak_seconds
        <= span.end_seconds + EVIDENCE_SLACK_SECONDS
        for span in question.evidence
    )


def add_up(outcomes: Sequence[Outcome], *, num_rounds: int = 1000, seed: int = 0) -> ExamResult:
    """Turn outcomes (of one exam or of several joined) into scores with intervals."""

    def scores(marks: Iterable[_Mark], wordings: str) -> tuple[Score, ...]:
        return _scores(list(marks), wordings, num_rounds, seed)

    right = [
        (o, (o.video, o.family, o.format, o.is_right, chance_of(o.family, o.format)))
        for o in outcomes
    ]
    accuracy = scores((mark for _, mark in right), "all")
    if len({o.is_unseen for o in outcomes}) == 2:
        accuracy += scores((mark for o, mark in right if not o.is_unseen), "seen")
        accuracy += scores((mark for o, mark in right if o.is_unseen), "unseen")
    tasks = scores(((o.video, o.task, *mark[2:]) for o, mark in right), "all")
    pointed = [o for o in outcomes if o.is_near is not None]
    near = [(o.video, o.family, "peak", o.is_near is True, 0.0) for o in pointed]
    single = [mark for o, mark in zip(pointed, near, strict=True) if o.num_spans == 1]
    clock = [
        (o.video, o.family, "peak", o.is_right_by_peak, 0.0)
        for o in outcomes
        if o.is_right_by_peak is not None
    ]
    return ExamResult(
        outcomes=tuple(outcomes),
        accuracy=accuracy,
        evidence=scores(near, "all"),
        when_by_peak=tuple(s for s in scores(clock, "all") if s.family == "when"),
        tasks=tasks,
        single_evidence=scores(single, "all"),
    )


_Mark = tuple[str, str, str, bool, float]
"""Video, family or task, format, right or not, what guessing gets."""
_ROWS = (*ALL_FAMILIES, *(task.slug for task in TASKS))


def _scores(marks: Sequence[_Mark], wordings: str, num_rounds: int, seed: int) -> tuple[Score, ...]:
    videos = list(dict.fromkeys(mark[0] for mark in marks))
    scores: list[Score] = []
    for format in dict.fromkeys(mark[2] for mark in marks):
        of_format = [mark for mark in marks if mark[2] == format]
        families = [f for f in _ROWS if any(mark[1] == f for mark in of_format)]
        right_VC = np.zeros((len(videos), len(families)))
        asked_VC, chance_VC = np.zeros_like(right_VC), np.zeros_like(right_VC)
        for video, family, _, was_right, chance in of_format:
            place = (videos.index(video), families.index(family))
            right_VC[place] += was_right
            asked_VC[place] += 1
            chance_VC[place] += chance
        low, high = _intervals(right_VC, asked_VC, num_rounds, seed)
        shares = right_VC.sum(0) / asked_VC.sum(0)
        chances = [float(chance) for chance in chance_VC.sum(0) / asked_VC.sum(0)]
        rows = [*zip(families, shares, chances, asked_VC.T, strict=True)]
        rows.append(("mean", shares.mean(), float(np.mean(chances)), asked_VC.sum(1)))
        scores += [
            Score(
                family=family,
                format=format,
                wordings=wordings,
                num_questions=int(asked_V.sum()),
                num_videos=int((asked_V > 0).sum()),
                share=float(share),
                low=float(low[column]),
                high=float(high[column]),
                chance=chance,
            )
            for column, (family, share, chance, asked_V) in enumerate(rows)
        ]
    return tuple(scores)


def _intervals(
    right_VC: npt.NDArray[np.float64],
    asked_VC: npt.NDArray[np.float64],
    num_rounds: int,
    seed: int,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Resample videos; return the 2.5 % and 97.5 % points (C + 1,), the families' mean last."""
    num_videos = len(right_VC)
    weights_RV = np.random.default_rng(seed).multinomial(
        num_videos, np.full(num_videos, 1 / num_videos), size=num_rounds
    )
    asked_RC = weights_RV @ asked_VC
    # A round may miss all videos of a rare family: it then says nothing about that family.
    shares_RC = np.where(asked_RC > 0, weights_RV @ right_VC / np.maximum(asked_RC, 1), np.nan)
    all_RC = np.concatenate([shares_RC, np.nanmean(shares_RC, axis=1, keepdims=True)], axis=1)
    low, high = np.nanpercentile(all_RC, [2.5, 97.5], axis=0)
    return low, high


def _table(
    head: str, accuracy: Sequence[Score], evidence: Sequence[Score], names: Sequence[str]
) -> str:
    formats = list(dict.fromkeys(s.format for s in accuracy))
    cells: dict[tuple[str, str, str], Score] = {
        (s.family, s.format, s.wordings): s for s in (*accuracy, *evidence)
    }
    has_split = any(s.wordings == "unseen" for s in accuracy)
    titles = [head, *(f"{f} accuracy | {f} n | {f} chance" for f in formats)]
    titles += [f"{f} seen / unseen" for f in formats if has_split]
    titles += ["peak within 2 s"] if evidence else []
    lines = ["| " + " | ".join(titles) + " |"]
    lines.append("| --- " * (lines[0].count("|") - 1) + "|")
    for name in (*names, "mean"):
        if not any((name, f, "all") in cells for f in formats):
            continue
        row = [name]
        for format in formats:
            row += _share_cells(cells.get((name, format, "all")))
        for format in formats if has_split else ():
            pair = (cells.get((name, format, w)) for w in ("seen", "unseen"))
            row.append(" / ".join("-" if s is None else f"{s.share:.2f}" for s in pair))
        if evidence:
            peak = cells.get((name, "peak", "all"))
            row.append("-" if peak is None else f"{peak.share:.2f}")
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


def _share_cells(score: Score | None) -> list[str]:
    if score is None:
        return ["-", "0", "-"]
    return [_with_interval(score), str(score.num_questions), f"{score.chance:.2f}"]


def _with_interval(score: Score) -> str:
    return f"{score.share:.2f} [{score.low:.2f}, {score.high:.2f}]"


def uniform_seconds(duration_seconds: int, count: int) -> npt.NDArray[np.int64]:
    """List the ticks of `count` frames spread evenly from the first to the last."""
    count = min(count, duration_seconds)
    return np.floor(np.linspace(0, duration_seconds - 1, count)).astype(np.int64)


def decayed_seconds(
    duration_seconds: int, *, keep_ratio: int = 4, max_frames: int = 512
) -> npt.NDArray[np.int64]:
    """List the ticks that temporal forgetting keeps; nano has its own `max_frames`."""
    count = max(1, min(max_frames, duration_seconds // keep_ratio))
    return uniform_seconds(duration_seconds, count)


def oracle_coverage(
    videos: Iterable[ExamVideo[Video]],
    schemes: Mapping[str, Callable[[int], npt.NDArray[np.int64]]],
) -> dict[str, dict[str, float]]:
    """Return which share of the questions a perfect reader of a few frames could answer.

    A question counts as covered when every span of its evidence holds one of the frames; those
    without evidence (absent shapes) are left out.

    Args:
        videos: with their questions.
        schemes: name -> ticks of a video of so many seconds, for example `decayed_seconds`.
    Returns: share by scheme, then by family, "all" included.
    """
    covered: dict[str, dict[str, list[bool]]] = {name: {} for name in schemes}
    for video in videos:
        for name, scheme in schemes.items():
            seconds = scheme(video.duration_seconds)
            for question in (q for q in video.questions if q.evidence):
                is_covered = all(
                    np.any((seconds >= s.start_seconds) & (seconds < s.end_seconds))
                    for s in question.evidence
                )
                for key in (question.family, "all"):
                    covered[name].setdefault(key, []).append(bool(is_covered))
    return {
        name: {family: float(np.mean(hits)) for family, hits in families.items()}
        for name, families in covered.items()
    }
