"""Attention for MemAug: partial rotary positions, grouped heads, and exact chunks with their merge.

The group of query heads that share a kv head is folded into the query axis: torch's SDPA then sees
as many heads as there are kv heads, copies no key, and reads each key block once for all of them.

Letters: B batch, N queries, M memory tokens, H heads, K kv heads, G = H / K, E head size,
R rotary pairs of a head. Public functions take and give (B, N, H, E); `folded` is (B, K, G * N, E).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

Tables = tuple[Tensor, Tensor]
"""Cosines and sines, each (N, R)."""

AttendWithLse = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]

FUSED_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
FALLBACK_SCORE_BYTES = 64 * 2**20


def partial_rotary_tables(
    positions_N: Tensor,
    *,
    head_dim: int,
    theta: float,
    dtype: torch.dtype,
    rotary_share: float = 0.5,
) -> Tables:
    """Compute the cosines and sines of the rotated share of a head.

    Frequencies and angles in float32, as released: float64 moves angles by 1.7e-3 at position
    234,000. Rounded once to the model's dtype. Nothing is stored: buffers would be cast by
    `.bfloat16()` and left as garbage by a load from the meta device.

    Returns:
        Two (N, R) tensors of `dtype`, on the positions' device.
    """
    num_channels = int(head_dim * rotary_share)
    channel_R = torch.arange(0, num_channels, 2, dtype=torch.float32, device=positions_N.device)
    frequency_R = 1.0 / (theta ** (channel_R / num_channels))
    angle_NR = positions_N.to(torch.float32)[..., None] * frequency_R
    return angle_NR.cos().to(dtype), angle_NR.sin().to(dtype)


def rotate(x_NHE: Tensor, tables: Tables) -> Tensor:
    """Rotate the first 2R channels of every head, channel i with i + R; float32, rounded once."""
    cos_N1R, sin_N1R = (table.float()[..., None, :] for table in tables)
    R = cos_N1R.shape[-1]
    a, b = x_NHE[..., :R].float(), x_NHE[..., R : 2 * R].float()
    rotated = (a * cos_N1R - b * sin_N1R, b * cos_N1R + a * sin_N1R)
    return torch.cat([*(half.to(x_NHE.dtype) for half in rotated), x_NHE[..., 2 * R :]], dim=-1)


def fold_groups(q_BNHE: Tensor, num_kv_heads: int) -> Tensor:
    """Fold the heads that share a kv head into the query axis: (B, N, H, E) -> (B, K, G * N, E)."""
    B, N, H, E = q_BNHE.shape
    grouped = q_BNHE.view(B, N, num_kv_heads, H // num_kv_heads, E)
    return grouped.permute(0, 2, 3, 1, 4).reshape(B, num_kv_heads, -1, E)


def unfold_groups(out_BKnE: Tensor, num_queries: int) -> Tensor:
    """Undo `fold_groups`: (B, K, G * N, E) -> (B, N, H, E)."""
    B, K, _, E = out_BKnE.shape
    grouped = out_BKnE.view(B, K, -1, num_queries, E)
    return grouped.permute(0, 3, 1, 2, 4).reshape(B, num_queries, -1, E)


def heads_first(x_BMKE: Tensor) -> Tensor:
    """Put heads before tokens; a view, but for low precision on a CPU.

    There the kernel packs strided keys anew for every block of queries: 5 % slower than one copy.
    """
    x_BKME = x_BMKE.transpose(1, 2)
    is_low_on_cpu = x_BKME.device.type == "cpu" and x_BKME.dtype != torch.float32
    return x_BKME.contiguous() if is_low_on_cpu else x_BKME


def attend(
    q_BNHE: Tensor, k_BMKE: Tensor, v_BMKE: Tensor, *, key_mask_BM: Tensor | None = None
) -> Tensor:
    """Attend to all keys (no causality) through torch's SDPA; `key_mask_BM` is True where real.

    Returns:
        (B, N, H, E) of the queries' dtype. The readable twin is `attend_twin`.
    """
    mask = None if key_mask_BM is None else key_mask_BM[:, None, None, :]
    folded = F.scaled_dot_product_attention(
        fold_groups(q_BNHE, k_BMKE.shape[2]),
        heads_first(k_BMKE),
        heads_first(v_BMKE),
        attn_mask=mask,
    )
    return unfold_groups(folded, q_BNHE.shape[1])


def attend_twin(q_BNHE: Tensor, k_BMKE: Tensor, v_BMKE: Tensor) -> tuple[Tensor, Tensor]:
    """Attend the slow, readable way in float32: the judge of every fast path.

    Returns:
        (B, N, H, E) and the log-sum-exp (B, N, H), both float32.
    """
    group = q_BNHE.shape[2] // k_BMKE.shape[2]
    k_BMHE = k_BMKE.float().repeat_interleave(group, dim=2)
    v_BMHE = v_BMKE.float().repeat_interleave(group, dim=2)
    scores = torch.einsum("bnhe,bmhe->bhnm", q_BNHE.float(), k_BMHE) / math.sqrt(q_BNHE.shape[-1])
    out = torch.einsum("bhnm,bmhe->bnhe", scores.softmax(-1), v_BMHE)
    return out, scores.logsumexp(-1).transpose(1, 2)


def attend_with_lse(q_BNHE: Tensor, k_BMKE: Tensor, v_BMKE: Tensor) -> tuple[Tensor, Tensor]:
    """Attend to one chunk of a memory and say how much weight it held.

    Returns:
        (B, N, H, E) of the queries' dtype and the log-sum-exp (B, N, H) in float32.
    """
    folded = fold_groups(q_BNHE, k_BMKE.shape[2])
    out, lse = attend_folded_with_lse(folded, heads_first(k_BMKE), heads_first(v_BMKE))
    N = q_BNHE.shape[1]
    return unfold_groups(out, N), unfold_groups(lse[..., None], N)[..., 0]


def attend_folded_with_lse(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Attend (B, K, n, E) to (B, K, M, E) with the log-sum-exp: the one guarded door to it.

    Torch gives the log-sum-exp only through private operators; where one is missing, the device is
    another, or a gradient is wanted, chunked matmuls do the same. All are held to `attend_twin`.
    """
    wants_grad = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))
    fused = None if wants_grad else _fused_operator(q, k, v)
    if fused is not None:
        return fused(q, k, v)
    return attend_by_matmul(q, k, v)


def attend_by_matmul(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Attend (B, K, n, E) to (B, K, M, E) by float32 matmuls, a block of queries at a time."""
    B, K, n, E = q.shape
    scaled = q.float() / math.sqrt(E)
    keys, values = k.float().transpose(-1, -2), v.float()
    block = max(1, FALLBACK_SCORE_BYTES // max(1, 4 * B * K * k.shape[2]))
    outs: list[Tensor] = []
    lses: list[Tensor] = []
    for start in range(0, n, block):
        scores = scaled[:, :, start : start + block] @ keys
        lses.append(scores.logsumexp(-1))
        outs.append((scores - lses[-1][..., None]).exp() @ values)
    return torch.cat(outs, dim=2).to(q.dtype), torch.cat(lses, dim=2)


class RunningAttention:
    """The merge of attention over chunks, exact whatever their number and order.

    Holds the output in float32 and updates it in place where no gradient is wanted.
    """

    def __init__(self) -> None:
        self.out: Tensor | None = None
        self.lse: Tensor | None = None

    def add(self, out: Tensor, lse: Tensor) -> None:
        """Merge one chunk: outputs (.., E) weighted by what the log-sum-exps (..) say of them."""
        if self.out is None or self.lse is None:
            self.out, self.lse = out.float(), lse.float()
            return
        share = torch.sigmoid(lse - self.lse)[..., None]  # e^lse / (e^lse + e^self.lse)
        self.lse = torch.logaddexp(self.lse, lse)
        if self.out.requires_grad or out.requires_grad:
            self.out = torch.lerp(self.out, out.float(), share)
        else:
            self.out.lerp_(out.float(), share)

    def result(self) -> tuple[Tensor, Tensor]:
        """Give the merged output and log-sum-exp, both float32."""
        if self.out is None or self.lse is None:
            raise ValueError(
                "attention over a memory without tokens: it needs at least 1, it has 0"
            )
        return self.out, self.lse


def merge_attention(parts: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Merge (output, log-sum-exp) of disjoint chunks into those of the whole, in float32."""
    running = RunningAttention()
    for out, lse in parts:
        running.add(out.clone(), lse)  # the first one is merged into
    return running.result()


def _fused_operator(q: Tensor, k: Tensor, v: Tensor) -> AttendWithLse | None:
    """Pick torch's private operator for these tensors, if this build has one."""
    aten = torch.ops.aten
    if not q.dtype == k.dtype == v.dtype or q.dtype not in FUSED_DTYPES:
        return None
    if q.device.type == "cpu" and hasattr(aten, "_scaled_dot_product_flash_attention_for_cpu"):
        return aten._scaled_dot_product_flash_attention_for_cpu
    is_cuda = q.device.type == "cuda" and q.shape[-1] % 8 == 0
    if is_cuda and hasattr(aten, "_scaled_dot_product_efficient_attention"):
        return _efficient_cuda
    return None


def _efficient_cuda(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    out, lse, *_ = torch.ops.aten._scaled_dot_product_efficient_attention(q, k, v, None, True)
    return out, lse[..., : q.shape[2]]  # the operator pads the rows to a multiple of 32
