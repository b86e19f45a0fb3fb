"""Losses and heads that exist in training only; the model itself never sees them.

From scratch, MemAug finds the evidence only when told where it is: without `evidence_loss` every
question about content stayed at chance in the same budget (design/nano.md).

Shape letters: V videos, Q questions a video, n query rows of a video, H heads, K kv heads,
E head size, M memory tokens, F frames, T tokens, A attributes, N rows, S kept tokens, D hidden.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def evidence_loss(
    queries_VHnE: Tensor,
    keys_VKME: Tensor,
    evidence_VQF: Tensor,
    question_of_row_Vn: Tensor,
    *,
    num_heads: int,
) -> Tensor:
    """Score how little of the cross-attention lies on the evidence: minus the log of its mass.

    Only the first `num_heads` heads are told where to look; the others stay free.

    Args:
        queries_VHnE: rotated queries, all questions of a video one after another.
        keys_VKME: rotated keys, the same number of tokens for each frame.
        evidence_VQF: bool, which frames hold the evidence of a question.
        question_of_row_Vn: the question that a query row belongs to, -1 for padding.

    Returns:
        The mean over told heads and the rows of questions that have evidence; 0 if none has.
    """
    H, K, num_frames = queries_VHnE.shape[1], keys_VKME.shape[1], evidence_VQF.shape[-1]
    keys = keys_VKME[:, [head // (H // K) for head in range(num_heads)]]
    scores = queries_VHnE[:, :num_heads] @ keys.transpose(-1, -2) / math.sqrt(keys.shape[-1])
    by_frame_VhnF = scores.float().unflatten(-1, (num_frames, -1)).logsumexp(-1)
    row_VnF = question_of_row_Vn.clamp(min=0)[..., None].expand(-1, -1, num_frames)
    evidence_VnF = evidence_VQF.gather(1, row_VnF) & (question_of_row_Vn >= 0)[..., None]
    on_evidence = by_frame_VhnF.masked_fill(~evidence_VnF[:, None], -1e9).logsumexp(-1)
    loss_Vn = (by_frame_VhnF.logsumexp(-1) - on_evidence).mean(1)
    counts_Vn = evidence_VnF.any(-1)
    return loss_Vn[counts_Vn].sum() / counts_Vn.sum().clamp(min=1)


class EvidenceObserver:
    """Collects `evidence_loss` from every cross-attention of one forward.

    Args:
        evidence_QF: for each memory, (questions, frames) bool, questions in row order.
        rows: for each memory, how many query rows each of its questions has.
        num_heads: how many heads are told where to look.
    """

    def __init__(
        self,
        evidence_QF: Sequence[Tensor],
        rows: Sequence[Sequence[int]],
        *,
        num_heads: int,
    ) -> None:
        self.evidence_QF = evidence_QF
        self.rows = rows
        self.num_heads = num_heads
        self.losses: list[Tensor] = []

    def __call__(
        self, layer: int, memories: tuple[int, ...], queries_VHnE: Tensor, keys_VKME: Tensor
    ) -> None:
        """Take one layer's reading of some memories of equal length."""
        question_of_row = [
            torch.repeat_interleave(torch.tensor(self.rows[memory])) for memory in memories
        ]
        padded_Vn = torch.full((len(memories), queries_VHnE.shape[2]), -1)
        for row, questions in zip(padded_Vn, question_of_row, strict=True):
            row[: len(questions)] = questions
        evidence = nn.utils.rnn.pad_sequence(
            [self.evidence_QF[memory] for memory in memories], batch_first=True
        )
        loss = evidence_loss(queries_VHnE, keys_VKME, evidence, padded_Vn, num_heads=self.num_heads)
        self.losses.append(loss * len(memories) / len(self.rows))

    def loss(self, num_layers: int) -> Tensor:
        """Return the mean over layers."""
        return torch.stack(self.losses).sum() / num_layers


class AnswerHead(nn.Module):
    """Deep supervision: a linear guess of the answer from the mean of the augmented tokens."""

    def __init__(self, hidden_size: int, num_answers: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden_size, num_answers)

    def forward(self, augmented_NSD: Tensor, answers_N: Tensor) -> Tensor:
        """Return the cross-entropy of the true answers; augmented tokens are (N, S, D)."""
        return F.cross_entropy(self.linear(augmented_NSD.mean(1)), answers_N)


class AttributeProbe(nn.Module):
    """A linear multi-label reading of the memory tokens: what stands in which cell, when.

    It plays the part of stage 1 of the paper: the projector learns what the tower saw.
    """

    def __init__(self, hidden_size: int, num_attributes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden_size, num_attributes)

    def forward(self, memory_TD: Tensor, attributes_TA: Tensor) -> Tensor:
        """Return the binary cross-entropy, summed over attributes and averaged over tokens."""
        logits = self.linear(memory_TD)
        loss = F.binary_cross_entropy_with_logits(logits, attributes_TA.float(), reduction="none")
        return loss.sum(-1).mean()
