"""The loss of the next word, over labelled positions alone.

An hour of video is 8,704 visual tokens that have no label, and 152 k words make logits of 5 GB out
of them. So the head sees labelled positions only, a chunk at a time, and makes each chunk's logits
again in the backward pass.

Letters: B batch, L sequence, D hidden, V vocabulary, N labelled positions, C of a chunk.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

IGNORED = -100


def cross_entropy(
    logits_BLV: Tensor, labels_BL: Tensor, *, num_items: Tensor | int | None = None
) -> Tensor:
    """Compute the loss from all logits: the plain twin.

    Args:
        logits_BLV: of every position.
        labels_BL: -100 where nothing is learned; position l is predicted from l - 1.
        num_items: what the sum is divided by: labelled positions of all micro-batches and ranks
            of a step; None: those of this batch.

    Returns:
        A float32 scalar; 0 where nothing is labelled.
    """
    labels_BL = labels_BL.to(logits_BLV.device)
    logits = logits_BLV[:, :-1].float().flatten(0, 1)
    total = F.cross_entropy(
        logits, labels_BL[:, 1:].flatten(), ignore_index=IGNORED, reduction="sum"
    )
    return total / _divisor(num_items, labels_BL, total)


def chunked_cross_entropy(
    head: Callable[[Tensor], Tensor],
    hidden_BLD: Tensor,
    labels_BL: Tensor,
    *,
    chunk_size: int,
    num_items: Tensor | int | None = None,
) -> Tensor:
    """Compute the same loss without logits of more than a chunk of positions.

    Args:
        head: hidden states (C, D) to logits (C, V). It is called at least once, so that its
            weights have gradients on every rank.
        hidden_BLD: what the language model ends with.
        labels_BL, num_items: as in `cross_entropy`.
        chunk_size: positions whose logits are held at a time.

    Returns:
        A float32 scalar.

    Cost: chunk_size x V x 8 bytes (1,024 positions of 152 k words: 1.2 GB).
    """
    labels_BL = labels_BL.to(hidden_BLD.device)
    is_labelled_BL = labels_BL[:, 1:] != IGNORED
    labels_N = labels_BL[:, 1:][is_labelled_BL]
    hidden_ND = hidden_BLD[:, :-1][is_labelled_BL]
    if not len(labels_N):
        return 0.0 * head(hidden_BLD[:, :1]).float().sum()
    total = hidden_ND.new_zeros((), dtype=torch.float32)
    for hidden_CD, labels_C in zip(
        hidden_ND.split(chunk_size), labels_N.split(chunk_size), strict=True
    ):
        total = total + checkpoint(_summed, head, hidden_CD, labels_C, use_reentrant=False)
    return total / _divisor(num_items, labels_BL, total)


def num_labelled(labels_BL: Tensor) -> int:
    """Count the positions that are learned; the first has nothing to be predicted from."""
    return int((labels_BL[:, 1:] != IGNORED).sum())


def _summed(head: Callable[[Tensor], Tensor], hidden_CD: Tensor, labels_C: Tensor) -> Tensor:
    return F.cross_entropy(head(hidden_CD).float(), labels_C, reduction="sum")


def _divisor(num_items: Tensor | int | None, labels_BL: Tensor, total: Tensor) -> Tensor | int:
    if num_items is None:
        return max(1, num_labelled(labels_BL))
    return num_items.to(total.device) if isinstance(num_items, Tensor) else num_items
