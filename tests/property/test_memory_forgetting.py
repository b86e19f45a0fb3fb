"""Counts promised before forgetting equal what forgetting keeps, for any sizes."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hour_llava import memory

SIZES = {
    "num_frames": st.integers(1, 3000),
    "side": st.integers(1, 12),
    "min_frames": st.sampled_from([1, 8, 128]),
    "max_frames": st.integers(1, 512),
    "spatial": st.sampled_from(["random", "uniform"]),
}


@settings(max_examples=60, deadline=None)
@given(**SIZES)
def test_the_count_equals_the_kept_tokens(
    num_frames: int, side: int, min_frames: int, max_frames: int, spatial: str
) -> None:
    source = memory.repeat_frame_index(num_frames, min_frames=min_frames)
    num_kept = memory.count_kept_frames(len(source), max_frames=max_frames)
    frames = memory.uniform_frames(len(source), num_kept)
    if spatial == "uniform":
        cells = memory.uniform_cells(side, side)
    else:
        generator = torch.Generator().manual_seed(num_frames)
        cells = memory.random_cells(len(source), side * side, generator=generator)[frames]
    kept = memory.kept_token_index(frames, cells, num_cells=side * side)
    counted = memory.count_kept_tokens(
        num_frames, grid_side=side, min_frames=min_frames, max_frames=max_frames, spatial=spatial
    )
    assert len(kept) == counted
    assert (kept.diff() > 0).all()
    assert kept[-1] < len(source) * (side * side + 1)
    assert source[0] == 0
    assert source[-1] == num_frames - 1
    assert (source.diff() >= 0).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.integers(0, 9), st.lists(st.integers(0, 99), max_size=9)), max_size=6))
def test_every_part_of_the_queries_begins_behind_all_before_it(parts: list) -> None:
    given_parts = [torch.tensor(p) if isinstance(p, list) else p for p in parts]
    placed = memory.query_positions(given_parts).tolist()
    lengths = [len(p) if isinstance(p, list) else p for p in parts]
    assert len(placed) == sum(lengths)
    highest = -1
    for part, length in zip(parts, lengths, strict=True):
        own, placed = placed[:length], placed[length:]
        if own:
            smallest_own = min(part) if isinstance(part, list) else 0
            assert min(own) == highest + 1 + smallest_own
            highest = max(own)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 2**31), st.integers(1, 9))
def test_every_temporal_forgetting_keeps_that_many_in_time_order(
    num_frames: int, wanted: int, seed: int, neighbours: int
) -> None:
    num_kept = min(num_frames, wanted)
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(num_frames, 5, generator=generator)
    for frames in (
        memory.uniform_frames(num_frames, num_kept),
        memory.random_frames(num_frames, num_kept, generator=generator),
        memory.keyframes(features, num_kept, num_neighbours=neighbours),
        memory.question_guided_frames(features, torch.ones(5), num_kept),
    ):
        assert len(frames) == num_kept
        assert (frames.diff() > 0).all()
        assert 0 <= frames[0] <= frames[-1] < num_frames
