"""The plan of a MemAug forward: which rows read which memory, in which batches, whole or in chunks.

Made once a forward and shared by all layers. Letters: see `memaug.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from hour_llava.memory.attention import Tables
from hour_llava.memory.evidence import EvidenceMass, LayerReading
from hour_llava.memory.packing import Packing, make_packing

DEFAULT_CHUNK_TOKENS = 16_384

Observer = Callable[[int, tuple[int, ...], Tensor, Tensor], None]
"""Called as (layer, memory numbers, queries (B, H, n, E), keys (B, K, M, E)), both rotated.

The queries of a memory are those of its sequences in order; padding, if any, stands at their end.
"""


@dataclass(frozen=True, kw_only=True)
class MemoryTokens:
    """A memory that fits: projected tokens and their rotary positions."""

    tokens_MD: Tensor
    positions_M: Tensor

    @property
    def num_tokens(self) -> int:
        """Count the tokens."""
        return self.tokens_MD.shape[0]

    def chunks(self, num_tokens: int = DEFAULT_CHUNK_TOKENS) -> Iterator[tuple[Tensor, Tensor]]:
        """Give the memory in slices of at most `num_tokens`."""
        for start in range(0, self.num_tokens, num_tokens):
            part = slice(start, start + num_tokens)
            yield self.tokens_MD[part], self.positions_M[part]


class ChunkedMemory(Protocol):
    """A memory that does not fit: `chunks()` is called once a layer, in order each time."""

    @property
    def num_tokens(self) -> int:
        """Count the tokens of all chunks."""
        ...

    def chunks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Give (tokens_mD, positions_m), covering the memory in order."""
        ...


@dataclass(frozen=True, kw_only=True)
class Whole:
    """Memories of equal size, read by one SDPA call."""

    numbers: tuple[int, ...]
    tokens_BMD: Tensor
    tables_BM: Tables


@dataclass(frozen=True, kw_only=True)
class InChunks:
    """One memory, read chunk by chunk; `start_reading` begins a layer's evidence."""

    chunks: Callable[[], Iterator[tuple[Tensor, Tensor]]]
    start_reading: Callable[[], LayerReading] | None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What all layers of one forward share; `sources` stand beside the groups of `readers`."""

    tables_N: Tables
    sequences: Packing
    readers: Packing
    sources: tuple[Whole | InChunks, ...]
    query_scale_N: Tensor | None
    make_tables: Callable[[Tensor], Tables]
    observer: Observer | None


def make_plan(
    queries_ND: Tensor,
    *,
    lengths: Sequence[int],
    positions_N: Tensor,
    memories: Sequence[MemoryTokens | ChunkedMemory],
    memory_index: Sequence[int],
    observer: Observer | None,
    evidence: EvidenceMass | None,
    chunk_tokens: int,
    log_n_reference: int | None,
    make_tables: Callable[[Tensor], Tables],
) -> Plan:
    """Plan a forward; arguments as in `MemAug.forward`.

    Raises:
        ValueError: counts that do not fit, with both numbers; an observer over a chunked memory.
    """
    _check_counts(queries_ND, lengths, positions_N, memories, memory_index)
    device = queries_ND.device
    ends = torch.tensor(list(lengths)).cumsum(0).tolist()
    rows = [torch.arange(end - n, end) for end, n in zip(ends, lengths, strict=True)]
    used = sorted(set(memory_index))
    sequences_of = {m: [i for i, x in enumerate(memory_index) if x == m] for m in used}
    is_whole = [_is_whole(memories[m], observer, evidence, chunk_tokens) for m in used]
    kinds = [memories[m].num_tokens if w else None for m, w in zip(used, is_whole, strict=True)]
    readers = make_packing(
        [torch.cat([rows[i] for i in sequences_of[m]]) for m in used], kinds, device
    )
    sources: list[Whole | InChunks] = []
    for group in readers.groups:
        numbers = tuple(used[item] for item in group.items)
        if is_whole[group.items[0]]:
            sources.append(_whole(numbers, memories, make_tables))
        else:
            own = [(i, rows[i]) for i in sequences_of[numbers[0]]]
            sources.append(_in_chunks(memories[numbers[0]], own, evidence, chunk_tokens))
    return Plan(
        tables_N=make_tables(positions_N),
        sequences=make_packing(rows, [0] * len(rows), device),
        readers=readers,
        sources=tuple(sources),
        query_scale_N=_query_scale(lengths, memories, memory_index, log_n_reference, device),
        make_tables=make_tables,
        observer=observer,
    )


def _check_counts(
    queries_ND: Tensor,
    lengths: Sequence[int],
    positions_N: Tensor,
    memories: Sequence[MemoryTokens | ChunkedMemory],
    memory_index: Sequence[int],
) -> None:
    if sum(lengths) != len(queries_ND) or len(positions_N) != len(queries_ND):
        raise ValueError(
            f"{len(queries_ND)} queries, but lengths sum to {sum(lengths)} "
            f"and there are {len(positions_N)} positions"
        )
    if len(memory_index) != len(lengths):
        raise ValueError(f"{len(lengths)} sequences, but {len(memory_index)} memory numbers")
    for number in memory_index:
        if not 0 <= number < len(memories):
            raise ValueError(f"memory number {number} of {len(memories)} memories")
        if memories[number].num_tokens < 1:
            raise ValueError(f"memory {number} has 0 tokens, attention needs at least 1")


def _is_whole(
    memory: MemoryTokens | ChunkedMemory,
    observer: Observer | None,
    evidence: EvidenceMass | None,
    chunk_tokens: int,
) -> bool:
    """Decide whether one SDPA call reads the memory: gradients and observers want it whole."""
    if not isinstance(memory, MemoryTokens):
        if observer is not None:
            raise ValueError("an observer sees whole memories only, this one comes in chunks")
        return False
    if observer is not None:
        return True
    return evidence is None and (torch.is_grad_enabled() or memory.num_tokens <= chunk_tokens)


def _whole(
    numbers: tuple[int, ...],
    memories: Sequence[MemoryTokens | ChunkedMemory],
    make_tables: Callable[[Tensor], Tables],
) -> Whole:
    group = [memories[m] for m in numbers]
    whole = [memory for memory in group if isinstance(memory, MemoryTokens)]
    if len(whole) == 1:
        tokens_BMD, positions_BM = whole[0].tokens_MD[None], whole[0].positions_M[None]
    else:
        tokens_BMD = torch.stack([memory.tokens_MD for memory in whole])
        positions_BM = torch.stack([memory.positions_M for memory in whole])
    return Whole(
        numbers=numbers,
        tokens_BMD=tokens_BMD,
        tables_BM=make_tables(positions_BM.to(tokens_BMD.device)),
    )


def _in_chunks(
    memory: MemoryTokens | ChunkedMemory,
    own_rows: list[tuple[int, Tensor]],
    evidence: EvidenceMass | None,
    chunk_tokens: int,
) -> InChunks:
    def chunks() -> Iterator[tuple[Tensor, Tensor]]:
        if isinstance(memory, MemoryTokens):
            return memory.chunks(chunk_tokens)
        return memory.chunks()

    if evidence is None:
        return InChunks(chunks=chunks, start_reading=None)
    places: list[tuple[int, Tensor]] = []
    start = 0
    rows_N = evidence.rows_N.cpu()
    for sequence, rows in own_rows:
        asked = rows_N[rows].nonzero()[:, 0] + start
        start += len(rows)
        if len(asked):
            places.append((sequence, asked))
    if not places:
        return InChunks(chunks=chunks, start_reading=None)
    return InChunks(chunks=chunks, start_reading=lambda: LayerReading(evidence, places))


def _query_scale(
    lengths: Sequence[int],
    memories: Sequence[MemoryTokens | ChunkedMemory],
    memory_index: Sequence[int],
    log_n_reference: int | None,
    device: torch.device,
) -> Tensor | None:
    if log_n_reference is None:
        return None
    scales = [
        max(1.0, math.log(memories[m].num_tokens) / math.log(log_n_reference)) for m in memory_index
    ]
    if all(scale == 1.0 for scale in scales):
        return None
    return torch.tensor(scales).repeat_interleave(torch.tensor(list(lengths))).to(device)
