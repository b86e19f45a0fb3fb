"""Packing: rows of several sequences in one (N, ..) tensor, taken out in batches for attention.

Projections, norms and feed-forward run on the packed rows; attention runs on (B, n, ..) batches of
items of about equal length. An item is a sequence (self-attention) or all sequences that read one
memory (cross-attention).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

LONGEST_PADDED = 1024
SHORTEST_SHARE = 0.75


@dataclass(frozen=True, kw_only=True)
class RowGroup:
    """The rows of a batch of items; `rows_Bn` is None where they are all the packed rows in order.

    `mask_Bn` is True at real rows and None where nothing is padded; padding stands at the end.
    """

    items: tuple[int, ...]
    width: int
    rows_Bn: Tensor | None
    mask_Bn: Tensor | None

    def gather(self, packed_N: Tensor) -> Tensor:
        """Take the group's rows: (N, ..) -> (B, n, ..)."""
        if self.rows_Bn is None:
            return packed_N.view(len(self.items), self.width, *packed_N.shape[1:])
        return packed_N[self.rows_Bn]


@dataclass(frozen=True, kw_only=True)
class Packing:
    """A division of the packed rows into groups, each row in exactly one."""

    groups: tuple[RowGroup, ...]
    inverse_N: Tensor | None

    def restore(self, outputs: Sequence[Tensor]) -> Tensor:
        """Put the groups' outputs (B, n, ..) back into the packed order (N, ..)."""
        flat = [output.flatten(0, 1) for output in outputs]
        if self.inverse_N is None:
            return flat[0]
        return torch.cat(flat)[self.inverse_N]


def make_packing(
    rows_per_item: Sequence[Tensor], kinds: Sequence[object], device: torch.device
) -> Packing:
    """Group items for batched attention.

    Args:
        rows_per_item: the packed rows of each item; together they are 0..N-1.
        kinds: items of different kinds never share a group (None: this item stands alone).
        device: where the index tensors go.
    """
    groups = tuple(
        _make_group(items, rows_per_item, device) for items in _bucket(rows_per_item, kinds)
    )
    if len(groups) == 1 and groups[0].rows_Bn is None:
        return Packing(groups=groups, inverse_N=None)
    return Packing(groups=groups, inverse_N=_inverse(groups, device))


def _bucket(rows_per_item: Sequence[Tensor], kinds: Sequence[object]) -> list[list[int]]:
    """Sort items into buckets of equal length; short ones may differ a little and are padded."""
    order = sorted(range(len(rows_per_item)), key=lambda i: (-len(rows_per_item[i]), i))
    buckets: list[list[int]] = []
    for item in order:
        size = len(rows_per_item[item])
        for bucket in buckets:
            longest = len(rows_per_item[bucket[0]])
            near = longest <= LONGEST_PADDED and size >= SHORTEST_SHARE * longest
            same_kind = kinds[item] is not None and kinds[item] == kinds[bucket[0]]
            if same_kind and (size == longest or near):
                bucket.append(item)
                break
        else:
            buckets.append([item])
    return [sorted(bucket) for bucket in buckets]


def _make_group(
    items: list[int], rows_per_item: Sequence[Tensor], device: torch.device
) -> RowGroup:
    lengths = torch.tensor([len(rows_per_item[i]) for i in items])
    width = int(lengths.max())
    rows_Bn = torch.zeros(len(items), width, dtype=torch.long)
    for b, item in enumerate(items):
        rows_Bn[b, : lengths[b]] = rows_per_item[item]
    num_rows = sum(len(rows) for rows in rows_per_item)
    is_whole = torch.equal(rows_Bn.flatten(), torch.arange(num_rows))
    mask_Bn = None
    if int(lengths.min()) < width:
        mask_Bn = (torch.arange(width) < lengths[:, None]).to(device)
        is_whole = False
    return RowGroup(
        items=tuple(items),
        width=width,
        rows_Bn=None if is_whole else rows_Bn.to(device),
        mask_Bn=mask_Bn,
    )


def _inverse(groups: Sequence[RowGroup], device: torch.device) -> Tensor:
    """Say for every packed row where it stands in the groups' concatenated outputs."""
    slots: list[Tensor] = []
    rows: list[Tensor] = []
    offset = 0
    for group in groups:
        assert group.rows_Bn is not None
        slot_Bn = offset + torch.arange(group.rows_Bn.numel(), device=device).view_as(group.rows_Bn)
        keep = (
            torch.ones_like(slot_Bn, dtype=torch.bool) if group.mask_Bn is None else group.mask_Bn
        )
        slots.append(slot_Bn[keep])
        rows.append(group.rows_Bn[keep])
        offset += group.rows_Bn.numel()
    inverse_N = torch.empty(sum(len(r) for r in rows), dtype=torch.long, device=device)
    inverse_N[torch.cat(rows)] = torch.cat(slots)
    return inverse_N
