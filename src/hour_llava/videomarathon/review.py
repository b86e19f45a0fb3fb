"""Reviewing: people look at a sample of accepted rows; their answers give a precision.

The sample is stratified: every task and format in turn gives a row, in an order drawn from digests,
so that the same build and seed give the same sample on any machine, and a larger sample begins with
the smaller one. Each answer is one JSON line, on disk before the next question is shown; a later
answer to the same row replaces the earlier one.
Source: arXiv 2506.05332, the authors' own check: 78.7 % of 80 multiple-choice answers right.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from pathlib import Path
from typing import Literal, cast

from hour_llava.errors import BuildError
from hour_llava.tasks import FORMATS, TASKS, task_named
from hour_llava.videomarathon.records import QAPair, Video, digest

Judgement = Literal["right", "wrong", "unsure"]
JUDGEMENTS: tuple[Judgement, ...] = ("right", "wrong", "unsure")

PUBLISHED_RATE = 0.787
PUBLISHED_RIGHT, PUBLISHED_NUMBER = 63, 80
"""Source: arXiv 2506.05332: 78.7 % of 80 multiple-choice rows; 63 is the nearest count."""

_Z95 = 1.959964


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one person said of one row."""

    row: str
    judgement: Judgement
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Precision:
    """Right answers among decided ones, with the 95 % Wilson interval; unsure ones apart."""

    name: str
    num_right: int
    num_wrong: int
    num_unsure: int = 0

    @property
    def num_decided(self) -> int:
        """Return how many were called right or wrong."""
        return self.num_right + self.num_wrong

    @property
    def rate(self) -> float | None:
        """Return the share of right ones; None where nothing was decided."""
        return self.num_right / self.num_decided if self.num_decided else None

    @property
    def interval(self) -> tuple[float, float]:
        """Return the 95 % interval of the rate."""
        return wilson_interval(self.num_right, self.num_decided)


def wilson_interval(num_right: int, number: int) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of a share; (0, 1) for nothing."""
    if number == 0:
        return (0.0, 1.0)
    share, square = num_right / number, _Z95**2
    middle = (share + square / (2 * number)) / (1 + square / number)
    half = _Z95 * sqrt(share * (1 - share) / number + square / (4 * number**2))
    half /= 1 + square / number
    return (max(0.0, middle - half), min(1.0, middle + half))


PUBLISHED = Precision(
    name="published (multiple choice)",
    num_right=PUBLISHED_RIGHT,
    num_wrong=PUBLISHED_NUMBER - PUBLISHED_RIGHT,
)


def draw_sample(
    rows: Iterable[QAPair], number: int, *, seed: int = 0, formats: Sequence[str] = FORMATS
) -> list[QAPair]:
    """Draw accepted rows, each task and format in turn.

    Args:
        rows: All rows of a build.
        number: How many are wanted; all, if there are fewer.
        seed: Another seed, another sample.
        formats: "oe", "mc" or both.
    """
    strata: dict[tuple[str, str], list[QAPair]] = defaultdict(list)
    for row in rows:
        if row.status == "accepted" and row.format in formats:
            strata[(row.task, row.format)].append(row)
    keys = [(t.slug, f) for t in TASKS for f in formats if (t.slug, f) in strata]
    # The strata's order is drawn too: a sample smaller than their number favours no topic.
    keys.sort(key=lambda key: digest("stratum", str(seed), *key))
    queues = [
        sorted(strata[key], key=lambda row: digest("review", str(seed), row.id)) for key in keys
    ]
    sample: list[QAPair] = []
    for turn in range(max(map(len, queues), default=0)):
        sample += [queue[turn] for queue in queues if turn < len(queue)]
    return sample[:number]


class AnswerFile:
    """The answers of one build, one line each, synced to disk one by one."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, Answer]:
        """Return row id -> the last answer; a line cut short by a crash is left out.

        Raises:
            BuildError: the file cannot be read, or a line in its middle is no answer.
        """
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError) as error:
            raise BuildError(f"{self.path} cannot be read ({error}); move it away") from error
        found: dict[str, Answer] = {}
        for number, line in enumerate(lines, start=1):
            answer = _parse(line)
            if answer is not None:
                found[answer.row] = answer
            elif number < len(lines):
                raise BuildError(f"{self.path}, line {number} is no answer; repair or remove it")
        return found

    def add(self, answer: Answer) -> None:
        """Write one answer; it is on disk when this returns.

        Raises:
            BuildError: nothing can be written there.
        """
        line = json.dumps(asdict(answer), ensure_ascii=False) + "\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a+b") as file:
                if file.tell() and not _ends_with_newline(file.fileno(), file.tell()):
                    file.write(b"\n")
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise BuildError(
                f"{self.path} cannot be written ({error.strerror or error}); make room or make it "
                "writable; earlier answers are kept"
            ) from error


def _ends_with_newline(descriptor: int, size: int) -> bool:
    return os.pread(descriptor, 1, size - 1) == b"\n"


def _parse(line: str) -> Answer | None:
    try:
        values: object = json.loads(line)
    except ValueError:
        return None
    if not isinstance(values, dict):
        return None
    fields = cast(dict[str, object], values)
    judgement = fields.get("judgement")
    if judgement not in JUDGEMENTS or not isinstance(fields.get("row"), str):
        return None
    return Answer(row=str(fields["row"]), judgement=judgement, note=str(fields.get("note", "")))


def review(
    sample: Sequence[QAPair],
    videos: Mapping[str, Video],
    file: AnswerFile,
    *,
    ask: Callable[[str], str],
    show: Callable[[str], None],
) -> int:
    """Show what is not answered yet, one row after another, until the end or "q".

    Args:
        sample: What is to be looked at, in order.
        videos: Video id -> video.
        file: Where answers go.
        ask: Shows a prompt and returns what was typed; EOFError ends the review.
        show: Shows a text.

    Returns: the number of answers given now.
    """
    answered = file.read()
    num_given = 0
    for number, row in enumerate(sample, start=1):
        if row.id in answered:
            continue
        show(describe(row, videos.get(row.video_id), number, len(sample)))
        try:
            judgement = _ask_judgement(ask, show)
            if judgement is None:
                return num_given
            note = ask("note (empty for none): ").strip()
        except EOFError:
            return num_given
        file.add(Answer(row=row.id, judgement=judgement, note=note))
        num_given += 1
    return num_given


def _ask_judgement(ask: Callable[[str], str], show: Callable[[str], None]) -> Judgement | None:
    """Ask until one of the letters comes; None for "q"."""
    while True:
        typed = ask("[r]ight, [w]rong, [u]nsure, [q]uit: ").strip().lower()
        if typed in ("q", "quit"):
            return None
        for judgement in JUDGEMENTS:
            if typed and judgement.startswith(typed):
                return judgement
        show("type r, w, u or q")


def describe(row: QAPair, video: Video | None, number: int, total: int) -> str:
    """Write a row as a reviewer sees it: question, options, answer, and where to look."""
    task = task_named(row.task)
    path = "?" if video is None else video.path
    lines = ["", f"{number} of {total}   {task.name} ({row.format}, {row.form}-form)   {row.id}"]
    lines += [f"video: {path}", f"Q: {row.question}"]
    if row.options is None:
        lines.append(f"A: {row.answer}")
    for index, option in enumerate(row.options or ()):
        mark = "=>" if option == row.answer else "  "
        lines.append(f"{mark} {chr(65 + index)}. {option}")
    for evidence in row.evidence:
        start, end = _clock(evidence.span.start_ms), _clock(evidence.span.end_ms)
        lines.append(f"look at {start}-{end}: {evidence.quote}")
    return "\n".join(lines)


def _clock(ms: int) -> str:
    seconds = ms // 1000
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def report(rows: Iterable[QAPair], answers: Mapping[str, Answer]) -> list[Precision]:
    """Count answers to rows that are still accepted: all, by format, by topic, by task.

    Returns: those with at least one answer; the first is all together.
    """
    known = [row for row in rows if row.id in answers and row.status == "accepted"]
    groups: dict[str, list[QAPair]] = {"all": known}
    for fmt, name in (("mc", "multiple choice"), ("oe", "open-ended")):
        groups[name] = [row for row in known if row.format == fmt]
    for task in TASKS:
        groups.setdefault(task.topic, [])
        groups[task.topic] += [row for row in known if row.task == task.slug]
    for task in TASKS:
        groups[f"  {task.slug}"] = [row for row in known if row.task == task.slug]
    counted = [_precision(name, group, answers) for name, group in groups.items()]
    return [p for p in counted if p.num_decided or p.num_unsure or p.name == "all"]


def _precision(name: str, rows: Sequence[QAPair], answers: Mapping[str, Answer]) -> Precision:
    said = [answers[row.id].judgement for row in rows]
    return Precision(
        name=name,
        num_right=said.count("right"),
        num_wrong=said.count("wrong"),
        num_unsure=said.count("unsure"),
    )
