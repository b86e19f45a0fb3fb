"""The order of training: constant global batches, the same on any number of ranks, resumable."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hour_llava.data.manifest import Sample
from hour_llava.data.mixture import GlobalOrder, Mixture, Mode, Stream
from hour_llava.data.sampler import GlobalBatchSampler, forgetting_seed
from hour_llava.errors import DataError

sizes = st.lists(st.integers(1, 40), min_size=1, max_size=4)
modes = st.sampled_from(["random", "per_stream"])


@settings(deadline=None, max_examples=25)
@given(sizes, modes, st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(0, 9))
def test_ranks_together_see_the_global_batches_however_they_are_dealt(
    own: list[int], mode: Mode, world: int, micro: int, times: int, seed: int
) -> None:
    order = GlobalOrder(own, global_batch_size=world * micro * times, seed=seed, mode=mode)
    ranks = [
        GlobalBatchSampler(
            order, num_batches=4, rank=rank, world_size=world, micro_batch_size=micro
        )
        for rank in range(world)
    ]
    dealt = [list(rank) for rank in ranks]
    assert all(len(batches) == len(ranks[0]) == 4 * times for batches in dealt)
    for number in range(4):
        steps = [b for batches in dealt for b in batches[number * times : (number + 1) * times]]
        assert all(len(batch) == micro for batch in steps)
        drawn = sorted((d for batch in steps for d in batch), key=lambda d: d.position)
        assert [d.index for d in drawn] == order.batch(number).tolist()
        first = number * order.global_batch_size
        assert [d.position for d in drawn] == list(range(first, first + order.global_batch_size))


@settings(deadline=None, max_examples=25)
@given(sizes, modes, st.integers(0, 6), st.integers(0, 9))
def test_a_resume_on_other_ranks_goes_on_with_the_same_batches(
    own: list[int], mode: Mode, done: int, seed: int
) -> None:
    def sampler(rank: int, world: int) -> GlobalBatchSampler:
        order = GlobalOrder(own, global_batch_size=8, seed=seed, mode=mode)
        return GlobalBatchSampler(order, num_batches=7, rank=rank, world_size=world)

    whole = [drawn for batch in sampler(0, 1) for drawn in batch][done * 8 :]
    stopped = sampler(1, 2)
    stopped.seek(done * 8)
    rest = []
    for rank in range(4):
        resumed = sampler(rank, 4)
        resumed.load_state_dict(stopped.state_dict())
        rest += [drawn for batch in resumed for drawn in batch]
    assert sorted(rest, key=lambda d: d.position) == whole


@settings(deadline=None, max_examples=25)
@given(sizes, st.integers(1, 12), st.integers(1, 3))
def test_an_epoch_sees_every_sample_once_and_weights_multiply(
    own: list[int], batch: int, epochs: int
) -> None:
    order = GlobalOrder(own, global_batch_size=batch)
    seen = np.concatenate([order.batch(n) for n in range(order.num_batches(epochs))])
    counts = Counter(seen[: epochs * sum(own)].tolist())
    assert counts == dict.fromkeys(range(sum(own)), epochs)
    mixed = GlobalOrder([10, 20], weights=[2.0, 0.5], global_batch_size=10)
    two = np.concatenate([mixed.batch(n) for n in range(mixed.num_batches(2))])
    assert Counter(two.tolist()) == dict.fromkeys(range(10), 4) | dict.fromkeys(range(10, 30), 1)


@settings(deadline=None, max_examples=25)
@given(sizes, st.integers(1, 12), st.integers(1, 3))
def test_per_stream_batches_have_one_stream_and_lose_no_sample(
    own: list[int], batch: int, epochs: int
) -> None:
    order = GlobalOrder(own, global_batch_size=batch, mode="per_stream")
    stream_of = np.repeat(np.arange(len(own)), own)
    batches = [order.batch(n) for n in range(order.num_batches(epochs))]
    assert all(len(set(stream_of[b])) == 1 for b in batches)
    assert set(np.concatenate(batches).tolist()) == set(range(sum(own)))
    wanted = sum(-(-size * epochs // batch) for size in own)
    assert len(batches) == wanted


def test_half_an_epoch_per_stream_is_half_of_all_batches_not_half_of_each_stream() -> None:
    order = GlobalOrder([4, 4, 4], global_batch_size=4, mode="per_stream")
    assert [order.num_batches(epochs) for epochs in (0.5, 1, 1.5, 2)] == [2, 3, 5, 6]
    assert len({int(order.batch(number)[0]) // 4 for number in range(3)}) == 3


def test_a_window_keeps_the_samples_of_a_video_together() -> None:
    videos = np.random.default_rng(0).permutation(np.repeat(np.arange(50), 20))
    order = GlobalOrder([1000], global_batch_size=1000, window=100, groups=[videos])
    seen = order.batch(0)
    assert sorted(seen.tolist()) == list(range(1000))
    for video in range(50):
        places = np.flatnonzero(videos[seen] == video)
        assert places.max() - places.min() < 200
    first, second = videos[seen][:100], videos[order.batch(1)][:100]
    assert set(first) != set(second)
    assert len(set(videos[seen][:20])) > 1
    plain = GlobalOrder([1000], global_batch_size=1000)
    assert len(set(videos[plain.batch(0)][:100])) > 30


def test_seeds_change_the_order_and_the_fingerprint_names_it() -> None:
    one, two = (GlobalOrder([50], global_batch_size=10, seed=seed) for seed in (0, 1))
    assert one.batch(3).tolist() != two.batch(3).tolist()
    assert one.batch(3).tolist() == GlobalOrder([50], global_batch_size=10).batch(3).tolist()
    assert one.batch(0).tolist() == [21, 39, 24, 33, 26, 16, 42, 41, 47, 2]
    state = GlobalBatchSampler(one, num_batches=5).state_dict()
    with pytest.raises(DataError, match="resume with the same data"):
        GlobalBatchSampler(two, num_batches=5).load_state_dict(state)
    assert forgetting_seed(0, 1) != forgetting_seed(0, 2) != forgetting_seed(1, 2)
    assert 0 <= forgetting_seed(0, 1) < 2**63


def test_counts_that_do_not_fit_are_named() -> None:
    order = GlobalOrder([50], global_batch_size=10)
    with pytest.raises(DataError, match="10 cannot be dealt to 4 ranks in micro-batches of 1"):
        GlobalBatchSampler(order, num_batches=1, world_size=4)
    with pytest.raises(DataError, match="rank 2 of 2"):
        GlobalBatchSampler(order, num_batches=1, world_size=2, rank=2)
    with pytest.raises(DataError, match="15 samples consumed is inside a global batch of 10"):
        GlobalBatchSampler(order, num_batches=1).seek(15)
    sample = Sample(id="a", conversations=())
    with pytest.raises(DataError, match="weight 0"):
        Mixture([Stream(name="a", samples=[sample], weight=0)])
    mixture = Mixture([Stream(name=n, samples=[sample] * 3) for n in "ab"])
    assert (len(mixture), mixture.locate(3)[0].name, mixture.locate(3)[1]) == (6, "b", 0)
    assert mixture[-1] == sample
    grouped = GlobalOrder.of(mixture, global_batch_size=2, window=2)
    assert sorted(grouped.batch(0).tolist() + grouped.batch(1).tolist()) != []
