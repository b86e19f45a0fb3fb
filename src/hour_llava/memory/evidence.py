"""Evidence: how much of MemAug's reading, done for a question, fell on each frame of the memory.

Exact, not sampled: p = exp(q k - lse) for the question's rows alone, summed per frame over rows,
layers and heads. A chunk is weighed by its own log-sum-exp and put right once the whole is known,
so a memory larger than RAM is still read once a layer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK_SCORES = 2**20
"""Scores weighed at a time: few enough to stay in a processor's cache."""


@dataclass(kw_only=True)
class EvidenceMass:
    """What MemAug fills in for the rows it is asked about; pass one to a forward, then read it.

    Args:
        rows_N: (N,) bool over the packed queries: the question's text rows.
        tokens_per_frame: memory tokens a frame, newline included.

    Cost: rows x heads x frames x 4 bytes of memory (100 rows, 16 heads, an hour: 23 MB).
    """

    rows_N: Tensor
    tokens_per_frame: int
    _mass: dict[int, Tensor] = field(default_factory=dict)

    def per_frame(self, sequence: int) -> Tensor:
        """Give a sequence's share of reading a memory frame: (F,) float64 that sum to 1."""
        if sequence not in self._mass:
            raise ValueError(f"sequence {sequence} has no question rows: it left no evidence")
        mass_F = self._mass[sequence]
        return mass_F / mass_F.sum()

    def add(self, sequence: int, mass_F: Tensor) -> None:
        """Add the mass of one layer."""
        self._mass[sequence] = self._mass.get(sequence, 0) + mass_F.double().cpu()


class LayerReading:
    """The reading of one memory in one layer, chunk by chunk.

    Letters: R question rows, K kv heads, G heads a kv head, E head size, m tokens of a chunk.
    """

    def __init__(self, evidence: EvidenceMass, rows_of: list[tuple[int, Tensor]]) -> None:
        """Args: rows_of: (sequence, its question rows' places among this memory's queries)."""
        self.evidence = evidence
        self.rows_of = rows_of
        self.rows_R = torch.cat([rows for _, rows in rows_of])
        self.chunks: list[tuple[int, Tensor, Tensor]] = []

    @torch.no_grad()
    def add_chunk(self, q_BKGNE: Tensor, k_BMKE: Tensor, offset: int) -> None:
        """Weigh one chunk, which begins at token `offset` of the memory."""
        P = self.evidence.tokens_per_frame
        lead = offset % P
        tail = -(lead + k_BMKE.shape[1]) % P
        masses: list[Tensor] = []
        lses: list[Tensor] = []
        block = max(1, BLOCK_SCORES // k_BMKE.shape[1])
        for q_GNE, k_mE in zip(q_BKGNE[0], k_BMKE[0].unbind(1), strict=True):
            q_rE = q_GNE[:, self.rows_R].flatten(0, 1).float() / math.sqrt(q_GNE.shape[-1])
            keys_Em = k_mE.float().T
            for rows_rE in q_rE.split(block):
                scores = rows_rE @ keys_Em
                highest = scores.amax(-1, keepdim=True)
                weight = F.pad(scores.sub_(highest).exp_(), (lead, tail))
                mass_rF = weight.unflatten(-1, (-1, P)).sum(-1)
                total = mass_rF.sum(-1, keepdim=True)
                masses.append(mass_rF / total)
                lses.append((highest + total.log())[:, 0])
        shape = (len(q_BKGNE[0]), -1)
        mass_KnF = torch.cat(masses).unflatten(0, shape)
        self.chunks.append((offset // P, mass_KnF, torch.cat(lses).unflatten(0, shape)))

    @torch.no_grad()
    def finish(self) -> None:
        """Scale every chunk to the whole and hand the sums to the evidence."""
        lse = torch.stack([lse for *_, lse in self.chunks]).logsumexp(0)
        num_frames = max(first + mass.shape[-1] for first, mass, _ in self.chunks)
        num_rows = len(self.rows_R)
        mass_RF = torch.zeros(num_rows, num_frames, dtype=torch.float64)
        for first, mass_KnF, chunk_lse in self.chunks:
            scaled = mass_KnF * (chunk_lse - lse).exp()[..., None]
            by_row = scaled.unflatten(1, (-1, num_rows)).sum((0, 1))
            mass_RF[:, first : first + by_row.shape[-1]] += by_row.double().cpu()
        start = 0
        for sequence, rows in self.rows_of:
            self.evidence.add(sequence, mass_RF[start : start + len(rows)].sum(0))
            start += len(rows)
