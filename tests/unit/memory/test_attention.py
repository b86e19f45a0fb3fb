"""Every fast attention is held to one float32 twin: at most twice as wrong as low precision is."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from hour_llava.memory import attention
from hour_llava.memory.attention import (
    attend,
    attend_by_matmul,
    attend_twin,
    attend_with_lse,
    fold_groups,
    merge_attention,
    partial_rotary_tables,
    rotate,
    unfold_groups,
)

FAR = 200_000


def draw(
    *, N: int = 37, M: int = 150, H: int = 4, K: int = 2, E: int = 16, B: int = 2, first: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw float32 q, k, v with rotary positions from `first` on."""
    g = torch.Generator().manual_seed(0)
    q = torch.randn(B, N, H, E, generator=g)
    k, v = (torch.randn(B, M, K, E, generator=g) for _ in range(2))
    return q, k, v


def rotated(x: Tensor, first: int, dtype: torch.dtype, step: int = 1) -> Tensor:
    positions = first + step * torch.arange(x.shape[1])
    tables = partial_rotary_tables(positions, head_dim=x.shape[-1], theta=1e6, dtype=dtype)
    return rotate(x.to(dtype), tables)


def by_chunks(q: Tensor, k: Tensor, v: Tensor, size: int = 33) -> tuple[Tensor, Tensor]:
    return merge_attention(
        attend_with_lse(q, k[:, i : i + size], v[:, i : i + size])
        for i in range(0, k.shape[1], size)
    )


def by_fallback(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    folded = fold_groups(q, k.shape[2])
    out, lse = attend_by_matmul(folded, k.transpose(1, 2), v.transpose(1, 2))
    n = q.shape[1]
    return unfold_groups(out, n), unfold_groups(lse[..., None], n)[..., 0]


PATHS = {"fused": attend_with_lse, "chunks": by_chunks, "fallback": by_fallback}


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize("first", [0, FAR], ids=["near", "far"])
@pytest.mark.parametrize("heads", [(4, 4), (4, 2), (6, 1)])
def test_float32_paths_equal_the_twin(
    path: Callable[..., tuple[Tensor, Tensor]], first: int, heads: tuple[int, int]
) -> None:
    q, k, v = draw(H=heads[0], K=heads[1])
    q, k = rotated(q, first, torch.float32, step=3), rotated(k, first, torch.float32)
    out, lse = path(q, k, v)
    expected, expected_lse = attend_twin(q, k, v)
    torch.testing.assert_close(out, expected, atol=3e-6, rtol=0)
    torch.testing.assert_close(lse, expected_lse, atol=5e-6, rtol=0)
    torch.testing.assert_close(attend(q, k, v), expected, atol=3e-6, rtol=0)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize("first", [0, FAR], ids=["near", "far"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_is_at_most_twice_as_wrong_as_rounding_the_twin(
    path: Callable[..., tuple[Tensor, Tensor]], first: int, dtype: torch.dtype
) -> None:
    q, k, v = draw()
    exact, exact_lse = attend_twin(
        rotated(q, first, torch.float32), rotated(k, first, torch.float32), v
    )
    low_q, low_k, low_v = rotated(q, first, dtype), rotated(k, first, dtype), v.to(dtype)
    # What plain low precision costs: the twin on rounded inputs, its output rounded.
    plain, plain_lse = attend_twin(low_q, low_k, low_v)
    out, lse = path(low_q, low_k, low_v)
    plain_error = (plain.to(dtype).float() - exact).abs()
    error = (out.float() - exact).abs()
    assert error.max() <= 2 * plain_error.max()
    assert error.mean() <= 2 * plain_error.mean()
    assert (lse - exact_lse).abs().max() <= 2 * (plain_lse - exact_lse).abs().max()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_cuda_paths_equal_the_twin(dtype: torch.dtype) -> None:
    q, k, v = (x.to("cuda", dtype) for x in draw())
    for path in (attend_with_lse, by_chunks):
        out, lse = path(q, k, v)
        expected, expected_lse = attend_twin(q, k, v)
        tolerance = 1e-5 if dtype == torch.float32 else 2e-2
        torch.testing.assert_close(out.float(), expected, atol=tolerance, rtol=0)
        torch.testing.assert_close(lse, expected_lse, atol=tolerance, rtol=0)


def test_a_build_without_the_private_operators_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = draw()
    expected = attend_with_lse(q, k, v)
    monkeypatch.setattr(attention, "_fused_operator", lambda *_: None)
    for ours, theirs in zip(attend_with_lse(q, k, v), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=5e-6, rtol=0)


def test_the_fallback_bounds_its_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = draw()
    expected = by_fallback(q, k, v)
    monkeypatch.setattr(attention, "FALLBACK_SCORE_BYTES", 4 * 2 * 2 * 150 * 7)
    for ours, theirs in zip(by_fallback(q, k, v), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)


def test_chunked_gradients_equal_the_twins() -> None:
    tensors = [x.requires_grad_() for x in draw(N=5, M=40)]
    weight = torch.randn(2, 5, 4, 16)
    ours = torch.autograd.grad((by_chunks(*tensors, size=13)[0] * weight).sum(), tensors)
    theirs = torch.autograd.grad((attend_twin(*tensors)[0] * weight).sum(), tensors)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_merging_leaves_the_parts_as_they_were() -> None:
    q, k, v = draw()
    parts = [attend_with_lse(q, k[:, :50], v[:, :50]), attend_with_lse(q, k[:, 50:], v[:, 50:])]
    before = [out.clone() for out, _ in parts]
    merge_attention(parts)
    assert all(torch.equal(a, b) for a, (b, _) in zip(before, parts, strict=True))


def test_frequencies_follow_the_released_formula_in_float32() -> None:
    positions = torch.tensor([0, 1, 234_000])
    cos, sin = partial_rotary_tables(positions, head_dim=128, theta=1e6, dtype=torch.float32)
    inverse = 1.0 / (1e6 ** (torch.arange(0, 64, 2, dtype=torch.float32) / 64))
    angle = positions.float()[:, None] * inverse
    assert torch.equal(cos, angle.cos())
    assert torch.equal(sin, angle.sin())
    assert cos.shape == (3, 32)


@pytest.mark.parametrize("head_dim", [8, 10, 12, 128])
def test_rotation_pairs_channel_i_with_i_plus_r_and_leaves_the_second_half(head_dim: int) -> None:
    x = torch.randn(5, 3, head_dim)
    tables = partial_rotary_tables(torch.arange(5), head_dim=head_dim, theta=1e4, dtype=x.dtype)
    R = tables[0].shape[1]
    turned = rotate(x, tables)
    as_complex = torch.complex(x[..., :R], x[..., R : 2 * R])
    expected = as_complex * torch.complex(*tables)[:, None]
    torch.testing.assert_close(turned[..., :R], expected.real)
    torch.testing.assert_close(turned[..., R : 2 * R], expected.imag)
    assert torch.equal(turned[..., 2 * R :], x[..., 2 * R :])
    assert torch.equal(turned[0], x[0])


def test_bfloat16_rotation_rounds_the_tables_once_and_the_result_once() -> None:
    x = torch.randn(4, 2, 16).bfloat16()
    positions = FAR + torch.arange(4)
    tables = partial_rotary_tables(positions, head_dim=16, theta=1e6, dtype=torch.bfloat16)
    exact = partial_rotary_tables(positions, head_dim=16, theta=1e6, dtype=torch.float32)
    assert torch.equal(tables[0], exact[0].bfloat16())
    in_float32 = rotate(x.float(), tuple(table.float() for table in tables))
    assert torch.equal(rotate(x, tables), in_float32.bfloat16())


def test_padded_keys_weigh_nothing() -> None:
    q, k, v = draw(B=1)
    mask = torch.ones(1, 150, dtype=torch.bool)
    mask[:, 90:] = False
    torch.testing.assert_close(attend(q, k, v, key_mask_BM=mask), attend(q, k[:, :90], v[:, :90]))
