"""Losses and heads that exist in training only; the model itself never sees them.

From scratch, MemAug finds the evidence only when told where it is: without `evidence_loss` every
question about content stayed at chance in the same budget.

Shape letters: V videos, Q questions a video, n query rows of a video, H heads, K kv heads,
E head size, M memory tokens, F frames, T tokens, A attributes, N rows, S kept tokens, D hidden.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MOST_SCORES, LEAST_ROWS = 100_000, 96
"""Rows of a video times memory tokens that the evidence loss looks at: of long videos some rows
only, drawn by lot, but never fewer than so many."""


def evidence_loss(
    queries_VHnE: Tensor,
    keys_VKME: Tensor,
    spans_VQF: Tensor,
    question_of_row_Vn: Tensor,
    *,
    num_heads: int,
) -> tuple[Tensor, Tensor]:
    """Score how little of the cross-attention lies on the evidence: minus the log of its mass.

    Only the first `num_heads` heads are told where to look; the others stay free. Any part of the
    evidence is good for a row; but all rows of a question together must see every span of it.

    Args:
        queries_VHnE: rotated queries, all questions of a video one after another.
        keys_VKME: rotated keys, the same number of tokens for each frame.
        spans_VQF: which span of a question's evidence, from 1 on, a frame is in, else 0.
        question_of_row_Vn: the question that a query row belongs to, -1 for padding.

    Returns:
        The mean over told heads and the rows of questions that have evidence; and of questions
        with several spans, minus the log of each span's share. Each 0 where there is none.
    """
    H, K, num_frames = queries_VHnE.shape[1], keys_VKME.shape[1], spans_VQF.shape[-1]
    num_rows = queries_VHnE.shape[2]
    most_rows = max(LEAST_ROWS, MOST_SCORES // keys_VKME.shape[2])
    if num_rows > most_rows:
        chosen = torch.randperm(num_rows)[:most_rows]
        queries_VHnE = queries_VHnE[:, :, chosen]
        question_of_row_Vn = question_of_row_Vn[:, chosen]
    keys = keys_VKME[:, [head // (H // K) for head in range(num_heads)]]
    # Cell by cell, so that the sums over a frame's cells run along frames: a third faster.
    by_cell = keys.unflatten(2, (num_frames, -1)).transpose(2, 3).flatten(2, 3)
    queries = queries_VHnE[:, :num_heads] / math.sqrt(keys.shape[-1])
    scores = (queries @ by_cell.transpose(-1, -2)).float()
    by_frame_VhnF = scores.unflatten(-1, (-1, num_frames)).logsumexp(-2)
    row_VnF = question_of_row_Vn.clamp(min=0)[..., None].expand(-1, -1, num_frames)
    is_row_Vn1 = (question_of_row_Vn >= 0)[..., None]
    evidence_VnF = (spans_VQF > 0).gather(1, row_VnF) & is_row_Vn1
    on_evidence = by_frame_VhnF.masked_fill(~evidence_VnF[:, None], -1e9).logsumexp(-1)
    total_Vhn = by_frame_VhnF.logsumexp(-1)
    loss_Vn = (total_Vhn - on_evidence).mean(1)
    counts_Vn = evidence_VnF.any(-1)
    located = loss_Vn[counts_Vn].sum() / counts_Vn.sum().clamp(min=1)
    mass_VnF = (by_frame_VhnF - total_Vhn[..., None]).exp().mean(1) * is_row_Vn1
    return located, _spread_loss(mass_VnF, row_VnF, spans_VQF)


def _spread_loss(mass_VnF: Tensor, row_VnF: Tensor, spans_VQF: Tensor) -> Tensor:
    """Score how unevenly the rows of questions with several spans see them: 0 when all alike."""
    num_spans_VQ = spans_VQF.amax(-1)
    mass_VQF = torch.zeros(spans_VQF.shape).scatter_add(1, row_VnF, mass_VnF)
    mass_VQF = mass_VQF / mass_VQF.sum(-1, keepdim=True).clamp(min=1e-9)
    losses: list[Tensor] = []
    for number in range(1, int(num_spans_VQ.max()) + 1):
        share_VQ = (mass_VQF * (spans_VQF == number)).sum(-1) * num_spans_VQ
        asked = (num_spans_VQ > 1) & (spans_VQF == number).any(-1)
        losses.append(-share_VQ[asked].clamp(min=1e-6).log())
    flat = torch.cat(losses) if losses else mass_VnF.new_zeros(0)
    return flat.sum() / max(1, len(flat))


class EvidenceObserver:
    """Collects `evidence_loss` from every cross-attention of one forward.

    Args:
        spans_QF: for each memory, (questions, frames) numbers of spans.
        span_of_row: for each memory, which of its spans each of its query rows is told.
        num_heads: how many heads are told where to look.
    """

    def __init__(
        self,
        spans_QF: Sequence[Tensor],
        span_of_row: Sequence[Sequence[int]],
        *,
        num_heads: int,
    ) -> None:
        self.spans_QF = spans_QF
        self.span_of_row = span_of_row
        self.num_heads = num_heads
        self.losses: list[Tensor] = []
        self.spread_losses: list[Tensor] = []

    def __call__(
        self, layer: int, memories: tuple[int, ...], queries_VHnE: Tensor, keys_VKME: Tensor
    ) -> None:
        """Take one layer's reading of some memories of equal length."""
        padded_Vn = torch.full((len(memories), queries_VHnE.shape[2]), -1)
        for row, memory in zip(padded_Vn, memories, strict=True):
            told = torch.tensor(self.span_of_row[memory])
            row[: len(told)] = told
        spans = nn.utils.rnn.pad_sequence(
            [self.spans_QF[memory] for memory in memories], batch_first=True
        )
        located, spread = evidence_loss(
            queries_VHnE, keys_VKME, spans, padded_Vn, num_heads=self.num_heads
        )
        share = len(memories) / len(self.span_of_row)
        self.losses.append(located * share)
        self.spread_losses.append(spread * share)

    def loss(self, num_layers: int) -> Tensor:
        """Return the mean over layers; 0 of a model without MemAug."""
        return torch.stack(self.losses).sum() / num_layers if num_layers else torch.zeros(())

    def spread_loss(self, num_layers: int) -> Tensor:
        """Return the mean over layers of how unevenly several spans are seen."""
        return torch.stack(self.spread_losses).sum() / num_layers if num_layers else torch.zeros(())


class AnswerHead(nn.Module):
    """Deep supervision: a linear guess of the answer from the mean of the augmented tokens."""

    def __init__(self, hidden_size: int, num_answers: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden_size, num_answers)

    def forward(self, augmented_NSD: Tensor, answers_N: Tensor) -> Tensor:
        """Return the cross-entropy of the true answers; augmented tokens are (N, S, D)."""
        return F.cross_entropy(self.linear(augmented_NSD.mean(1)), answers_N)


class AttributeProbe(nn.Module):
    """A linear multi-label reading of tokens: what stands in which cell, when.

    Of memory tokens, it plays the part of stage 1 of the paper: the projector learns what the tower
    saw. Of MemAug's rows that name something, it tells what they are to find out about it.
    """

    def __init__(self, hidden_size: int, num_attributes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden_size, num_attributes)

    def forward(self, tokens_TD: Tensor, attributes_TA: Tensor) -> Tensor:
        """Return the binary cross-entropy, summed over attributes and averaged over tokens."""
        logits = self.linear(tokens_TD)
        loss = F.binary_cross_entropy_with_logits(logits, attributes_TA.float(), reduction="none")
        return loss.sum(-1).sum() / max(1, loss[..., 0].numel())


class AnsweringProbe(nn.Module):
    """A linear reading of the token at which the language model begins to answer.

    Before the last layer a place is a name of the question, and its bits are what may be compared:
    that has to stand in one token first. Behind it a place is a pair of names, and its bits are
    what both share: that cannot be read linearly from the two.
    """

    def __init__(self, hidden_size: int, num_places: int, num_bits: int) -> None:
        super().__init__()
        self.shape = num_places, num_bits
        self.linear = nn.Linear(hidden_size, num_places * num_bits)

    def forward(
        self, hidden_BD: Tensor, questions_n: Tensor, places_n: Tensor, bits_nA: Tensor
    ) -> Tensor:
        """Return the binary cross-entropy, summed over bits and averaged over places."""
        logits = self.linear(hidden_BD).unflatten(-1, self.shape)[questions_n, places_n]
        loss = F.binary_cross_entropy_with_logits(logits, bits_nA.float(), reduction="none")
        return loss.sum() / max(1, len(bits_nA))


class LengthProbe(nn.Module):
    """A linear reading of the same token: how long it is between names, and how long each lasts.

    Few questions ask for lengths of time, but every two names of any question have one.
    """

    def __init__(self, hidden_size: int, num_lengths: int, num_rungs: int) -> None:
        super().__init__()
        self.shape = num_lengths, num_rungs
        self.linear = nn.Linear(hidden_size, num_lengths * num_rungs)

    def forward(
        self, hidden_BD: Tensor, questions_n: Tensor, numbers_n: Tensor, rungs_n: Tensor
    ) -> Tensor:
        """Return the cross-entropy, averaged over lengths."""
        logits = self.linear(hidden_BD).unflatten(-1, self.shape)[questions_n, numbers_n]
        loss = F.cross_entropy(logits, rungs_n, reduction="sum")
        return loss / max(1, len(rungs_n))
