"""`hour-llava world make`: render a MarathonWorld video with its truth and questions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from hour_llava.commands.progress import say
from hour_llava.errors import HourLlavaError
from hour_llava.world.make import QUESTIONS, TRUTH, VIDEO, make_world
from hour_llava.world.video_file import Progress as Report


def make(
    *,
    out: Path,
    minutes: float = 60.0,
    seed: int = 0,
    per_family: int = 2,
    fps: int = 6,
    width: int = 320,
    height: int = 180,
    overwrite: bool = False,
) -> None:
    """Render a generated video (video.mp4) with its exact truth (truth.json, questions.jsonl).

    The same seed gives the same truth and questions. An hour takes about half a minute of one core.

    Args:
        out: the folder for the three files
        minutes: length of the video, 0.25 to 1440
        seed: another seed, another video
        per_family: questions a family, open-ended and multiple-choice each
        fps: frames a second
        width: in pixels, even
        height: in pixels, even
        overwrite: replace the files of an earlier run
    """
    if not 0 < minutes <= 1440:  # NaN included
        raise HourLlavaError(f"--minutes {minutes:g}: a video takes 0.25 to 1440 minutes; try 3")
    if per_family < 1:
        raise HourLlavaError(f"--per-family {per_family}: ask at least 1 question a family")
    with _bar() as progress:
        world = make_world(
            out,
            seconds=round(minutes * 60),
            seed=seed,
            per_family=per_family,
            fps=fps,
            width=width,
            height=height,
            overwrite=overwrite,
            progress=progress,
        )
    print(out / VIDEO)
    say(
        f"{world.timeline.duration_seconds} seconds in {out / VIDEO}; the truth in {TRUTH}, "
        f"{len(world.questions)} questions in {QUESTIONS}"
    )


@contextmanager
def _bar() -> Iterator[Report]:
    """Show a bar on stderr while frames are written, where stderr is a terminal."""
    columns = (
        TextColumn("rendering"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("")

        def report(num_done: int, num_frames: int) -> None:
            bar.update(task, completed=num_done, total=num_frames)

        yield report
