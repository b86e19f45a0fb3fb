"""MemAug: decayed and question tokens read the whole memory and become the tokens the LLM sees.

One call serves a batch of any shape: queries are packed, sequences that read one memory share its
keys and values, and a memory too large for the working set is read in chunks, merged exactly.

Letters: N packed queries, M memory tokens, m tokens of a chunk, B items of a batch, n queries an
item, D hidden, H heads, K kv heads, G = H / K, E head size.
Source: arXiv 2506.05332 (MemAug). As released: post-norm, biases everywhere, no dropout, no
norm on the memory, rotary positions on the first half of each head. Different: one packed call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from hour_llava.memory.attention import (
    RunningAttention,
    Tables,
    attend,
    attend_folded_with_lse,
    fold_groups,
    heads_first,
    partial_rotary_tables,
    rotate,
    unfold_groups,
)
from hour_llava.memory.evidence import EvidenceMass
from hour_llava.memory.plan import (
    DEFAULT_CHUNK_TOKENS,
    ChunkedMemory,
    InChunks,
    MemoryTokens,
    Observer,
    Plan,
    Whole,
    make_plan,
)


class SelfAttention(nn.Module):
    """Let text and visual queries of a sequence read each other, in both directions."""

    def __init__(
        self, *, hidden_size: int, num_heads: int, num_kv_heads: int, head_dim: int
    ) -> None:
        super().__init__()
        self.num_heads, self.num_kv_heads, self.head_dim = num_heads, num_kv_heads, head_dim
        self.qkv_proj = nn.Linear(hidden_size, (num_heads + 2 * num_kv_heads) * head_dim)
        self.o_proj = nn.Linear(num_heads * head_dim, hidden_size)

    def forward(self, x_ND: Tensor, plan: Plan) -> Tensor:
        """Attend within each sequence; positions are the queries' own for both sides."""
        H, K = self.num_heads, self.num_kv_heads
        qkv = self.qkv_proj(x_ND).unflatten(-1, (-1, self.head_dim))
        qk, v = qkv.split([H + K, K], dim=1)
        q, k = rotate(qk, plan.tables_N).split([H, K], dim=1)
        outputs: list[Tensor] = []
        for group in plan.sequences.groups:
            batch = (group.gather(part) for part in (q, k, v))
            outputs.append(attend(*batch, key_mask_BM=group.mask_Bn).flatten(2))
        return self.o_proj(plan.sequences.restore(outputs))


class CrossAttention(nn.Module):
    """Let the queries of a sequence read its memory."""

    def __init__(
        self, *, hidden_size: int, num_heads: int, num_kv_heads: int, head_dim: int
    ) -> None:
        super().__init__()
        self.num_heads, self.num_kv_heads, self.head_dim = num_heads, num_kv_heads, head_dim
        self.q_proj = nn.Linear(hidden_size, num_heads * head_dim)
        self.kv_proj = nn.Linear(hidden_size, 2 * num_kv_heads * head_dim)
        self.o_proj = nn.Linear(num_heads * head_dim, hidden_size)

    def forward(self, x_ND: Tensor, plan: Plan, layer: int) -> Tensor:
        """Attend to the memories; keys and values are made here, once a memory and layer."""
        q_NHE = rotate(self.q_proj(x_ND).unflatten(-1, (-1, self.head_dim)), plan.tables_N)
        if plan.query_scale_N is not None:
            q_NHE = q_NHE * plan.query_scale_N[:, None, None].to(q_NHE.dtype)
        outputs: list[Tensor] = []
        for group, source in zip(plan.readers.groups, plan.sources, strict=True):
            if isinstance(source, Whole):
                outputs.append(self._read_whole(group.gather(q_NHE), source, plan, layer))
            else:
                outputs.append(self._read_chunks(group.gather(q_NHE), source, plan, layer))
        return self.o_proj(plan.readers.restore(outputs))

    def _keys_and_values(self, tokens: Tensor, tables: Tables) -> tuple[Tensor, Tensor]:
        kv = self.kv_proj(tokens).unflatten(-1, (-1, self.head_dim))
        k, v = kv.split(self.num_kv_heads, dim=-2)
        return rotate(k, tables), v

    def _read_whole(self, q_BnHE: Tensor, source: Whole, plan: Plan, layer: int) -> Tensor:
        k, v = self._keys_and_values(source.tokens_BMD, source.tables_BM)
        if plan.observer is not None:
            plan.observer(layer, source.numbers, q_BnHE.transpose(1, 2), k.transpose(1, 2))
        return attend(q_BnHE, k, v).flatten(2)

    def _read_chunks(self, q_BnHE: Tensor, source: InChunks, plan: Plan, layer: int) -> Tensor:
        K, n = self.num_kv_heads, q_BnHE.shape[1]
        folded = fold_groups(q_BnHE, K)
        running, offset = RunningAttention(), 0
        reading = None if source.start_reading is None else source.start_reading()
        for tokens_mD, positions_m in source.chunks():
            tokens_mD = tokens_mD.to(q_BnHE)
            k, v = self._keys_and_values(
                tokens_mD[None], plan.make_tables(positions_m.to(folded.device))
            )
            running.add(*attend_folded_with_lse(folded, heads_first(k), heads_first(v)))
            if reading is not None:
                reading.add_chunk(folded.unflatten(2, (-1, n)), k, offset)
            offset += len(tokens_mD)
        if reading is not None:
            reading.finish()
        return unfold_groups(running.result()[0].to(q_BnHE.dtype), n).flatten(2)


class FeedForward(nn.Module):
    """Two linear layers with an exact GELU between them."""

    def __init__(self, *, hidden_size: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(hidden_size, 4 * hidden_size)
        self.fc2 = nn.Linear(4 * hidden_size, hidden_size)

    def forward(self, x_ND: Tensor) -> Tensor:
        """Transform every row by itself."""
        return self.fc2(F.gelu(self.fc1(x_ND)))


class MemAugLayer(nn.Module):
    """Self-attention, cross-attention and feed-forward, each followed by its norm."""

    def __init__(
        self, *, hidden_size: int, num_heads: int, num_kv_heads: int, head_dim: int
    ) -> None:
        super().__init__()
        sizes = {"hidden_size": hidden_size, "num_heads": num_heads}
        sizes |= {"num_kv_heads": num_kv_heads, "head_dim": head_dim}
        self.self_attn = SelfAttention(**sizes)
        self.cross_attn = CrossAttention(**sizes)
        self.mlp = FeedForward(hidden_size=hidden_size)
        self.norm1 = nn.LayerNorm(hidden_size, eps=1e-5)
        self.norm2 = nn.LayerNorm(hidden_size, eps=1e-5)
        self.norm3 = nn.LayerNorm(hidden_size, eps=1e-5)

    def forward(self, x_ND: Tensor, plan: Plan, layer: int) -> Tensor:
        """Run the block on packed rows."""
        x_ND = self.norm1(x_ND + self.self_attn(x_ND, plan))
        x_ND = self.norm2(x_ND + self.cross_attn(x_ND, plan, layer))
        return self.norm3(x_ND + self.mlp(x_ND))


class MemAug(nn.Module):
    """The stack of MemAug blocks.

    Args:
        rope_theta: base of the rotary frequencies, the LLM's.
        head_dim: size of a head; hidden_size / num_heads where not given.
        rotary_share: share of each head's channels that carry positions.
        log_n_reference: where given, cross-attention queries are multiplied by
            max(1, log(M) / log(log_n_reference)), against dilution in memories longer than those
            trained on. Not in the released architecture.
    """

    def __init__(
        self,
        *,
        hidden_size: int,
        num_heads: int,
        num_key_value_heads: int,
        num_layers: int,
        rope_theta: float,
        head_dim: int | None = None,
        rotary_share: float = 0.5,
        log_n_reference: int | None = None,
    ) -> None:
        super().__init__()
        if num_heads % num_key_value_heads:
            raise ValueError(
                f"{num_heads} heads cannot share {num_key_value_heads} kv heads evenly"
            )
        self.head_dim = head_dim or hidden_size // num_heads
        self.rope_theta = rope_theta
        self.rotary_share = rotary_share
        self.log_n_reference = log_n_reference
        self.layers = nn.ModuleList(
            MemAugLayer(
                hidden_size=hidden_size,
                num_heads=num_heads,
                num_kv_heads=num_key_value_heads,
                head_dim=self.head_dim,
            )
            for _ in range(num_layers)
        )

    def forward(
        self,
        queries_ND: Tensor,
        *,
        lengths: Sequence[int],
        positions_N: Tensor,
        memories: Sequence[MemoryTokens | ChunkedMemory],
        memory_index: Sequence[int],
        observer: Observer | None = None,
        evidence: EvidenceMass | None = None,
        chunk_tokens: int = DEFAULT_CHUNK_TOKENS,
        checkpoint: Callable[..., Tensor] | None = None,
    ) -> Tensor:
        """Augment packed queries with their memories.

        Args:
            queries_ND: the sequences' queries (text and visual) one after another.
            lengths: queries of each sequence; sum(lengths) = N.
            positions_N: rotary position of each query.
            memories: what is read; each one's keys and values are made once a layer.
            memory_index: for each sequence, which memory it reads; several may read one.
            observer: sees rotated queries and keys of every cross-attention (training's losses).
            evidence: is filled with the question rows' reading per frame.
            chunk_tokens: memories longer than this are read in chunks where no gradient is wanted.
            checkpoint: a function that runs `layer(x, plan, number)`, to recompute it in backward.

        Returns:
            (N, D), all rows; the caller keeps the visual ones.

        Raises:
            ValueError: counts that do not fit, with both numbers.
        """
        plan = make_plan(
            queries_ND,
            lengths=lengths,
            positions_N=positions_N,
            memories=memories,
            memory_index=memory_index,
            observer=observer,
            evidence=evidence,
            chunk_tokens=chunk_tokens,
            log_n_reference=self.log_n_reference,
            make_tables=partial(
                partial_rotary_tables,
                head_dim=self.head_dim,
                theta=self.rope_theta,
                dtype=queries_ND.dtype,
                rotary_share=self.rotary_share,
            ),
        )
        for number, layer in enumerate(self.layers):
            run = layer if checkpoint is None else partial(checkpoint, layer)
            queries_ND = run(queries_ND, plan, number)
        return queries_ND
