"""MemAug: a batch equals its parts, chunks equal the whole, and evidence equals the softmax."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from hour_llava.memory import EvidenceMass, MemAug, MemoryTokens

LENGTHS = [40, 44, 39, 40, 120, 40]
READS = [0, 1, 0, 2, 1, 3]


@dataclass
class Stream:
    """A memory that comes in chunks of uneven sizes."""

    whole: MemoryTokens
    sizes: tuple[int, ...] = (1, 17, 40)
    times_read: int = 0

    @property
    def num_tokens(self) -> int:
        return self.whole.num_tokens

    def chunks(self) -> Iterator[tuple[Tensor, Tensor]]:
        self.times_read += 1
        start, turn = 0, 0
        while start < self.num_tokens:
            end = start + self.sizes[turn % len(self.sizes)]
            yield self.whole.tokens_MD[start:end], self.whole.positions_M[start:end]
            start, turn = end, turn + 1


def make_batch() -> dict[str, object]:
    g = torch.Generator().manual_seed(3)
    memories = [
        MemoryTokens(tokens_MD=torch.randn(M, 32, generator=g), positions_M=torch.arange(M))
        for M in (100, 100, 77, 100)
    ]
    return {
        "queries_ND": torch.randn(sum(LENGTHS), 32, generator=g),
        "positions_N": torch.cat([torch.arange(n) * 3 + i for i, n in enumerate(LENGTHS)]),
        "lengths": LENGTHS,
        "memories": memories,
        "memory_index": READS,
    }


def one_by_one(memaug: MemAug, batch: dict, **more: object) -> Tensor:
    ends = torch.tensor(LENGTHS).cumsum(0).tolist()
    outputs = []
    for end, n, m in zip(ends, LENGTHS, READS, strict=True):
        rows = slice(end - n, end)
        outputs.append(
            memaug(
                batch["queries_ND"][rows],
                lengths=[n],
                positions_N=batch["positions_N"][rows],
                memories=[batch["memories"][m]],
                memory_index=[0],
                **more,
            )
        )
    return torch.cat(outputs)


def test_a_packed_batch_equals_its_sequences_one_by_one(make_memaug: Callable) -> None:
    memaug, batch = make_memaug(), make_batch()
    torch.testing.assert_close(memaug(**batch), one_by_one(memaug, batch), atol=3e-6, rtol=0)


def test_equal_lengths_are_read_by_one_call_without_a_copy(make_memaug: Callable) -> None:
    memaug = make_memaug(num_layers=1)
    calls: list[tuple[int, ...]] = []
    memory = MemoryTokens(tokens_MD=torch.randn(30, 32), positions_M=torch.arange(30))
    output = memaug(
        torch.randn(120 * 7, 32),
        lengths=[7] * 120,
        positions_N=torch.arange(7).repeat(120),
        memories=[memory] * 12,
        memory_index=[i // 10 for i in range(120)],
        observer=lambda _l, numbers, q, k: calls.append((*numbers, *q.shape, *k.shape)),
    )
    assert calls == [(*range(12), 12, 4, 70, 8, 12, 2, 30, 8)]
    assert output.shape == (840, 32)


def test_gradients_of_a_batch_equal_those_of_its_sequences(make_memaug: Callable) -> None:
    memaug, batch = make_memaug(), make_batch()
    inputs = [batch["queries_ND"].requires_grad_(), batch["memories"][1].tokens_MD.requires_grad_()]
    wanted = [*inputs, *memaug.parameters()]
    ours = torch.autograd.grad(memaug(**batch).square().sum(), wanted)
    theirs = torch.autograd.grad(one_by_one(memaug, batch).square().sum(), wanted)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=2e-4, rtol=1e-3)
        assert a.abs().max() > 0


def test_recomputed_layers_give_the_same_gradients(make_memaug: Callable) -> None:
    memaug, batch = make_memaug(), make_batch()
    recompute = functools.partial(checkpoint, use_reentrant=False)
    wanted = list(memaug.parameters())
    ours = torch.autograd.grad(memaug(**batch, checkpoint=recompute).square().sum(), wanted)
    theirs = torch.autograd.grad(memaug(**batch).square().sum(), wanted)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_chunks_of_any_kind_equal_the_whole(make_memaug: Callable, dtype: torch.dtype) -> None:
    memaug, batch = make_memaug().to(dtype), make_batch()
    batch["queries_ND"] = batch["queries_ND"].to(dtype)
    batch["memories"] = [
        MemoryTokens(tokens_MD=m.tokens_MD.to(dtype), positions_M=m.positions_M + 200_000)
        for m in batch["memories"]
    ]
    streams = [Stream(whole) for whole in batch["memories"]]
    tolerance = 3e-6 if dtype == torch.float32 else 0.04
    with torch.no_grad():
        whole = memaug(**batch)
        sliced = memaug(**batch, chunk_tokens=13)
        streamed = memaug(**(batch | {"memories": streams}))
    torch.testing.assert_close(sliced, whole, atol=tolerance, rtol=0)
    torch.testing.assert_close(streamed, whole, atol=tolerance, rtol=0)
    assert [stream.times_read for stream in streams] == [len(memaug.layers)] * 4
    with_gradient = memaug(**(batch | {"memories": streams}))
    torch.testing.assert_close(with_gradient, whole, atol=tolerance, rtol=0)
    assert with_gradient.requires_grad


def softmax_mass(memaug: MemAug, batch: dict, rows: Tensor, P: int) -> dict[int, Tensor]:
    """Compute every sequence's mass a frame from whole softmax rows: the readable twin."""
    mass: dict[int, Tensor] = {}
    starts = [0, *torch.tensor(LENGTHS).cumsum(0).tolist()]

    def observe(_layer: int, numbers: tuple[int, ...], q: Tensor, k: Tensor) -> None:
        for b, number in enumerate(numbers):
            keys = k[b].repeat_interleave(q.shape[1] // k.shape[1], dim=0)
            p = (q[b] @ keys.transpose(1, 2) / math.sqrt(q.shape[-1])).softmax(-1).double()
            start = 0
            for i in [i for i, m in enumerate(READS) if m == number]:
                asked = rows[starts[i] : starts[i + 1]]
                own = p[:, start : start + LENGTHS[i]][:, asked].sum((0, 1))
                start += LENGTHS[i]
                frames = torch.arange(len(own)) // P
                per_frame = torch.zeros(int(frames[-1]) + 1).double().index_add(0, frames, own)
                mass[i] = mass.get(i, 0) + per_frame

    memaug(**batch, observer=observe)
    return {i: m / m.sum() for i, m in mass.items() if m.sum() > 0}


@pytest.mark.parametrize("chunk_tokens", [7, 10, 1000])
def test_evidence_equals_the_summed_softmax_rows(make_memaug: Callable, chunk_tokens: int) -> None:
    memaug, batch = make_memaug(), make_batch()
    rows = torch.zeros(sum(LENGTHS), dtype=torch.bool)
    rows[2:5] = rows[50:70] = rows[90] = True  # of sequences 0, 1 and 2
    evidence = EvidenceMass(rows_N=rows, tokens_per_frame=5)
    with torch.no_grad():
        plain = memaug(**batch)
        asked = memaug(**batch, evidence=evidence, chunk_tokens=chunk_tokens)
        expected = softmax_mass(memaug, batch, rows, 5)
    torch.testing.assert_close(asked, plain, atol=3e-6, rtol=0)
    assert set(expected) == {0, 1, 2}
    for sequence, mass in expected.items():
        found = evidence.per_frame(sequence)
        torch.testing.assert_close(found, mass, atol=1e-7, rtol=1e-5)
        assert math.isclose(float(found.sum()), 1.0, rel_tol=1e-12)
    with pytest.raises(ValueError, match="sequence 4 has no question rows"):
        evidence.per_frame(4)


def test_evidence_of_streamed_chunks_equals_that_of_the_whole(make_memaug: Callable) -> None:
    memaug, batch = make_memaug(), make_batch()
    rows = torch.rand(sum(LENGTHS), generator=torch.Generator().manual_seed(0)) < 0.3
    results = []
    for memories in (batch["memories"], [Stream(m) for m in batch["memories"]]):
        evidence = EvidenceMass(rows_N=rows, tokens_per_frame=5)
        with torch.no_grad():
            memaug(**(batch | {"memories": memories}), evidence=evidence)
        results.append([evidence.per_frame(i) for i in range(len(LENGTHS))])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, atol=1e-7, rtol=1e-5)


def test_log_n_scales_the_queries_of_memories_longer_than_the_reference(
    make_memaug: Callable,
) -> None:
    batch = make_batch()

    def keys_and_queries(**changes: object) -> dict[int, Tensor]:
        seen: dict[int, Tensor] = {}

        def observe(layer: int, numbers: tuple[int, ...], q: Tensor, _k: Tensor) -> None:
            if layer == 0:
                seen.update({number: q[b] for b, number in enumerate(numbers)})

        make_memaug(**changes)(**batch, observer=observe)
        return seen

    plain, scaled = keys_and_queries(), keys_and_queries(log_n_reference=80)
    factor = math.log(100) / math.log(80)
    torch.testing.assert_close(scaled[0], plain[0] * factor)
    torch.testing.assert_close(scaled[2], plain[2])  # 77 tokens: shorter than the reference


def test_several_sequences_of_one_memory_make_its_keys_once(make_memaug: Callable) -> None:
    memaug, batch = make_memaug(), make_batch()
    rows: list[int] = []
    for layer in memaug.layers:
        layer.cross_attn.kv_proj.register_forward_hook(
            lambda _m, inputs, _o: rows.append(inputs[0].numel() // 32)
        )
    memaug(**batch)
    assert sum(rows) == (100 + 100 + 77 + 100) * len(memaug.layers)


def test_counts_that_do_not_fit_are_refused_with_both_numbers(make_memaug: Callable) -> None:
    memaug, batch = make_memaug(), make_batch()
    with pytest.raises(ValueError, match=r"323 queries, but lengths sum to 322"):
        memaug(**(batch | {"lengths": [39, *LENGTHS[1:]]}))
    with pytest.raises(ValueError, match="6 sequences, but 5 memory numbers"):
        memaug(**(batch | {"memory_index": READS[1:]}))
    with pytest.raises(ValueError, match="memory number 4 of 4 memories"):
        memaug(**(batch | {"memory_index": [4, *READS[1:]]}))
    empty = MemoryTokens(tokens_MD=torch.zeros(0, 32), positions_M=torch.zeros(0))
    with pytest.raises(ValueError, match="memory 0 has 0 tokens"):
        memaug(**(batch | {"memories": [empty, *batch["memories"][1:]]}))
    with pytest.raises(ValueError, match="5 heads cannot share 2 kv heads"):
        make_memaug(num_heads=5)
    with pytest.raises(ValueError, match="this one comes in chunks"):
        streams = [Stream(m) for m in batch["memories"]]
        memaug(**(batch | {"memories": streams}), observer=lambda *_: None)


def test_state_names_are_a_promise(make_memaug: Callable) -> None:
    names = {name.removeprefix("layers.0.") for name in make_memaug(num_layers=1).state_dict()}
    modules = ["self_attn.qkv_proj", "self_attn.o_proj", "cross_attn.q_proj", "cross_attn.kv_proj"]
    modules += ["cross_attn.o_proj", "mlp.fc1", "mlp.fc2", "norm1", "norm2", "norm3"]
    assert names == {f"{module}.{kind}" for module in modules for kind in ("weight", "bias")}


def test_bfloat16_is_as_good_at_far_positions_as_at_near_ones(make_memaug: Callable) -> None:
    batch = make_batch()
    exact, low = make_memaug(), make_memaug().bfloat16()
    for parameter, rounded in zip(exact.parameters(), low.parameters(), strict=True):
        parameter.data.copy_(rounded.data.float())

    def run(memaug: MemAug, dtype: torch.dtype, first: int, key_shift: int = 0) -> Tensor:
        memories = [
            MemoryTokens(
                tokens_MD=m.tokens_MD.bfloat16().to(dtype),
                positions_M=m.positions_M + first + key_shift,
            )
            for m in batch["memories"]
        ]
        queries = batch["queries_ND"].bfloat16().to(dtype)
        places = {"positions_N": batch["positions_N"] + first, "memories": memories}
        with torch.no_grad():
            return memaug(**(batch | places | {"queries_ND": queries})).float()

    errors = {}
    for first in (0, 200_000):
        judge = run(exact, torch.float32, first)
        errors[first] = (run(low, torch.bfloat16, first) - judge).abs()
        misplaced = (run(exact, torch.float32, first, key_shift=1) - judge).abs()
        assert errors[first].mean() < misplaced.mean()  # sharp enough to see a step of one
    assert errors[200_000].max() <= 2 * errors[0].max()
    assert errors[200_000].mean() <= 1.2 * errors[0].mean()
