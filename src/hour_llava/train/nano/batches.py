"""Training batches from token groups: many questions a video, so that keys and values are shared.

A row reads `<video> .. <video> question words <|im_start|> answer words <|im_end|>`, the same that
the chat template makes when asking.

Shape letters: B rows, V videos, Q questions a video, L sequence, F frames, P cells, D tower width,
A attributes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from hour_llava.memory.forgetting import count_kept_tokens
from hour_llava.model.configuration_hour_llava import HourLlavaConfig
from hour_llava.train.nano.naming import Names, Naming
from hour_llava.train.nano.splice import VideoSample
from hour_llava.train.nano.tower import multi_hot
from hour_llava.world.families import OPEN_FAMILIES
from hour_llava.world.questions import ANSWERS, Question, ask
from hour_llava.world.timeline import ACTIONS, ACTS, PATTERNS, SCENES, SHAPES

IGNORED = -100
TRIES = 1000
CONTENT = (*SHAPES, *SCENES, *ACTS, *PATTERNS)
"""What a question is about; no other word of it is needed, with some luck."""

FIRST_ITEMS = (*SHAPES, *SCENES, *ACTIONS)
"""What lists may begin with."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Rows of several videos of equal length, V x Q of them, video by video.

    Args:
        inputs: of the model's forward.
        labels_BL: answer words, `IGNORED` elsewhere.
        answers_B: number of the answer (of a list: of its first item) among all answers.
        naming: what MemAug's query rows are told of the evidence.
        attributes_VFPA: bits of what stands, and of what stood in the seconds before, in each cell
            (None without the truth).
        families: of each row.
    """

    inputs: dict[str, Any]
    labels_BL: Tensor
    answers_B: Tensor
    naming: Naming
    attributes_VFPA: Tensor | None
    families: list[str]

    def arguments(self) -> dict[str, Any]:
        """Give what `NanoObjective` is called with."""
        return self.inputs | {
            "labels": self.labels_BL,
            "answers": self.answers_B,
            "naming": self.naming,
            "attributes": self.attributes_VFPA,
            "families": self.families,
        }


class Composer:
    """Makes batches for one model.

    Args:
        config: of the model, for the number of kept tokens.
        tokenizer: knows all words of the questions.
        families: what is asked.
    """

    def __init__(
        self,
        config: HourLlavaConfig,
        tokenizer: PreTrainedTokenizerBase,
        families: Sequence[str],
    ) -> None:
        self.config = config
        self.tokenizer = tokenizer
        self.families = tuple(families)
        self.answers = sorted(
            {answer for family in families for answer in ANSWERS.get(family, FIRST_ITEMS)}
        )
        self.start_id = tokenizer.convert_tokens_to_ids("<|im_start|>")
        kept = tokenizer(list(CONTENT), add_special_tokens=False).input_ids
        self.names = Names(tokenizer)
        self.content_ids = {token for ids in kept for token in ids}

    def compose(
        self,
        features_VFPD: Sequence[Tensor],
        questions_VQ: Sequence[Sequence[Question]],
        *,
        seconds_VF: Sequence[Tensor] | None = None,
        answers: Sequence[str] | None = None,
        classes_VFPA: Tensor | None = None,
        blur: Random | None = None,
    ) -> Batch:
        """Lay out rows.

        Args:
            features_VFPD: a video's features each, all of one length.
            questions_VQ: a video's questions each.
            seconds_VF: when the frames are; one a second by default.
            answers: what to write behind each question instead of the right answer.
            classes_VFPA: labels for the attribute probe.
            blur: drops and hides words of the questions that are not `CONTENT`.
        """
        flat = [question for questions in questions_VQ for question in questions]
        answers = answers or [question.answer for question in flat]
        num_frames = len(features_VFPD[0])
        seconds_VF = seconds_VF or [torch.arange(num_frames)] * len(features_VFPD)
        num_visual = self.num_visual_tokens(num_frames)
        asked = self._ids([question.question for question in flat])
        if blur is not None:
            asked = [self._blur(ids, blur) for ids in asked]
        said = [[*ids, self.tokenizer.eos_token_id] for ids in self._ids(list(answers))]
        prompts = [[*ids, self.start_id] for ids in asked]
        videos = [n for n, questions in enumerate(questions_VQ) for _ in questions]
        rows = [num_visual + len(prompt) for prompt in prompts]
        counts = [len(questions) for questions in questions_VQ]
        inputs, labels_BL = self._tensors(num_visual, prompts, said)
        return Batch(
            inputs=inputs
            | {
                "video_features": list(features_VFPD),
                "video_seconds": list(seconds_VF),
                "memory_index": torch.tensor(videos),
            },
            labels_BL=labels_BL,
            answers_B=torch.tensor([self.answers.index(_class_of(q)) for q in flat]),
            naming=self.names.tell(
                _split(asked, counts),
                _split(rows, counts),
                _spans(questions_VQ, seconds_VF),
                classes_VFPA,
                seconds_VF=seconds_VF,
                first_word=num_visual,
            ),
            attributes_VFPA=None
            if classes_VFPA is None
            else attributes_of_tubes(classes_VFPA, self.config.tube_size),
            families=[question.family for question in flat],
        )

    def draw(
        self,
        videos: Sequence[VideoSample],
        rng: Random,
        *,
        num_questions: int,
        noise: float,
        families: Sequence[str] = (),
    ) -> Batch:
        """Draw questions of videos of one length.

        Args:
            num_questions: of each video.
            families: what is asked, one named twice twice as often (default: all equally often).
            noise: standard deviation of what is added to the features.
        """
        features = torch.stack([video.features_FPD for video in videos]).float()
        chance = torch.Generator().manual_seed(rng.getrandbits(62))
        features += noise * torch.randn(features.shape, generator=chance)
        return self.compose(
            list(features),
            [
                draw_questions(v.timeline, num_questions, families or self.families, rng)
                for v in videos
            ],
            seconds_VF=[video.seconds_F for video in videos],
            classes_VFPA=torch.stack([video.classes_FPA for video in videos]),
            blur=rng,
        )

    def num_visual_tokens(self, num_frames: int) -> int:
        """Count a video's placeholders."""
        config = self.config
        return count_kept_tokens(
            num_frames,
            grid_side=config.pool_size,
            min_frames=config.min_memory_frames,
            keep_ratio=config.frame_keep_ratio,
            max_frames=config.max_kept_frames,
            spatial=config.spatial_forgetting,  # type: ignore[arg-type]
        )

    def _ids(self, texts: list[str]) -> list[list[int]]:
        return self.tokenizer(texts, add_special_tokens=False).input_ids

    def _blur(self, ids: list[int], rng: Random) -> list[int]:
        """Two in three questions lose a word in seven and have one in fourteen hidden."""
        if rng.random() < 1 / 3:
            return ids
        unknown, blurred = self.tokenizer.unk_token_id, []
        for token in ids:
            draw = 1.0 if token in self.content_ids else rng.random()
            if draw >= 1 / 7:
                blurred.append(unknown if draw < 3 / 14 else token)
        return blurred

    def _tensors(
        self, num_visual: int, prompts: list[list[int]], said: list[list[int]]
    ) -> tuple[dict[str, Any], Tensor]:
        """Pad on the right: input ids, attention mask, question mask (all (B, L)), and labels."""
        lengths = [
            num_visual + len(prompt) + len(answer)
            for prompt, answer in zip(prompts, said, strict=True)
        ]
        shape = (len(prompts), max(lengths))
        ids = torch.full(shape, int(self.tokenizer.pad_token_id))  # type: ignore[arg-type]
        labels = torch.full(shape, IGNORED)
        attention = torch.zeros(shape, dtype=torch.long)
        question = torch.zeros(shape, dtype=torch.bool)
        for row, (prompt, answer) in enumerate(zip(prompts, said, strict=True)):
            end = num_visual + len(prompt)
            ids[row, :num_visual] = self.config.video_token_id
            ids[row, num_visual : lengths[row]] = torch.tensor([*prompt, *answer])
            labels[row, end : lengths[row]] = torch.tensor(answer)
            attention[row, : lengths[row]] = 1
            question[row, num_visual:end] = True
        inputs = {"input_ids": ids, "attention_mask": attention, "question_mask": question}
        return inputs, labels


def draw_questions(
    timeline: Any, count: int, families: Sequence[str], rng: Random
) -> list[Question]:
    """Draw questions of random families, passing over those that have nothing to ask.

    Raises:
        ValueError: None of the families has, in `TRIES` draws.
    """
    questions: list[Question] = []
    for number in itertools.count():
        if len(questions) == count:
            break
        if number == TRIES and not questions:
            raise ValueError(
                f"nothing to ask of a video of {timeline.duration_seconds} s: {', '.join(families)}"
            )
        question = ask(timeline, rng.choice(families), rng)
        if question is not None:
            questions.append(question)
    return questions


def attributes_of_tubes(classes_VFPA: Tensor, tube_size: int) -> Tensor:
    """Give the bits of each cell's attributes now, a second ago, and so on: what a tube can tell.

    How long something has been there is what durations are counted by.
    """
    bits = [multi_hot(classes_VFPA.long())]
    for _ in range(tube_size - 1):
        bits.append(torch.cat([bits[-1][:, :1], bits[-1][:, :-1]], dim=1))
    return torch.cat(bits, dim=-1)


def _class_of(question: Question) -> str:
    """Give an answer as the answer head knows it: of a list, the first item."""
    return question.answer.split(",")[0] if question.family in OPEN_FAMILIES else question.answer


def _spans(questions_VQ: Sequence[Sequence[Question]], seconds_VF: Sequence[Tensor]) -> Tensor:
    most = max(len(questions) for questions in questions_VQ)
    spans = torch.zeros(len(questions_VQ), most, len(seconds_VF[0]), dtype=torch.int8)
    for video, (questions, seconds_F) in enumerate(zip(questions_VQ, seconds_VF, strict=True)):
        for place, question in enumerate(questions):
            for number, span in enumerate(question.evidence, start=1):
                first, end = int(span.start_seconds), int(span.end_seconds)
                spans[video, place, (seconds_F >= first) & (seconds_F < end)] = number
    return spans


def _split(values: list[Any], counts: Sequence[int]) -> list[list[Any]]:
    starts = [sum(counts[:number]) for number in range(len(counts))]
    return [values[start : start + count] for start, count in zip(starts, counts, strict=True)]
