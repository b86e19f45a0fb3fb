"""Answering a question from a memory: prompt, MemAug, then words or a choice among options.

Letters: F frames, L sequence, S kept tokens, V vocabulary, n options.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hour_llava.errors import QuestionError, ResourceError
from hour_llava.memory.repository import MemoryRepository
from hour_llava.model.modeling_hour_llava import HourLlavaForConditionalGeneration
from hour_llava.model.outputs import Augmented
from hour_llava.model.processing_hour_llava import HourLlavaProcessor
from hour_llava.model.prompts import IMAGE, VIDEO
from hour_llava.model.scoring import option_log_likelihoods
from hour_llava.session.answer import UNSURE, Answer
from hour_llava.session.budget import memory_bytes_within
from hour_llava.session.evidence import find_spans
from hour_llava.session.question import (
    LETTERS,
    check_question,
    refuse_control_words,
    with_letters,
)

# A question of which the tokenizer does not know more than this share of the words is not of the
# model's world.
_MAX_UNKNOWN_SHARE = 0.5


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """A question that can be asked: the model's inputs, and the bytes its memory may take."""

    inputs: dict[str, Any]
    by_letter: bool
    memory_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class _Said:
    """What the language model said: the text, how sure it was, and each option's probability."""

    text: str
    confidence: float
    option_scores: tuple[float, ...] = ()


@torch.inference_mode()
def answer_question(
    model: HourLlavaForConditionalGeneration,
    processor: HourLlavaProcessor,
    memory: MemoryRepository,
    question: str,
    *,
    options: Sequence[str],
    wants_evidence: bool,
    seed: int,
    max_new_tokens: int,
    max_memory: int | None,
    name: str,
) -> Answer:
    """Answer one question; arguments as in `Assistant.ask`."""
    prepared = prepare_question(
        model,
        processor,
        memory,
        question,
        options=options,
        seed=seed,
        max_new_tokens=max_new_tokens,
        max_memory=max_memory,
    )
    config, by_letter = model.config, prepared.by_letter
    inputs = {name: _placed(value, model.device) for name, value in prepared.inputs.items()}
    begin = time.monotonic()
    augmented = model.augment(
        **inputs, evidence=wants_evidence, max_memory_bytes=prepared.memory_bytes
    )
    _wait_for(model.device)
    middle = time.monotonic()
    speaker = _Speaker(model, processor, inputs, augmented)
    if by_letter:
        said = speaker.choose_letter(options)
    elif options:
        said = speaker.choose_option(options)
    else:
        said = speaker.speak(max_new_tokens)
    end = time.monotonic()
    if math.isnan(said.confidence):
        raise ResourceError(
            f"{name} in {str(model.dtype).removeprefix('torch.')} computed NaN: its numbers are "
            "too large for that; take --dtype float32, or bfloat16"
        )
    mass = augmented.evidence[0] if wants_evidence and augmented.evidence else None
    abstained = _is_unsure(config, processor, question, said)
    mass_F = None if mass is None else mass.double().cpu().numpy()
    times_F = memory.times_F.numpy()
    return Answer(
        text=UNSURE if abstained else said.text,
        evidence=[] if mass_F is None else _spans(mass_F, times_F, memory),
        confidence=said.confidence,
        abstained=abstained,
        best_guess=said.text,
        model=name,
        domain=config.domain,
        memory_tokens=augmented.memories[0].num_tokens,
        kept_tokens=sum(augmented.lengths),
        augment_seconds=middle - begin,
        generate_seconds=end - middle,
        option_scores=said.option_scores,
        mass_F=mass_F,
        times_F=None if mass_F is None else times_F,
    )


def prepare_question(
    model: HourLlavaForConditionalGeneration,
    processor: HourLlavaProcessor,
    memory: MemoryRepository,
    question: str,
    *,
    options: Sequence[str],
    seed: int,
    max_new_tokens: int,
    max_memory: int | None,
) -> Prepared:
    """Put a question to a memory as far as that costs nothing; its features are not touched.

    Raises:
        QuestionError: it cannot be asked, or is longer than the model reads.
        ResourceError: `max_memory` is too small.
    """
    check_question(question, options)
    control = [*processor.tokenizer.all_special_tokens, IMAGE, VIDEO]
    refuse_control_words(" ".join([question, *options]), control)
    by_letter = bool(options) and model.config.option_scoring == "letter"
    asked = with_letters(question, options) if by_letter else question
    inputs = processor(text=_prompt(processor, asked), video_features=[memory], seed=seed)
    num_tokens = inputs["input_ids"].shape[1]
    _require_room(model.config, processor, num_tokens, max_new_tokens)
    memory_bytes = None
    if max_memory is not None:
        memory_bytes = memory_bytes_within(max_memory, model, memory, num_tokens)
    return Prepared(inputs=dict(inputs), by_letter=by_letter, memory_bytes=memory_bytes)


class _Speaker:
    """The language model behind one augmented prompt."""

    def __init__(
        self,
        model: HourLlavaForConditionalGeneration,
        processor: HourLlavaProcessor,
        inputs: dict[str, Any],
        augmented: Augmented,
    ) -> None:
        self._model, self._processor, self._inputs = model, processor, inputs
        self._augmented = augmented
        self._prompt: dict[str, Any] = {
            "input_ids": inputs["input_ids"],
            "attention_mask": inputs["attention_mask"],
            "augmented_tokens": augmented.tokens_SD,
        }

    def speak(self, max_new_tokens: int) -> _Said:
        """Generate greedily; the confidence covers the end of the answer, if it was reached."""
        out: Any = self._model.generate(  # pyright: ignore[reportAttributeAccessIssue]
            **self._prompt,
            do_sample=False,
            num_beams=1,
            max_new_tokens=max_new_tokens,
            output_logits=True,
            return_dict_in_generate=True,
        )
        new_ids = out.sequences[0, self._prompt["input_ids"].shape[1] :]
        log_probs = [
            logits[0].float().log_softmax(-1)[token].item()
            for logits, token in zip(out.logits, new_ids, strict=True)
        ]
        text = self._processor.decode(new_ids, skip_special_tokens=True).strip()
        return _Said(text=text, confidence=math.exp(sum(log_probs) / max(1, len(log_probs))))

    def choose_letter(self, options: Sequence[str]) -> _Said:
        """Compare the probabilities of the letters as the answer's first token."""
        logits_V = self._model(**self._prompt, logits_to_keep=1).logits[0, -1].float()
        letters = [self._tokens(letter)[0] for letter in LETTERS[: len(options)]]
        scores = logits_V[letters].softmax(-1).tolist()
        best = max(range(len(options)), key=scores.__getitem__)
        return _Said(text=options[best], confidence=scores[best], option_scores=tuple(scores))

    def choose_option(self, options: Sequence[str]) -> _Said:
        """Compare the probabilities of the options as whole answers to the open question."""
        totals_n = option_log_likelihoods(
            self._model, self._processor, self._inputs, options, augmented=self._augmented
        )
        best = int(totals_n.argmax())
        num_tokens = 1 + len(self._tokens(options[best]))  # and the answer's end
        return _Said(
            text=options[best],
            confidence=math.exp(float(totals_n[best]) / num_tokens),
            option_scores=tuple(totals_n.double().softmax(-1).tolist()),
        )

    def _tokens(self, text: str) -> list[int]:
        return self._processor.tokenizer(text, add_special_tokens=False)["input_ids"]


def _prompt(processor: HourLlavaProcessor, text: str) -> str:
    content: Any = [{"type": "video"}, {"type": "text", "text": text}]
    return processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )


def _spans(mass_F: np.ndarray, times_F: np.ndarray, memory: MemoryRepository) -> list[Any]:
    # What stands still where the memory begins came on screen before.
    times_F = np.maximum(times_F, memory.sampling.start_seconds or 0.0)
    end = max(float(times_F[0]) + memory.duration_seconds, float(times_F[-1]))
    return find_spans(mass_F, times_F, frame_seconds=1 / memory.sampling.fps, end_seconds=end)


def _require_room(
    config: Any, processor: HourLlavaProcessor, num_tokens: int, max_new_tokens: int
) -> None:
    """Refuse a prompt that is longer than the language model can read."""
    room = min(config.text_config.max_position_embeddings, processor.tokenizer.model_max_length)
    left = room - num_tokens
    if left < 1:
        raise QuestionError(
            f"the video and the question take {num_tokens:,} tokens, but the model reads {room:,}; "
            "shorten the question"
        )
    if max_new_tokens > left:
        raise QuestionError(
            f"--max-new-tokens {max_new_tokens:,} is too much: the model reads {room:,} tokens, of "
            f"which the video and the question take {num_tokens:,}; give at most {left:,}"
        )


def _is_unsure(config: Any, processor: HourLlavaProcessor, question: str, said: _Said) -> bool:
    """Say whether the model should rather not answer.

    A model of one domain declines questions in words it never learned; one with a measured
    threshold declines what it is not sure of.
    """
    unknown = processor.tokenizer.unk_token_id
    ids = processor.tokenizer(question, add_special_tokens=False)["input_ids"]
    is_foreign = unknown is not None and ids.count(unknown) > _MAX_UNKNOWN_SHARE * len(ids)
    if config.domain is not None and is_foreign:
        return True
    return config.abstain_below is not None and (
        not said.text or said.confidence < config.abstain_below
    )


def _placed(value: Any, device: torch.device) -> Any:
    return value.to(device) if isinstance(value, Tensor) else value


def _wait_for(device: torch.device) -> None:
    """Let the clock see the work of an accelerator."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
