"""What the model's steps hand on: augmented tokens, a batch's pictures, the forward pass's output.

Letters: B batch, F frames, P cells a frame, D hidden, L sequence, S kept visual tokens of all rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.utils import ModelOutput

from hour_llava.model.memories import AnyVideoMemory, VideoMemory
from hour_llava.model.pictures import Pictures
from hour_llava.model.visual_plan import VisualPlan

PREFILL_INPUTS = (
    *Pictures.names(),
    "question_mask",
    "augmented_tokens",
    "observer",
    "output_evidence",
)
"""What only prefill reads."""


@dataclass(kw_only=True)
class Augmented:
    """What MemAug made of a batch.

    Args:
        tokens_SD: the augmented tokens of all rows, one row after another.
        lengths: how many are each row's.
        evidence: per row, the share of reading each video frame got (None: not asked, no video).
        memories: the videos' memories.
        idle: MemAug's rows where no row has pictures; training adds them with weight 0, so that
            every rank has the same gradients.
    """

    tokens_SD: Tensor
    lengths: list[int]
    evidence: list[Tensor | None] | None
    memories: list[AnyVideoMemory]
    idle: Tensor | None = None

    def of_row(self, row: int) -> Tensor:
        """Give one row's augmented tokens."""
        return self.tokens_SD.split(self.lengths)[row]

    def memory_frames(self) -> tuple[Tensor | None, ...] | None:
        """Give training each whole memory as (F, P + 1, D), None for a chunked one."""
        if not torch.is_grad_enabled():
            return None
        return tuple(
            m.tokens_MD.unflatten(0, (-1, m.tokens_per_frame))
            if isinstance(m, VideoMemory)
            else None
            for m in self.memories
        )


@dataclass
class HourLlavaOutput(ModelOutput):
    """The output of a forward pass.

    Args:
        loss: mean cross-entropy of shifted labels, where labels came.
        logits: (B, logits_to_keep or L, vocabulary).
        last_hidden_state: (B, L, D), of `HourLlavaModel` alone.
        augmented_tokens: (S, D), MemAug's visual rows of all rows of the batch.
        memory_tokens: a tuple of (F, P + 1, D), one a video; None where a memory is chunked, and
            where no gradient is kept (`augment` gives memories).
        evidence: per row, (F,) shares that sum to 1, where `output_evidence` asked for them.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    last_hidden_state: Tensor | None = None
    past_key_values: Any = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    augmented_tokens: Tensor | None = None
    memory_tokens: Any = None
    evidence: Any = None


@dataclass(frozen=True, kw_only=True)
class RowVisuals:
    """The pictures of a batch: its memories, which of them each row reads, what each row keeps."""

    memories: list[Any]
    videos: list[AnyVideoMemory]
    memory_of_row: list[int | None]
    plans: list[VisualPlan | None]
