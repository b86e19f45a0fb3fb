"""Generating from rows that are padded on the right: each row goes on behind its own last word.

transformers takes the last column's logits and counts positions on from the last column, which is
right for rows of one length and for rows padded on the left.

Letters: B batch, L sequence, n new tokens of a step, D hidden.
"""

from __future__ import annotations

import torch
from torch import Tensor


def positions_across_padding(attention_mask: Tensor | None) -> Tensor | None:
    """Count every row's positions (B, L) over its own tokens; None where no padding follows any."""
    if attention_mask is None or attention_mask.dim() != 2:
        return None
    mask_BL = attention_mask.bool()
    if not bool((mask_BL[:, :-1] & ~mask_BL[:, 1:]).any()):
        return None
    return (mask_BL.long().cumsum(1) - 1).clamp(min=0)


def last_tokens(attention_mask: Tensor, num_tokens: int) -> Tensor:
    """Find each row's last real token (B, 1) among the last `num_tokens` columns."""
    columns = torch.arange(num_tokens, device=attention_mask.device)
    return (attention_mask[:, -num_tokens:].bool() * columns).amax(1, keepdim=True)


def kept_states(states_BLD: Tensor, logits_to_keep: int | Tensor) -> Tensor:
    """Pick the states whose logits are wanted: the last n, some columns, or (B, n) a row's own."""
    if isinstance(logits_to_keep, int):
        return states_BLD[:, -logits_to_keep:] if logits_to_keep else states_BLD
    if logits_to_keep.dim() == 2:
        index = logits_to_keep[..., None].expand(-1, -1, states_BLD.shape[-1])
        return states_BLD.gather(1, index.to(states_BLD.device))
    return states_BLD[:, logits_to_keep]
