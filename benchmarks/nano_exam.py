"""The exam of the built-in nano model: generated videos of 3, 10 and 60 minutes, held-out seeds.

    python benchmarks/nano_exam.py mass --seconds 600 --videos 60     frames from the renderer
    python benchmarks/nano_exam.py swaps --seconds 600 --videos 12    the same model, other memories
    python benchmarks/nano_exam.py files --seconds 600 --videos 8     mp4 files, alone in a folder

Each part adds its scores to benchmarks/results/nano_exam.json; intervals are clustered on videos.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from torch import Tensor

import hour_llava
from hour_llava.model.memories import ChunkedVideoMemory, VideoMemory
from hour_llava.model.outputs import Augmented
from hour_llava.model.scoring import option_log_likelihoods
from hour_llava.world.exam import (
    ExamAnswer,
    ExamResult,
    ExamVideo,
    Outcome,
    add_up,
    decayed_seconds,
    exam,
    is_same_answer,
    oracle_coverage,
    uniform_seconds,
)
from hour_llava.world.questions import FAMILIES, Question, make_questions
from hour_llava.world.render import Renderer, render_ticks
from hour_llava.world.timeline import Timeline, make_timeline
from hour_llava.world.video_file import write_video
from record import origin

RESULTS = Path(__file__).parent / "results" / "nano_exam.json"
FIRST_SEED = 70_000_000
ROWS = 22
REENCODED: tuple[dict[str, Any], ...] = (
    {"codec": "mpeg4", "width": 640, "height": 360, "fps": 10},
    {"codec": "libvpx-vp9", "width": 426, "height": 240, "fps": 8},
)

ARMS = ("full", "blind", "decayed", "uniform_32", "uniform_64")

Answers = dict[Question, ExamAnswer]
Part = Literal["mass", "swaps", "files"]


@dataclass(frozen=True, kw_only=True)
class PartialMemory(ChunkedVideoMemory):
    """A memory that MemAug reads only a part of; the decayed tokens come from the whole."""

    whole: VideoMemory
    tokens_M: Tensor

    @property
    def num_frames(self) -> int:
        """Count the video's frames."""
        return self.whole.num_frames

    @property
    def num_tokens(self) -> int:
        """Count the tokens that may be read."""
        return len(self.tokens_M)

    def chunks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Give the tokens that may be read, at once."""
        yield self.whole.tokens_MD[self.tokens_M], self.whole.positions_M[self.tokens_M]

    def gather(self, kept_S: Tensor) -> Tensor:
        """Take kept tokens from the whole memory."""
        return self.whole.gather(kept_S)


def part_of(whole: VideoMemory, tokens_M: Tensor) -> PartialMemory:
    """Let only the named tokens be read."""
    nothing: Any = None  # the fields of a memory that is projected piece by piece
    return PartialMemory(
        source=nothing,
        project=nothing,
        frame_index=nothing,
        chunk_frames=0,
        tokens_per_frame=whole.tokens_per_frame,
        whole=whole,
        tokens_M=tokens_M,
    )


class Reader:
    """Answers questions about features with the model behind an assistant, many at a time."""

    def __init__(self, assistant: Any) -> None:
        self.model, self.processor = assistant.model, assistant.processor
        self.renderer = Renderer()

    @torch.inference_mode()
    def features(self, timeline: Timeline) -> Tensor:
        """Encode the ticks of a video as they leave the renderer."""
        parts = [
            render_ticks(
                timeline,
                range(start, min(start + 256, timeline.duration_seconds)),
                renderer=self.renderer,
            )
            for start in range(0, timeline.duration_seconds, 256)
        ]
        pixels = (self.processor.video_processing(part) for part in parts)
        return torch.cat([self.model.encode_video(part).half() for part in pixels])

    @torch.inference_mode()
    def answers(
        self,
        features: Tensor,
        questions: Sequence[Question],
        *,
        memory: Callable[[VideoMemory], Any] | None = None,
        with_peak: bool = True,
    ) -> Answers:
        """Answer all questions about one video."""
        whole = self.model.project_memory(features)
        read = whole if memory is None else memory(whole)
        found: Answers = {}
        for start in range(0, len(questions), ROWS):
            some = questions[start : start + ROWS]
            found |= self._answer_some(features, read, some, with_peak and memory is None)
        return found

    def _answer_some(
        self, features: Tensor, memory: Any, questions: Sequence[Question], with_peak: bool
    ) -> Answers:
        prompts = [_prompt(self.processor, question.question) for question in questions]
        inputs = self.processor(
            text=prompts,
            video_features=[features],
            memory_index=[0] * len(prompts),
            padding_side="left",
        )
        inputs["video_features"] = [memory]
        augmented = self.model.augment(**inputs, evidence=with_peak)
        peaks = [
            float(mass.argmax()) if mass is not None else None
            for mass in augmented.evidence or [None] * len(prompts)
        ]
        spoken = self._speak(inputs, augmented)
        answers = {}
        for row, question in enumerate(questions):
            text = spoken[row]
            if question.options is not None:
                text = self._choose(prompts[row], features, augmented, row, question.options)
            answers[question] = ExamAnswer(text=text, peak_seconds=peaks[row])
        return answers

    def _speak(self, inputs: Any, augmented: Augmented) -> list[str]:
        output = self.model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            augmented_tokens=augmented.tokens_SD,
            do_sample=False,
            max_new_tokens=6,
        )
        said = output[:, inputs["input_ids"].shape[1] :]
        return [self.processor.decode(row, skip_special_tokens=True).strip() for row in said]

    def _choose(
        self,
        prompt: str,
        features: Tensor,
        augmented: Augmented,
        row: int,
        options: Sequence[str],
    ) -> str:
        inputs = self.processor(text=prompt, video_features=[features])
        own = Augmented(
            tokens_SD=augmented.of_row(row),
            lengths=[augmented.lengths[row]],
            evidence=None,
            memories=augmented.memories,
        )
        scores = option_log_likelihoods(self.model, self.processor, inputs, options, augmented=own)
        return options[int(scores.argmax())]


def _prompt(processor: Any, question: str) -> str:
    content = [{"type": "video"}, {"type": "text", "text": question}]
    return processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )


def ask_all(
    timeline: Timeline,
    *,
    seen: int,
    unseen: int,
    formats: Sequence[str],
    families: Sequence[str] = FAMILIES,
) -> list[Question]:
    """Draw questions in seen and in unseen wordings."""
    questions: list[Question] = []
    for wordings, count in (("train", seen), ("unseen", unseen)):
        if count:
            questions += make_questions(
                timeline,
                timeline.seed,
                wordings=wordings,
                per_family=count,
                formats=formats,
                families=families,
            )
    return list(dict.fromkeys(questions))


def examine(videos: Iterator[ExamVideo[Answers]]) -> ExamResult:
    """Judge answers that were given already."""
    return exam(lambda answers, question: answers[question], videos)


def mass(reader: Reader, seconds: int, num_videos: int) -> dict[str, ExamResult]:
    """Ask of frames straight from the renderer."""

    def videos() -> Iterator[ExamVideo[Answers]]:
        for timeline in _timelines(seconds, num_videos):
            questions = ask_all(timeline, seen=4, unseen=2, formats=("oe", "mc"))
            answers = reader.answers(reader.features(timeline), questions)
            yield _video(timeline, questions, answers)

    return {"mass": examine(videos())}


def kept_tokens(seconds: int, width: int, max_kept_frames: int) -> Tensor:
    """Name the decayed tokens of a video: the first cell and the newline of each kept frame."""
    frames = torch.from_numpy(decayed_seconds(seconds, max_frames=max_kept_frames))
    return (frames[:, None] * width + torch.tensor([0, width - 1])).flatten()


def tokens_of_frames(seconds: int, count: int, width: int) -> Tensor:
    """Name all tokens of frames spread evenly over a video."""
    frames = torch.from_numpy(uniform_seconds(seconds, count))
    return (frames[:, None] * width + torch.arange(width)).flatten()


def swaps(
    reader: Reader, seconds: int, num_videos: int, arms: Sequence[str] = ARMS
) -> dict[str, ExamResult]:
    """Ask with less memory: another video's, the decayed tokens alone, 32 and 64 frames."""
    timelines = list(_timelines(seconds, num_videos))
    features = [reader.features(timeline) for timeline in timelines]
    config = reader.model.config
    width = config.num_cells + 1
    read = {
        "decayed": kept_tokens(seconds, width, config.max_kept_frames),
        "uniform_32": tokens_of_frames(seconds, 32, width),
        "uniform_64": tokens_of_frames(seconds, 64, width),
    }

    def videos(arm: str) -> Iterator[ExamVideo[Answers]]:
        for number, timeline in enumerate(timelines):
            questions = ask_all(timeline, seen=2, unseen=0, formats=("oe",))
            shown = features[(number + (arm == "blind")) % len(features)]
            part = None if arm not in read else partial(part_of, tokens_M=read[arm])
            answers = reader.answers(shown, questions, memory=part, with_peak=False)
            yield _video(timeline, questions, answers)

    return {arm: examine(videos(arm)) for arm in arms}


def coverage(seconds: int, num_videos: int, max_kept_frames: int) -> dict[str, dict[str, float]]:
    """Say which share of questions has its evidence among a few frames."""
    videos = [
        _video(timeline, ask_all(timeline, seen=4, unseen=0, formats=("oe",)), {})
        for timeline in _timelines(seconds, num_videos)
    ]
    return oracle_coverage(
        videos,
        {
            "decayed": lambda s: decayed_seconds(s, max_frames=max_kept_frames),
            "uniform_32": lambda s: uniform_seconds(s, 32),
            "uniform_64": lambda s: uniform_seconds(s, 64),
        },
    )


def files(
    assistant: Any, seconds: int, num_videos: int, clips: Path | None, first: int
) -> dict[str, ExamResult]:
    """Ask of mp4 files, each alone in an empty folder, through the public interface."""

    def videos() -> Iterator[ExamVideo[Answers]]:
        timelines = _timelines(seconds, num_videos, offset=500_000 + first)
        for number, timeline in enumerate(timelines, first):
            kind = REENCODED[number] if number < len(REENCODED) else {}
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "video.mp4"
                if clips is not None:
                    shutil.copy(write_once(timeline, clips, kind), path)
                else:
                    write_video(timeline, path, **kind)
                memory = assistant.remember(path, use_cache=False)
            questions = ask_all(timeline, seen=2, unseen=1, formats=("oe", "mc"))
            answers = {q: _through_the_door(assistant, memory, q) for q in questions}
            yield _video(timeline, questions, answers, name=f"{timeline.seed} {kind or ''}".strip())

    return {"files": examine(videos())}


def write_once(timeline: Timeline, clips: Path, kind: dict[str, Any]) -> Path:
    """Write a video into a folder, unless it is there."""
    path = clips / f"{timeline.duration_seconds}_{timeline.seed}.mp4"
    if not path.exists():
        write_video(timeline, path, **kind)
    return path


def _through_the_door(assistant: Any, memory: Any, question: Question) -> ExamAnswer:
    answer = assistant.ask(memory, question.question, options=question.options, evidence=True)
    peak = None if answer.mass_F is None else float(answer.times_F[answer.mass_F.argmax()])
    return ExamAnswer(text=answer.text, peak_seconds=peak)


def _timelines(seconds: int, count: int, offset: int = 0) -> Iterator[Timeline]:
    return (make_timeline(seconds, FIRST_SEED + offset + number) for number in range(count))


def _video(
    timeline: Timeline, questions: Sequence[Question], answers: Answers, *, name: str = ""
) -> ExamVideo[Answers]:
    return ExamVideo(
        name=name or str(timeline.seed),
        video=answers,
        duration_seconds=timeline.duration_seconds,
        questions=tuple(questions),
    )


def record(result: ExamResult) -> dict[str, Any]:
    """Keep scores whole and outcomes short."""
    scores = ("accuracy", "evidence", "when_by_peak")
    record: dict[str, Any] = {name: [asdict(s) for s in getattr(result, name)] for name in scores}
    record["outcomes"] = [
        [o.video, o.family, o.format, int(o.is_unseen), o.expected, o.answered, o.is_near]
        for o in result.outcomes
    ]
    return record


def outcomes_of(known: dict[str, Any]) -> list[Outcome]:
    """Read back what `record` kept of outcomes."""
    return [
        Outcome(
            video=video,
            question_id="",
            family=family,
            format=format,
            is_unseen=bool(is_unseen),
            expected=expected,
            answered=answered,
            is_right=is_same_answer(answered, expected),
            is_near=is_near,
            is_right_by_peak=None,
        )
        for video, family, format, is_unseen, expected, answered, is_near in known["outcomes"]
    ]


def stamp_of(command: str, started: float) -> dict[str, Any]:
    """Say when, with which code and at what cost a part was run."""
    cpu_seconds = round(time.process_time() - started, 1)
    return origin("torch", command=f"python benchmarks/{command}") | {"cpu_seconds": cpu_seconds}


def main(
    part: tyro.conf.Positional[Part],
    seconds: int,
    videos: int,
    model: str = "nano",
    clips: Path | None = None,
    first: int = 0,
    out: Path = RESULTS,
) -> None:
    """Run one part of the exam.

    Args:
        part: which one.
        seconds: length of the videos.
        videos: how many.
        model: name or folder.
        clips: where mp4 files are kept between runs (default: nowhere).
        first: number of the first file; the results of files that come before it are kept.
        out: where the scores are added.
    """
    torch.set_num_threads(1)
    started = time.process_time()
    assistant = hour_llava.load(model)
    if part == "files":
        results = files(assistant, seconds, videos, clips, first)
    else:
        results = (mass if part == "mass" else swaps)(Reader(assistant), seconds, videos)
    command = f"nano_exam.py {part} --seconds {seconds} --videos {videos}"
    stamp = stamp_of(command, started)
    known = json.loads(out.read_text()) if out.exists() else {}
    for name, result in results.items():
        if first:
            result = add_up([*outcomes_of(known[f"{part}/{name}/{seconds}"]), *result.outcomes])
        known[f"{part}/{name}/{seconds}"] = stamp | record(result)
        print(f"{part} {name}, {seconds} s\n{result.to_markdown()}", flush=True)
    if part == "swaps":
        kept = assistant.model.config.max_kept_frames
        known[f"coverage/{seconds}"] = stamp | {"share": coverage(seconds, videos, kept)}
    out.write_text(json.dumps(known, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    tyro.cli(main)
