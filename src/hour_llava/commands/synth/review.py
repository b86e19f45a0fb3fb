"""`hour-llava synth review`: judge a sample by hand; precision with its interval."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import tyro

from hour_llava.commands.terminal import printable, say
from hour_llava.errors import BuildError
from hour_llava.videomarathon import review as reviewing
from hour_llava.videomarathon.build import Build
from hour_llava.videomarathon.records import QAPair, Video
from hour_llava.videomarathon.review import PUBLISHED, PUBLISHED_RATE, AnswerFile, Precision

ANSWERS = "review.jsonl"


def review(
    build: Annotated[Path, tyro.conf.arg(metavar="BUILD_DIR")],
    /,
    *,
    number: int = 80,
    format: Literal["mc", "oe", "both"] = "mc",
    seed: int = 0,
    report: bool = False,
) -> None:
    """Show accepted rows of all tasks in turn and keep what you say of them.

    Every answer is on disk before the next row is shown: quit with q or Ctrl-C and come back. The
    answers are in BUILD_DIR/review.jsonl.

    Args:
        build: the build's folder
        number: how many rows
        format: multiple choice, open-ended or both
        seed: another seed, another sample
        report: do not ask; print the precision so far with its 95 % interval
    """
    if number < 1:
        raise BuildError(f"--number {number}: review at least 1 row")
    opened = Build.open(build)
    rows = _rows(opened)
    file = AnswerFile(build / ANSWERS)
    if not report:
        formats = ("mc", "oe") if format == "both" else (format,)
        sample = reviewing.draw_sample(rows, number, seed=seed, formats=formats)
        if not sample:
            raise BuildError(
                f"{build} has no accepted rows of this format yet; see `hour-llava synth stats "
                f"{build}`"
            )
        videos = {v.id: v for v in opened.rows("ingest") if isinstance(v, Video)}
        _review(sample, videos, file, build)
    for line in _lines(reviewing.report(rows, file.read())):
        print(line)


def _rows(build: Build) -> list[QAPair]:
    for stage in ("balance", "dedup", "verify"):
        rows = [row for row in build.rows(stage) if isinstance(row, QAPair)]
        if rows:
            return rows
    return []


def _review(sample: list[QAPair], videos: dict[str, Video], file: AnswerFile, build: Path) -> None:
    try:
        reviewing.review(sample, videos, file, ask=_ask, show=_show)
    except KeyboardInterrupt:
        print(file=sys.stderr)
    num_left = len({row.id for row in sample} - set(file.read()))
    if num_left:
        say(f"{num_left} of {len(sample)} are left; go on with `hour-llava synth review {build}`")


def _ask(prompt: str) -> str:
    print(prompt, end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line


def _show(text: str) -> None:
    print("\n".join(printable(line) for line in text.split("\n")), file=sys.stderr, flush=True)


def _lines(found: list[Precision]) -> Iterator[str]:
    yield f"{'precision':<30}{'right':>7}{'wrong':>7}{'unsure':>8}{'rate':>8}   95 % interval"
    for one in (*found, PUBLISHED):
        low, high = one.interval
        share = PUBLISHED_RATE if one is PUBLISHED else one.rate
        rate = "-" if share is None else f"{share:.1%}"
        between = "-" if one.rate is None else f"{low:.1%} to {high:.1%}"
        yield (
            f"{one.name:<30}{one.num_right:>7}{one.num_wrong:>7}{one.num_unsure:>8}{rate:>8}   "
            f"{between}"
        )
