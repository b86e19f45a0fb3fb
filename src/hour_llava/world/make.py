"""One folder a video: video.mp4, truth.json (the timeline) and questions.jsonl."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hour_llava.errors import HourLlavaError
from hour_llava.world.questions import Question, make_questions
from hour_llava.world.timeline import Timeline, make_timeline
from hour_llava.world.video_file import Progress, as_write_error, write_video

VIDEO, TRUTH, QUESTIONS = "video.mp4", "truth.json", "questions.jsonl"


@dataclass(frozen=True, kw_only=True)
class World:
    """What `make_world` wrote: the folder and its truth."""

    folder: Path
    timeline: Timeline
    questions: tuple[Question, ...]


def make_world(
    out: Path,
    *,
    seconds: int,
    seed: int = 0,
    per_family: int = 2,
    wordings: str = "all",
    split: str = "any",
    fps: int = 6,
    width: int = 320,
    height: int = 180,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> World:
    """Write a video with its truth and questions; the same seed gives the same truth and questions.

    The three files appear together at the end: an interrupted run leaves nothing half-written.

    Args:
        out: the folder, made where it is missing.
        seconds: length of the video.
        seed: of everything.
        per_family: questions a family and format.
        wordings: "train", "unseen" or "all".
        split: which compositions may occur: "any", "train" or "exam".
        fps: frames a second of the mp4.
        width: of the mp4.
        height: of the mp4.
        overwrite: replace files of an earlier run.
        progress: called with (frames written, frames in all).
    Raises:
        HourLlavaError: a length out of range, a folder that cannot be written, existing files.
        ResourceError: the disk is full.
    """
    timeline = make_timeline(seconds, seed, split=split)
    questions = make_questions(timeline, seed, wordings=wordings, per_family=per_family)
    finals = {name: out / name for name in (VIDEO, TRUTH, QUESTIONS)}
    existing = [str(path) for path in finals.values() if path.exists()]
    if existing and not overwrite:
        raise HourLlavaError(
            f"{', '.join(existing)}: already there; give --overwrite or another --out"
        )
    lines = "".join(question.to_json() + "\n" for question in questions)
    texts = {TRUTH: timeline.to_json(), QUESTIONS: lines}
    partials = {name: out / f"{name}.partial" for name in texts}
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            partials[name].write_bytes(text.encode())
        write_video(timeline, finals[VIDEO], fps=fps, width=width, height=height, progress=progress)
        for name, partial in partials.items():
            partial.replace(finals[name])
    except OSError as error:
        raise as_write_error(error, out) from error
    finally:
        for partial in partials.values():
            _remove(partial)
    return World(folder=out, timeline=timeline, questions=questions)


def read_world(folder: Path) -> World:
    """Read back what `make_world` wrote, without the video.

    Raises:
        HourLlavaError: files that are missing or hold something else.
    """
    try:
        timeline = Timeline.from_json((folder / TRUTH).read_text(encoding="utf-8"))
        lines = (folder / QUESTIONS).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise HourLlavaError(
            f"{folder}: no folder of `hour-llava world make` ({error}); make one there"
        ) from error
    return World(
        folder=folder,
        timeline=timeline,
        questions=tuple(Question.from_json(line) for line in lines if line.strip()),
    )


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:  # `out` is a file, or may not be searched: then nothing was written
        return
