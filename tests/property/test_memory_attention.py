"""Attention over chunks equals attention over the whole, however it is cut."""

from __future__ import annotations

import itertools

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hour_llava.memory.attention import attend_twin, attend_with_lse, merge_attention
from hour_llava.memory.packing import make_packing


@settings(max_examples=60, deadline=None)
@given(
    cuts=st.lists(st.integers(1, 59), max_size=6, unique=True),
    order=st.randoms(use_true_random=False),
    seed=st.integers(0, 2**31),
    spread=st.sampled_from([0.01, 1.0, 30.0]),
    kv_heads=st.sampled_from([1, 2, 4]),
)
def test_any_cut_in_any_order_merges_to_the_whole(
    cuts: list[int], order: object, seed: int, spread: float, kv_heads: int
) -> None:
    g = torch.Generator().manual_seed(seed)
    q = torch.randn(1, 7, 4, 8, generator=g) * spread
    k, v = (torch.randn(1, 60, kv_heads, 8, generator=g) for _ in range(2))
    edges = [0, *sorted(cuts), 60]
    pieces = list(itertools.pairwise(edges))
    order.shuffle(pieces)
    out, lse = merge_attention(attend_with_lse(q, k[:, a:b], v[:, a:b]) for a, b in pieces)
    expected, expected_lse = attend_twin(q, k, v)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(lse, expected_lse, atol=1e-4, rtol=1e-5)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 40), st.sampled_from(["a", "b", None])), min_size=1))
def test_packing_gives_every_row_back_in_its_place(items: list[tuple[int, str | None]]) -> None:
    ends = torch.tensor([n for n, _ in items]).cumsum(0).tolist()
    rows = [torch.arange(end - n, end) for end, (n, _) in zip(ends, items, strict=True)]
    packing = make_packing(rows, [kind for _, kind in items], torch.device("cpu"))
    x = torch.arange(ends[-1]).float()[:, None] + 1
    outputs = []
    for group in packing.groups:
        taken = group.gather(x)
        assert taken.shape == (len(group.items), group.width, 1)
        assert len({items[i][1] for i in group.items}) == 1
        assert items[group.items[0]][1] is not None or len(group.items) == 1
        outputs.append(taken * 2)
    assert torch.equal(packing.restore(outputs), x * 2)
