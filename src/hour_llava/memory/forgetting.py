"""Forgetting: which tokens of a video's memory the language model still gets to see.

A memory of F frames with P cells and one newline each is flattened to F * (P + 1) tokens; a token's
index there is also its rotary position. Forgetting picks a quarter of the cells of each kept frame
(spatial) and a quarter of the frames (temporal); everything here returns indices, never tokens.

Letters: F frames, P cells a frame, D hidden, n kept.
Source: arXiv 2506.05332 (forgetting).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import LongTensor, Tensor

SpatialForgetting = Literal["random", "uniform"]
TemporalForgetting = Literal["uniform", "random", "keyframe", "question"]

SPATIAL_KEEP_RATIO = 4


def count_memory_frames(num_frames: int, *, min_frames: int = 128) -> int:
    """Count the frames of the memory of a video: short ones are repeated up to `min_frames`."""
    return max(num_frames, min_frames)


def count_kept_frames(num_memory_frames: int, *, keep_ratio: int = 4, max_frames: int = 512) -> int:
    """Count the frames that temporal forgetting keeps: a quarter, at most 512, at least one."""
    return max(1, min(max_frames, num_memory_frames // keep_ratio))


def count_kept_cells(height: int, width: int, *, spatial: SpatialForgetting = "random") -> int:
    """Count the cells that spatial forgetting keeps of a grid; the kinds differ on odd sides."""
    if spatial == "uniform":
        return -(-height // 2) * -(-width // 2)
    return -(-height * width // SPATIAL_KEEP_RATIO)


def count_kept_tokens(
    num_frames: int,
    *,
    grid_side: int = 8,
    min_frames: int = 128,
    keep_ratio: int = 4,
    max_frames: int = 512,
    spatial: SpatialForgetting = "random",
) -> int:
    """Count the visual tokens of a video that reach the language model, newlines included."""
    memory_frames = count_memory_frames(num_frames, min_frames=min_frames)
    kept_frames = count_kept_frames(memory_frames, keep_ratio=keep_ratio, max_frames=max_frames)
    return kept_frames * (count_kept_cells(grid_side, grid_side, spatial=spatial) + 1)


def repeat_frame_index(num_frames: int, *, min_frames: int = 128) -> LongTensor:
    """Name the source frame of each memory frame: repetition up to `min_frames`, else identity."""
    _require_frames(num_frames)
    if num_frames >= min_frames:
        return _long(torch.arange(num_frames))
    return uniform_frames(num_frames, min_frames)


def uniform_frames(num_frames: int, num_kept: int) -> LongTensor:
    """Pick frames at even distances, both ends included.

    Float64 `linspace`, floored, as released: exact integer division differs for 198 of the lengths
    128..7200. `torch.linspace` counts back from the end in its second half and rounds differently.
    """
    _require_frames(num_frames)
    if num_kept == 1:
        return _long(torch.zeros(1, dtype=torch.long))
    step = (num_frames - 1) / (num_kept - 1)
    index = torch.arange(num_kept, dtype=torch.float64) * step
    index[-1] = num_frames - 1
    return _long(index.long())


def random_frames(
    num_frames: int, num_kept: int, *, generator: torch.Generator | None = None
) -> LongTensor:
    """Pick frames at random, without repetition, in time order."""
    _require_frames(num_frames)
    order = torch.randperm(num_frames, generator=generator)
    return _long(order[:num_kept].sort().values)


def keyframes(features_FD: Tensor, num_kept: int, *, num_neighbours: int = 8) -> LongTensor:
    """Pick the frames least like their nearest neighbours in time.

    Args:
        features_FD: one vector a frame, such as the mean of its tokens.
        num_kept: how many frames to pick.
        num_neighbours: how many frames around each it is compared with (fewer in short videos).

    Source: arXiv 2506.05332 (forgetting: keyframe, K = 8).
    """
    num_frames = features_FD.shape[0]
    _require_frames(num_frames)
    directions_FD = F.normalize(features_FD.float(), dim=-1)
    width = min(num_neighbours + 1, num_frames)
    # At both ends the window slides inwards, so that every frame has as many neighbours.
    first_F = (torch.arange(num_frames) - width // 2).clamp(0, num_frames - width)
    similarity_F = torch.zeros(num_frames)
    for offset in range(width):
        other_F = (first_F + offset).to(directions_FD.device)
        similarity_F += (directions_FD * directions_FD[other_F]).sum(-1).cpu()
    return _smallest(similarity_F, num_kept)


def question_guided_frames(features_FD: Tensor, question_D: Tensor, num_kept: int) -> LongTensor:
    """Pick the frames whose mean token is nearest to the mean question embedding, in time order."""
    _require_frames(features_FD.shape[0])
    similarity_F = F.cosine_similarity(features_FD.float(), question_D.float()[None], dim=-1)
    return _smallest(-similarity_F.cpu(), num_kept)


def uniform_cells(height: int, width: int) -> LongTensor:
    """Pick the cells at even rows and even columns of a grid, row by row."""
    rows = torch.arange(0, height, 2)
    columns = torch.arange(0, width, 2)
    return _long((rows[:, None] * width + columns).flatten())


def random_cells(
    num_grids: int, num_cells: int, *, generator: torch.Generator | None = None
) -> LongTensor:
    """Pick a quarter of the cells of each grid at random.

    Returns:
        (num_grids, ceil(num_cells / 4)), sorted; drawn on the CPU, from its default generator where
        none is given, in the released code's order: a recorded seed gives the recorded cells.
    """
    num_kept = -(-num_cells // SPATIAL_KEEP_RATIO)
    draws = torch.rand(num_grids, num_cells, generator=generator)
    return _long(draws.topk(num_kept, dim=-1, largest=False).indices.sort(dim=-1).values)


def kept_token_index(kept_frames: Tensor, kept_cells: Tensor, *, num_cells: int) -> LongTensor:
    """Name the kept tokens in the flattened memory; the index is also the token's rotary position.

    Args:
        kept_frames: (n,) frames of the memory.
        kept_cells: (S,) cells kept in all frames, or (n, S) cells of each kept frame.
        num_cells: cells a frame in the memory, without the newline that follows them.

    Returns:
        (n * (S + 1),) each frame's cells, then its newline.
    """
    cells_nS = kept_cells.expand(len(kept_frames), -1) if kept_cells.dim() == 1 else kept_cells
    newline_n1 = torch.full((len(kept_frames), 1), num_cells)
    within_frame = torch.cat([cells_nS, newline_n1], dim=1)
    return _long((kept_frames[:, None] * (num_cells + 1) + within_frame).flatten())


def query_positions(parts: Sequence[int | Tensor]) -> LongTensor:
    """Give MemAug's queries their positions: every part begins one behind the largest so far.

    Args:
        parts: in reading order, the number of text tokens of a stretch, or the own positions of
            a stretch of visual tokens. Memory positions are not shifted: behind n text tokens a
            query stands n positions away from its own copy in memory, as released.
    """
    placed: list[Tensor] = []
    next_position = 0
    for part in parts:
        own = torch.arange(part) if isinstance(part, int) else part.long()
        if len(own) == 0:
            continue
        placed.append(own + next_position)
        next_position = int(placed[-1].max()) + 1
    return _long(torch.cat(placed) if placed else torch.zeros(0, dtype=torch.long))


def forgetting_generator(seed: int, content: str | bytes | int) -> torch.Generator:
    """Seed a generator by (seed, content of the video): one video forgets alike on every day."""
    text = content if isinstance(content, bytes) else str(content).encode()
    digest = hashlib.sha256(f"{seed}:".encode() + text).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def _smallest(scores_F: Tensor, num_kept: int) -> LongTensor:
    """Name the `num_kept` smallest scores in time order; the earlier frame wins a tie."""
    order = scores_F.sort(stable=True).indices
    return _long(order[:num_kept].sort().values)


def _require_frames(num_frames: int) -> None:
    if num_frames < 1:
        raise ValueError(f"a memory needs at least 1 frame, this one has {num_frames}")


def _long(index: Tensor) -> LongTensor:
    assert index.dtype == torch.long
    return index  # pyright: ignore[reportReturnType]
