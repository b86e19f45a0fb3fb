"""The exam of the built-in nano model: all 22 tasks on generated videos of 3, 10 and 60 minutes.

    python benchmarks/nano_exam.py all                           frames from the renderer, and files
    python benchmarks/nano_exam.py mass --seconds 600            frames from the renderer
    python benchmarks/nano_exam.py files --seconds 600           mp4 files, through `remember`
    python benchmarks/nano_exam.py swaps --seconds 600           the same model, other memories
    python benchmarks/nano_exam.py all --model runs/nano --out runs/exam/mine.json

Seeds and compositions (shape, colour and action of the actor) are held out. Every open question is
asked again with options. Scores go to a JSON file (benchmarks/results/nano_exam.json), intervals
clustered on videos; frames, features, files and single outcomes stay under --work.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import tyro

import hour_llava
from hour_llava.world.exam import (
    ExamResult,
    ExamVideo,
    Score,
    add_up,
    decayed_seconds,
    exam,
    oracle_coverage,
    uniform_seconds,
)
from hour_llava.world.families import (
    ALL_FAMILIES,
    FAMILIES,
    STORY_FAMILIES,
    TASK_OF,
    families_of,
)
from hour_llava.world.questions import Question, make_questions
from hour_llava.world.timeline import Timeline, make_timeline
from hour_llava.world.video_file import write_video
from nano_reader import (
    Answers,
    FrameStore,
    Reader,
    Video,
    kept_tokens,
    part_of,
    tokens_of_frames,
)
from record import origin

RESULTS = Path(__file__).parent / "results" / "nano_exam.json"
WORK = Path(__file__).parents[1] / "runs" / "exam"
FIRST_SEED = 70_000_000
FIRST_FILE = 70_500_000
NUM_VIDEOS = {180: 40, 600: 30, 3600: 24}
NUM_FILES = 8
NUM_SWAPPED = 12
REENCODED: tuple[dict[str, Any], ...] = (
    {"codec": "mpeg4", "width": 640, "height": 360, "fps": 10},
    {"codec": "libvpx-vp9", "width": 426, "height": 240, "fps": 8},
)
ARMS = ("full", "blind", "decayed", "uniform_32", "uniform_64", "quarter", "no_rope")
"""What is read of the memory: all, another video's, the decayed tokens, 32 or 64 frames, every
fourth second; all, but without rotary positions in MemAug."""

Part = Literal["all", "mass", "files", "swaps"]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A model that sits the exam.

    Args:
        num_frames: it sees as many frames of a video as this, spread evenly (None: all).
    """

    assistant: Any
    num_frames: int | None

    @classmethod
    def load(cls, name: str) -> Candidate:
        """Load a built-in model, a recipe's, or a baseline's folder (with baseline.json)."""
        assistant = hour_llava.load(name)
        path = Path(name) / "baseline.json"
        baseline: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        if baseline.get("has_rope") is False:
            assistant.model.model.memaug.rotary_share = 0.0
        return cls(assistant=assistant, num_frames=baseline.get("num_frames"))

    def shown(self, features: Video, seconds: int) -> Video:
        """Give what it sees of a video's features."""
        if self.num_frames is None or not isinstance(features, torch.Tensor):
            return features
        return features[torch.from_numpy(uniform_seconds(seconds, self.num_frames))]


def paper(
    timeline: Timeline,
    *,
    families: Sequence[str] = ALL_FAMILIES,
    seen: int = 2,
    unseen: int = 1,
    has_options: bool = True,
) -> list[Question]:
    """Draw a video's questions: of each family, twice as many of one that is alone in its task.

    An open question is a multiple-choice one without its options.

    Args:
        seen, unseen: how many of a family, in wordings of training and in others.
        has_options: ask everything again with options, where there are any.
    """
    choice: list[Question] = []
    for wordings, count in (("train", seen), ("unseen", unseen)):
        for family in families if count else ():
            is_alone = len(families_of(TASK_OF[family])) == 1
            choice += make_questions(
                timeline,
                timeline.seed,
                wordings=wordings,
                per_family=count * (1 + is_alone),
                formats=("oe",) if family == "summary" else ("mc",),
                families=(family,),
            )
    opened = [
        replace(q, id=q.id.replace("-mc-", "-oe-"), format="oe", options=None) for q in choice
    ]
    asked = [*opened, *(q for q in choice if q.options is not None and has_options)]
    return list(dict.fromkeys(asked))


def examine(videos: Iterator[ExamVideo[Answers]]) -> ExamResult:
    """Judge answers that were given already."""
    return exam(lambda answers, question: answers[question], videos)


def mass(candidate: Candidate, work: Path, seconds: int, num_videos: int) -> ExamResult:
    """Ask of frames straight from the renderer."""
    reader, store = Reader(candidate.assistant), FrameStore(candidate.assistant, work)

    def videos() -> Iterator[ExamVideo[Answers]]:
        for timeline in timelines(seconds, num_videos, FIRST_SEED):
            questions = paper(timeline)
            shown = candidate.shown(store.features(timeline), seconds)
            answers = reader.answers(shown, questions, with_peak=candidate.num_frames is None)
            yield video_of(timeline, questions, answers)

    return examine(videos())


def files(candidate: Candidate, work: Path, seconds: int, num_videos: int) -> ExamResult:
    """Ask of mp4 files; where `ask` would not answer, "I don't know" counts as wrong."""
    reader = Reader(candidate.assistant, abstains=True)

    def videos() -> Iterator[ExamVideo[Answers]]:
        for number, timeline in enumerate(timelines(seconds, num_videos, FIRST_FILE)):
            kind = REENCODED[number] if number < len(REENCODED) else {}
            path = write_once(timeline, work / "clips", kind)
            with cache_in(work / "cache"):
                memory = candidate.assistant.remember(path)
            questions = paper(timeline)
            answers = reader.answers(memory, questions)
            name = f"{timeline.seed} {kind.get('codec', '')}".strip()
            yield video_of(timeline, questions, answers, name=name)

    return examine(videos())


def write_once(timeline: Timeline, clips: Path, kind: dict[str, Any]) -> Path:
    """Write a video into a folder that holds nothing but mp4 files, unless it is there."""
    clips.mkdir(parents=True, exist_ok=True)
    path = clips / f"{timeline.split}_{timeline.duration_seconds}_{timeline.seed}.mp4"
    if not path.exists():
        write_video(timeline, path, **kind)
    return path


@contextmanager
def cache_in(folder: Path) -> Iterator[None]:
    """Keep memories of files in a folder for a while."""
    before = os.environ.get("HOUR_LLAVA_CACHE")
    os.environ["HOUR_LLAVA_CACHE"] = str(folder)
    try:
        yield
    finally:
        del os.environ["HOUR_LLAVA_CACHE"]
        if before is not None:
            os.environ["HOUR_LLAVA_CACHE"] = before


def swapped(
    candidate: Candidate, work: Path, seconds: int, num_videos: int, arm: str
) -> ExamResult:
    """Ask open questions in seen wordings with a part of the memory, or another video's."""
    reader, store = Reader(candidate.assistant), FrameStore(candidate.assistant, work)
    config = candidate.assistant.model.config
    width = int(config.num_cells) + 1
    read = {
        "decayed": partial(kept_tokens, seconds, width, config.max_kept_frames),
        "uniform_32": partial(tokens_of_frames, seconds, 32, width),
        "uniform_64": partial(tokens_of_frames, seconds, 64, width),
        "quarter": partial(tokens_of_frames, seconds, seconds // 4, width),
    }
    part = partial(part_of, tokens_M=read[arm]()) if arm in read else None
    asked_of = list(timelines(seconds, num_videos, FIRST_SEED))

    def videos() -> Iterator[ExamVideo[Answers]]:
        for number, timeline in enumerate(asked_of):
            questions = paper(timeline, unseen=0, has_options=False)
            shown = asked_of[(number + (arm == "blind")) % len(asked_of)]
            features = candidate.shown(store.features(shown), seconds)
            answers = reader.answers(features, questions, memory=part, with_peak=False)
            yield video_of(timeline, questions, answers)

    memaug = candidate.assistant.model.model.memaug
    share = memaug.rotary_share
    memaug.rotary_share = 0.0 if arm == "no_rope" else share
    try:
        return examine(videos())
    finally:
        memaug.rotary_share = share


def coverage(seconds: int, num_videos: int, max_kept_frames: int) -> dict[str, dict[str, float]]:
    """Say which share of questions has all its evidence among a few frames."""
    videos = [
        video_of(timeline, paper(timeline, unseen=0, has_options=False), {})
        for timeline in timelines(seconds, num_videos, FIRST_SEED)
    ]
    return oracle_coverage(
        videos,
        {
            "decayed": lambda s: decayed_seconds(s, max_frames=max_kept_frames),
            "uniform_32": lambda s: uniform_seconds(s, 32),
            "uniform_64": lambda s: uniform_seconds(s, 64),
        },
    )


def timelines(seconds: int, count: int, first_seed: int) -> Iterator[Timeline]:
    """Make the truth of videos with held-out compositions."""
    seeds = range(first_seed, first_seed + count)
    return (make_timeline(seconds, seed, split="exam") for seed in seeds)


def video_of(
    timeline: Timeline, questions: Sequence[Question], answers: Answers, *, name: str = ""
) -> ExamVideo[Answers]:
    """Put a video's answers beside its questions."""
    return ExamVideo(
        name=name or str(timeline.seed),
        video=answers,
        duration_seconds=timeline.duration_seconds,
        questions=tuple(questions),
    )


def scores_of(result: ExamResult) -> dict[str, Any]:
    """Keep all scores, rounded, and beside them the means of the needles' and story's families."""
    names = ("tasks", "accuracy", "evidence", "single_evidence", "when_by_peak")
    scores = {name: [_rounded(score) for score in getattr(result, name)] for name in names}
    groups: dict[str, Any] = {}
    for group, families in (("needles", FAMILIES), ("story", STORY_FAMILIES)):
        part = add_up([o for o in result.outcomes if o.family in families])
        means = [s for s in (*part.accuracy, *part.single_evidence) if s.family == "mean"]
        groups[group] = [_rounded(score) for score in means]
    return scores | {"groups": groups}


def _rounded(score: Score) -> dict[str, Any]:
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(score).items()}


def about(candidate: Candidate, name: str) -> dict[str, Any]:
    """Say which model sat the exam."""
    weights = candidate.assistant.encoder.tower_digest
    return {
        "name": name,
        "parameters": candidate.assistant.num_parameters,
        "tower": weights,
    }


def main(
    part: tyro.conf.Positional[Part],
    seconds: tuple[int, ...] = tuple(NUM_VIDEOS),
    model: str = "nano",
    videos: int | None = None,
    arms: tuple[str, ...] = ARMS,
    prefix: str = "",
    work: Path = WORK,
    out: Path = RESULTS,
) -> None:
    """Sit the exam, or a part of it.

    Args:
        part: mass (frames from the renderer), files (mp4), all (both), or swaps (other memories).
        seconds: lengths of the videos.
        model: name or folder.
        videos: how many a length and part (default: 40, 30 and 24 of frames; 8 files; 12 swapped).
        arms: of swaps.
        prefix: stands before the parts' names in the JSON file, for retrained baselines.
        work: where frames, features, files and outcomes are kept.
        out: where the scores are added.
    """
    torch.set_num_threads(1)
    candidate = Candidate.load(model)
    for length in seconds:
        runs: dict[str, Any] = {}
        if part in ("all", "mass"):
            count = videos or NUM_VIDEOS.get(length, NUM_SWAPPED)
            runs["mass"] = partial(mass, candidate, work, length, count)
        if part in ("all", "files"):
            runs["files"] = partial(files, candidate, work, length, videos or NUM_FILES)
        for arm in arms if part == "swaps" else ():
            count = videos or NUM_SWAPPED
            runs[f"swaps/{arm}"] = partial(swapped, candidate, work, length, count, arm)
        for name, run in runs.items():
            started = time.process_time()
            result = run()
            cpu_seconds = round(time.process_time() - started, 1)
            stamp = origin("torch") | {"cpu_seconds": cpu_seconds, "model": about(candidate, model)}
            keep(out, {f"{prefix}{name}/{length}": stamp | scores_of(result)})
            save_outcomes(work / "outcomes", f"{prefix}{name}/{length}", result)
            print(
                f"{prefix}{name}, {length} s, {cpu_seconds} CPU s\n{result.to_markdown()}",
                flush=True,
            )
        if part == "swaps":
            kept = candidate.assistant.model.config.max_kept_frames
            share = coverage(length, videos or NUM_SWAPPED, kept)
            keep(out, {f"{prefix}coverage/{length}": origin("torch") | {"share": share}})


def keep(out: Path, results: dict[str, Any]) -> None:
    """Add results to a JSON file, in the place of older ones of their name."""
    known = json.loads(out.read_text()) if out.exists() else {}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(known | results, separators=(",", ":")) + "\n")


def save_outcomes(folder: Path, name: str, result: ExamResult) -> None:
    """Write every outcome as a line of JSON, for a look at the errors."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(asdict(outcome)) for outcome in result.outcomes]
    (folder / f"{name.replace('/', '_')}.jsonl").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    tyro.cli(main)
