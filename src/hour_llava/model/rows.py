"""Rows of a batch as MemAug sees them: text and kept visual tokens in reading order, packed.

Letters: B batch, L sequence, N packed queries, S kept visual tokens of all rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hour_llava.errors import TokenCountError
from hour_llava.model.visual_plan import VisualPlan


@dataclass(frozen=True, kw_only=True)
class PackedRows:
    """Where MemAug's queries stand in the batch, and which positions they have.

    Args:
        selected_BL: text the question mask names, and all visual placeholders.
        is_visual_N: which packed queries are visual.
        positions_N: rotary positions.
        lengths: queries of each row that has any.
        row_numbers: those rows.
    """

    selected_BL: Tensor
    is_visual_N: Tensor
    positions_N: Tensor
    lengths: list[int]
    row_numbers: list[int]


def check_counts(num_placeholders: Sequence[int], plans: Sequence[VisualPlan | None]) -> None:
    """Hold the prompt's placeholders against the kept tokens, row by row.

    Raises:
        TokenCountError: names the row and both numbers.
    """
    for row, (found, plan) in enumerate(zip(num_placeholders, plans, strict=True)):
        kept = 0 if plan is None else plan.num_kept
        if found != kept:
            raise TokenCountError(
                f"row {row} of the prompt has {found} visual placeholders, but {kept} tokens are "
                "kept: make the prompt with the processor of this model, from the same pictures "
                "and forgetting_seeds"
            )


def pack_rows(
    question_mask_BL: Tensor, is_visual_BL: Tensor, plans: Sequence[VisualPlan | None]
) -> PackedRows:
    """Place the batch's queries: every stretch begins one behind the largest position so far.

    A visual token's own position is the one it has in the memory; memory positions are not
    shifted, so behind n text tokens a query stands n away from its own copy, as released.
    """
    device = is_visual_BL.device
    own_S, advance_S = _own_positions(plans)
    is_text_BL = question_mask_BL & ~is_visual_BL
    own_BL = torch.zeros_like(is_visual_BL, dtype=torch.long)
    own_BL = own_BL.masked_scatter(is_visual_BL, own_S.to(device))
    advance_BL = is_text_BL.long().masked_scatter(is_visual_BL, advance_S.to(device))
    positions_BL = own_BL + advance_BL.cumsum(1) - advance_BL
    selected_BL = is_text_BL | is_visual_BL
    counts = selected_BL.sum(1).tolist()
    return PackedRows(
        selected_BL=selected_BL,
        is_visual_N=is_visual_BL[selected_BL],
        positions_N=positions_BL[selected_BL],
        lengths=[count for count in counts if count],
        row_numbers=[row for row, count in enumerate(counts) if count],
    )


def _own_positions(plans: Sequence[VisualPlan | None]) -> tuple[Tensor, Tensor]:
    """Give every visual token its own position, and what its stretch adds to those behind it."""
    own: list[Tensor] = [torch.zeros(0, dtype=torch.long)]
    advance: list[Tensor] = [torch.zeros(0, dtype=torch.long)]
    for plan in plans:
        if plan is None:
            continue
        own.append(plan.positions_S)
        steps = torch.zeros(plan.num_kept, dtype=torch.long)
        end = 0
        for length in plan.block_lengths:
            block = plan.positions_S[end : end + length]
            end += length
            steps[end - 1] = block.max() + 1
        advance.append(steps)
    return torch.cat(own), torch.cat(advance)
