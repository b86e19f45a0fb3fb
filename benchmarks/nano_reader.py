"""Asks a small model many questions about one video at once; the answers are those of `ask`.

Frames as they leave the renderer, and the tower's features of them, are kept on disk: models that
share a tower, and later exams of one model, encode nothing again.
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hour_llava.memory.repository import MemoryRepository
from hour_llava.model.memories import ChunkedVideoMemory, VideoMemory
from hour_llava.model.outputs import Augmented
from hour_llava.session.answer import UNSURE
from hour_llava.world.exam import ExamAnswer, decayed_seconds, uniform_seconds
from hour_llava.world.families import OPEN_FAMILIES
from hour_llava.world.questions import Question
from hour_llava.world.render import Renderer, render_ticks
from hour_llava.world.timeline import Timeline

ROWS = 64
MAX_NEW_TOKENS = 20
FRAMES_AT_ONCE = 256

Answers = dict[Question, ExamAnswer]
Video = Tensor | MemoryRepository


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


def kept_tokens(seconds: int, width: int, max_kept_frames: int) -> Tensor:
    """Name the decayed tokens of a video: the first cell and the newline of each kept frame."""
    frames = torch.from_numpy(decayed_seconds(seconds, max_frames=max_kept_frames))
    return (frames[:, None] * width + torch.tensor([0, width - 1])).flatten()


def tokens_of_frames(seconds: int, count: int, width: int) -> Tensor:
    """Name all tokens of frames spread evenly over a video."""
    frames = torch.from_numpy(uniform_seconds(seconds, count))
    return (frames[:, None] * width + torch.arange(width)).flatten()


class FrameStore:
    """Exam videos as frames of the tower's size and as features, on disk.

    Args:
        assistant: whose tower it is.
        folder: where both are kept; delete it when the renderer has changed.
    """

    def __init__(self, assistant: Any, folder: Path) -> None:
        self._encoder, self._processor = assistant.encoder, assistant.processor
        self._frames = folder / f"frames_{assistant.model.config.vision_config.image_size}"
        self._features = folder / "features" / assistant.encoder.tower_digest
        for kept in (self._frames, self._features):
            kept.mkdir(parents=True, exist_ok=True)
        self._renderer = Renderer()

    def features(self, timeline: Timeline) -> Tensor:
        """Give the tower's features (F, P, D), float16, of the ticks as they leave the renderer."""
        path = self._features / f"{_name(timeline)}.npy"
        if not path.exists():
            frames_FCSS = self._frames_of(timeline)
            parts = [
                self._encoder.encode(torch.from_numpy(np.array(part)).float() / 127.5 - 1.0)
                for part in np.array_split(frames_FCSS, max(1, len(frames_FCSS) // FRAMES_AT_ONCE))
            ]
            _save(path, torch.cat(parts).half().numpy())
        return torch.from_numpy(np.load(path))

    def _frames_of(self, timeline: Timeline) -> np.ndarray:
        """Give the frames (F, C, S, S) uint8, just as the processor would resize them."""
        path = self._frames / f"{_name(timeline)}.npy"
        if not path.exists():
            parts: list[np.ndarray] = []
            for start in range(0, timeline.duration_seconds, FRAMES_AT_ONCE):
                end = min(start + FRAMES_AT_ONCE, timeline.duration_seconds)
                drawn = render_ticks(timeline, range(start, end), renderer=self._renderer)
                pixels = self._processor.video_processing(drawn)
                parts.append(((pixels + 1.0) * 127.5).round().byte().numpy())
            _save(path, np.concatenate(parts))
        return np.load(path, mmap_mode="r")


def _name(timeline: Timeline) -> str:
    digest = hashlib.sha256(timeline.to_json().encode()).hexdigest()[:12]
    return f"{timeline.split}_{timeline.duration_seconds}_{timeline.seed}_{digest}"


def _save(path: Path, array: np.ndarray) -> None:
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.save(file, array)
    partial.rename(path)


class Reader:
    """Answers questions about features with the model behind an assistant, many at a time.

    A multiple-choice question with the text of an open one shares its reading of the memory.

    Args:
        assistant: model and processor.
        abstains: say "I don't know" where `ask` would.
    """

    def __init__(self, assistant: Any, *, abstains: bool = False) -> None:
        self.model, self.processor = assistant.model, assistant.processor
        self._threshold = self.model.config.abstain_below if abstains else None
        self._end = int(self.processor.tokenizer.eos_token_id)

    @torch.inference_mode()
    def answers(
        self,
        video: Video,
        questions: Sequence[Question],
        *,
        memory: Callable[[VideoMemory], Any] | None = None,
        with_peak: bool = True,
    ) -> Answers:
        """Answer all questions about one video.

        Args:
            video: features (F, P, D) of one frame a second, or what `remember` gave.
            questions: in any order.
            memory: makes of the whole memory what MemAug may read.
            with_peak: also say which second was read most.
        """
        whole = self.model.project_memory(video)
        read = whole if memory is None else memory(whole)
        by_text: dict[str, list[Question]] = {}
        for question in questions:
            by_text.setdefault(question.question, []).append(question)
        # Long answers go together: the others' rows would wait for them.
        texts = sorted(by_text, key=lambda text: by_text[text][0].family in OPEN_FAMILIES)
        found: Answers = {}
        for start in range(0, len(texts), ROWS):
            some = [by_text[text] for text in texts[start : start + ROWS]]
            found |= self._answer_rows(video, read, some, with_peak and memory is None)
        return found

    def _answer_rows(
        self, video: Video, read: Any, rows: Sequence[Sequence[Question]], with_peak: bool
    ) -> Answers:
        """Answer questions; those of a row have one text."""
        inputs = self.processor(
            text=[_prompt(self.processor, row[0].question) for row in rows],
            video_features=[video],
            memory_index=[0] * len(rows),
            padding_side="left",
        )
        inputs["video_features"] = [read]
        augmented = self.model.augment(**inputs, evidence=with_peak)
        peaks = _peaks(video, augmented, len(rows))
        speaker = _Speaker(self.model, inputs, augmented)
        spoken = speaker.speak(self._end)
        asked = [
            (number, question)
            for number, row in enumerate(rows)
            for question in row
            if question.options is not None
        ]
        chosen = iter(self._choose(speaker, asked))
        answers: Answers = {}
        for number, row in enumerate(rows):
            for question in row:
                ids, confidence = next(chosen) if question.options else spoken[number]
                text = self.processor.decode(ids, skip_special_tokens=True).strip()
                if question.options:
                    text = question.options[int(ids)]
                is_unsure = self._threshold is not None and confidence < self._threshold
                answers[question] = ExamAnswer(
                    text=UNSURE if is_unsure else text, peak_seconds=peaks[number]
                )
        return answers

    def _choose(
        self, speaker: _Speaker, asked: Sequence[tuple[int, Question]]
    ) -> list[tuple[Any, float]]:
        """Compare options as answers: the best one's number and how sure it is."""
        tails: list[list[int]] = []
        rows: list[int] = []
        for number, question in asked:
            for option in question.options or ():
                ids = self.processor.tokenizer(option, add_special_tokens=False)["input_ids"]
                tails.append([*ids, self._end])
                rows.append(number)
        if not tails:
            return []
        totals = speaker.score(rows, tails)
        chosen: list[tuple[Any, float]] = []
        start = 0
        for _, question in asked:
            own = totals[start : start + len(question.options or ())]
            best = int(own.argmax())
            length = len(tails[start + best])
            chosen.append((best, math.exp(float(own[best]) / length)))
            start += len(own)
        return chosen


class _Speaker:
    """The language model behind a batch of augmented prompts, each read once.

    Letters: B rows, n continued rows, T tokens of a continuation.
    """

    def __init__(self, model: Any, inputs: Any, augmented: Augmented) -> None:
        self._model, self._mask_BL = model, inputs["attention_mask"]
        output = model(
            input_ids=inputs["input_ids"],
            attention_mask=self._mask_BL,
            position_ids=_positions(self._mask_BL),
            augmented_tokens=augmented.tokens_SD,
            use_cache=True,
            logits_to_keep=1,
        )
        self._cache = output.past_key_values
        self._next_BV = output.logits[:, -1].float().log_softmax(-1)

    def speak(self, end: int) -> list[tuple[list[int], float]]:
        """Say the likeliest words until `end`: each row's tokens and its mean likelihood."""
        cache, mask_BL, log_p_BV = copy.deepcopy(self._cache), self._mask_BL, self._next_BV
        is_open_B = torch.ones(len(mask_BL), dtype=torch.bool)
        said: list[list[int]] = [[] for _ in is_open_B]
        totals_B = torch.zeros(len(mask_BL))
        for step in range(MAX_NEW_TOKENS):
            best_B, token_B = log_p_BV.max(-1)
            totals_B += torch.where(is_open_B, best_B, 0.0)
            for row in is_open_B.nonzero().flatten().tolist():
                said[row].append(int(token_B[row]))
            is_open_B &= token_B != end
            if step == MAX_NEW_TOKENS - 1 or not is_open_B.any():
                break
            mask_BL = torch.cat([mask_BL, mask_BL.new_ones(len(mask_BL), 1)], dim=1)
            log_p_BV = self._go_on(token_B[:, None], mask_BL, cache)[:, -1]
        return [
            (ids, math.exp(float(total) / len(ids)))
            for ids, total in zip(said, totals_B, strict=True)
        ]

    def score(self, rows: Sequence[int], tails: Sequence[Sequence[int]]) -> Tensor:
        """Add up the log-likelihoods of each tail behind its row's prompt: (n,)."""
        index_n = torch.tensor(rows)
        width = max(len(tail) for tail in tails)
        tail_nT = torch.tensor([[*tail, *[0] * (width - len(tail))] for tail in tails])
        real_nT = torch.tensor([[1] * len(tail) + [0] * (width - len(tail)) for tail in tails])
        log_p = self._next_BV[index_n][:, None]
        if width > 1:
            cache = copy.deepcopy(self._cache)
            cache.batch_select_indices(index_n)
            mask = torch.cat([self._mask_BL[index_n], real_nT[:, :-1]], dim=1)
            log_p = torch.cat([log_p, self._go_on(tail_nT[:, :-1], mask, cache)], dim=1)
        return (log_p.gather(-1, tail_nT[..., None])[..., 0] * real_nT).sum(-1)

    def _go_on(self, tokens_nT: Tensor, mask_nL: Tensor, cache: Any) -> Tensor:
        output = self._model(
            input_ids=tokens_nT,
            attention_mask=mask_nL,
            position_ids=_positions(mask_nL)[:, -tokens_nT.shape[1] :],
            past_key_values=cache,
            use_cache=True,
        )
        return output.logits.float().log_softmax(-1)


def _positions(mask_BL: Tensor) -> Tensor:
    """Count each row's tokens from its own first one, whatever is padded before it."""
    return (mask_BL.cumsum(-1) - 1).clamp(min=0)


def _peaks(video: Video, augmented: Augmented, num_rows: int) -> list[float | None]:
    """Say when each row read most; without a repository, frames are seconds."""
    if augmented.evidence is None:
        return [None] * num_rows
    frames = [None if mass is None else int(mass.argmax()) for mass in augmented.evidence]
    if isinstance(video, Tensor):
        return [None if frame is None else float(frame) for frame in frames]
    return [None if frame is None else float(video.times_F[frame]) for frame in frames]


def _prompt(processor: Any, question: str) -> str:
    content = [{"type": "video"}, {"type": "text", "text": question}]
    return processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
