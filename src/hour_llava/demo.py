"""`make demo`: render about an hour of video, remember it, and ask five questions of the mp4 alone.

The truth is made with the video, kept in another folder, and looked at only to mark the answers.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from hour_llava.commands.progress import readable_bytes, watch
from hour_llava.commands.terminal import say
from hour_llava.world.make import make_world
from hour_llava.world.questions import Question

if TYPE_CHECKING:
    from hour_llava.session import Answer, Assistant
    from hour_llava.session.remembering import Remembered

WATCH = "watch the video and keep its memory"
# (family, format) of the five questions; the wording is drawn by the seed
KINDS = (("object", "oe"), ("colour", "oe"), ("order", "oe"), ("action", "oe"), ("scene", "mc"))


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A question, what was answered, and how long that took."""

    question: Question
    answer: Answer
    seconds: float

    @property
    def is_right(self) -> bool:
        return same_answer(self.answer.text, self.question.answer)


def same_answer(given: str, truth: str) -> bool:
    """Compare two answers as the exam does: case and a full stop do not count."""
    return given.strip().rstrip(".").casefold() == truth.strip().rstrip(".").casefold()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demonstration and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m hour_llava.demo", description=__doc__)
    parser.add_argument("--seed", type=int, default=7, help="of the video and its questions")
    parser.add_argument("--minutes", type=float, default=60.0, help="length of the video")
    parser.add_argument("--model", default="nano", help="a built-in name, a folder or a hub id")
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder, made anew")
    arguments = parser.parse_args(argv)
    seconds = round(arguments.minutes * 60)
    run(arguments.out, seed=arguments.seed, seconds=seconds, model=arguments.model)
    return 0


def run(out: Path, *, seed: int, seconds: int, model: str = "nano") -> list[Asked]:
    """Render, remember, ask; print the answers beside the truth, and what it cost."""
    from hour_llava.commands.loading import load_quietly
    from hour_llava.session.options import RememberOptions

    shutil.rmtree(out / f"seed-{seed}", ignore_errors=True)
    folder = out / f"seed-{seed}"
    os.environ["HOUR_LLAVA_CACHE"] = str(folder / "cache")  # measure from nothing
    costs: dict[str, float] = {}
    with _timed(costs, f"render {seconds / 60:g} minutes of video"):
        say(f"rendering {seconds / 60:g} minutes of video, seed {seed}, into {folder}")
        world = make_world(folder / "truth", seconds=seconds, seed=seed, per_family=1)
        video = folder / "video.mp4"
        (folder / "truth" / "video.mp4").replace(video)
    with _timed(costs, "load the model"):
        assistant = load_quietly(model)
    with _timed(costs, WATCH), watch(video.name) as progress:
        remembered = assistant.remember_with_report(video, RememberOptions(progress=progress))
    asked = [_ask(assistant, remembered, question) for question in choose(world.questions)]
    costs["answer one question (median)"] = sorted(item.seconds for item in asked)[len(asked) // 2]
    for number, item in enumerate(asked, start=1):
        _draw(folder / f"evidence-{number}-{item.question.family}.png", item, remembered, video)
    console = Console(width=118 if not sys.stdout.isatty() else None)
    console.print(_answers_table(asked))
    console.print(_costs_table(costs, video, remembered))
    print(f"pictures of where each answer was read: {folder}/evidence-*.png")
    own = "In which scene is something marked with a white ring?"
    print(f'ask your own: hour-llava ask {video} "{own}" --evidence e.png')
    return asked


def choose(questions: Sequence[Question]) -> list[Question]:
    """Pick one question of each kind, the first of its kind."""
    chosen = []
    for family, kind in KINDS:
        fitting = [q for q in questions if q.family == family and q.format == kind]
        chosen += fitting[:1]
    return chosen


def _ask(assistant: Assistant, remembered: Remembered, question: Question) -> Asked:
    begin = time.monotonic()
    answer = assistant.ask(
        remembered.memory, question.question, options=question.options, evidence=True
    )
    return Asked(question=question, answer=answer, seconds=time.monotonic() - begin)


def _draw(path: Path, item: Asked, remembered: Remembered, video: Path) -> None:
    from hour_llava.session.showing import draw_answer

    mark = "right" if item.is_right else f"wrong: it is {item.question.answer}"
    draw_answer(
        path,
        question=item.question.question,
        answer=item.answer,
        memory=remembered.memory,
        video=video,
        title=f"{item.answer.text}   ({mark})",
    )


def _answers_table(asked: Sequence[Asked]) -> Table:
    right = sum(item.is_right for item in asked)
    table = Table(title=f"{right} of {len(asked)} right", title_justify="left", show_lines=True)
    for name in ("question", "answer", "truth", "", "looked at", "truth lies at"):
        table.add_column(name)
    for item in asked:
        looked = item.answer.evidence[:1]
        table.add_row(
            item.question.question,
            item.answer.text,
            item.question.answer,
            "[green]right[/]" if item.is_right else "[red]WRONG[/]",
            ", ".join(_clock(span.start_seconds, span.end_seconds) for span in looked) or "-",
            ", ".join(
                _clock(span.start_seconds, span.end_seconds) for span in item.question.evidence
            )
            or "-",
        )
    return table


def _costs_table(costs: dict[str, float], video: Path, remembered: Remembered) -> Table:
    table = Table(title="what it cost", title_justify="left")
    table.add_column("step")
    table.add_column("", justify="right")
    for step, seconds in costs.items():
        table.add_row(step, f"{seconds:.2f} s")
        if step == WATCH:
            table.add_row("  of it decoding", f"{remembered.decode_seconds:.2f} s")
            table.add_row("  of it the vision tower", f"{remembered.encode_seconds:.2f} s")
    memory = remembered.memory
    table.add_row(f"video file, {memory.duration_seconds:,.0f} s", _size(video))
    table.add_row(f"memory file, {memory.num_frames:,} frames", _size(remembered.file or video))
    table.add_row("most RAM used, this process", readable_bytes(peak_memory_bytes()))
    return table


def peak_memory_bytes() -> int:
    """Return the most RAM that this process has held so far; 0 where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@contextmanager
def _timed(costs: dict[str, float], step: str) -> Iterator[None]:
    begin = time.monotonic()
    yield
    costs[step] = time.monotonic() - begin


def _size(path: Path) -> str:
    return readable_bytes(path.stat().st_size)


def _clock(start: float, end: float) -> str:
    from hour_llava.session.picture import clock

    return f"{clock(start)}-{clock(end)}"


if __name__ == "__main__":
    sys.exit(main())
