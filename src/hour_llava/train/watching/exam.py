"""A small exam of MarathonWorld on the way: is the model learning to answer, not only to fit?

The questions are those of `world.exam`, of videos that no training video shares a seed or a
held-out composition with; a model is asked just as `hour-llava ask` asks it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from hour_llava.errors import HourLlavaError
from hour_llava.memory.repository import MemoryRepository
from hour_llava.model.processing_hour_llava import HourLlavaProcessor
from hour_llava.session.answering import answer_question
from hour_llava.world.exam import ExamAnswer, ExamVideo, exam
from hour_llava.world.questions import Question, make_questions
from hour_llava.world.render import Renderer, render_ticks
from hour_llava.world.timeline import Timeline, make_timeline

FIRST_SEED = 80_000_000
_CHUNK = 64
_ANSWER_TOKENS = 24


class WorldExam:
    """Asks a model about generated videos; a `Measurement.measure`.

    Every process takes the whole exam, in step: a sharded model needs them all, and a plain one
    loses nothing.

    Args:
        processor: The model's.
        seconds: Length of each video.
        videos: How many.
        questions: A family and format, where a video has so many.
        formats: "oe" open-ended, "mc" multiple choice.
        model_of: Finds the Hour-LLaVA model in what the Trainer trains.
    """

    def __init__(
        self,
        processor: HourLlavaProcessor,
        *,
        seconds: int = 60,
        videos: int = 4,
        questions: int = 1,
        formats: tuple[str, ...] = ("oe", "mc"),
        model_of: Callable[[nn.Module], Any] = lambda model: model,
    ) -> None:
        self._processor, self._model_of, self._formats = processor, model_of, formats
        self._timelines = [
            make_timeline(seconds, FIRST_SEED + number, split="exam") for number in range(videos)
        ]
        self._questions = questions

    def __call__(self, model: nn.Module) -> dict[str, float]:
        """Take the exam.

        Returns:
            The mean over families of each format (oe, mc), what guessing gets (chance/oe, ..), how
            many questions there were (questions/oe, ..), and the share of each task (oe/TASK, ..).
        """
        own = self._model_of(model)

        def answer(memory: MemoryRepository, question: Question) -> ExamAnswer:
            return ExamAnswer(text=self._ask(own, memory, question))

        result = exam(answer, self._videos(own), num_rounds=1)
        found: dict[str, float] = {}
        for score in result.accuracy:
            if score.family == "mean" and score.wordings == "all":
                found |= {score.format: score.share, f"chance/{score.format}": score.chance}
                found[f"questions/{score.format}"] = score.num_questions
        for score in result.tasks:
            if score.family != "mean":
                found[f"{score.format}/{score.family}"] = score.share
        return found

    def _videos(self, model: Any) -> Iterator[ExamVideo[MemoryRepository]]:
        renderer = Renderer()
        for timeline in self._timelines:
            features = self._features(model, timeline, renderer)
            yield ExamVideo(
                name=str(timeline.seed),
                video=MemoryRepository(
                    features_FPD=features, times_F=torch.arange(len(features)).double()
                ),
                duration_seconds=timeline.duration_seconds,
                questions=make_questions(
                    timeline, timeline.seed, per_family=self._questions, formats=self._formats
                ),
            )

    def _features(self, model: Any, timeline: Timeline, renderer: Renderer) -> Tensor:
        ticks = range(timeline.duration_seconds)
        parts = [
            self._processor.video_processing(
                render_ticks(timeline, ticks[start : start + _CHUNK], renderer=renderer)
            )
            for start in range(0, len(ticks), _CHUNK)
        ]
        return torch.cat([model.encode_video(part.to(model.device)) for part in parts])

    def _ask(self, model: Any, memory: MemoryRepository, question: Question) -> str:
        try:
            return answer_question(
                model,
                self._processor,
                memory,
                question.question,
                options=question.options or (),
                wants_evidence=False,
                seed=0,
                max_new_tokens=_ANSWER_TOKENS,
                max_memory=None,
                name="the model",
            ).best_guess
        except HourLlavaError:  # a model that computes NaN answers nothing; training goes on
            return ""
