"""Which sample comes when: streams with weights as one endless order, a pure function of the seed.

Each stream runs through permutation after permutation of its own samples; an epoch of the mixture
takes `weight` times its size from where the last epoch stopped. So no sample is lost, whatever the
weights. A global batch is `GlobalOrder.batch(number)`, on any machine, whatever came before.

    random      a batch mixes the streams; batches run on across the ends of epochs
    per_stream  each batch comes from one stream, as the released recipe does it

With a `window`, videos are shuffled whole, and samples only within so many neighbours: those of one
video come close together, and its file is read from the disk once.

Letters: G samples of a global batch.
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, overload

import numpy as np

from hour_llava.data.manifest import Sample
from hour_llava.errors import DataError

Mode = Literal["random", "per_stream"]


@dataclass(frozen=True, kw_only=True)
class Stream:
    """A part of a mixture.

    Args:
        name: In logs and errors.
        samples: A manifest, or any sequence.
        weight: How often an epoch goes through it: 0.5 is another half each epoch.
    """

    name: str
    samples: Sequence[Sample]
    weight: float = 1.0


class Mixture(Sequence[Sample]):
    """The samples of all streams, one behind the other; the order is `GlobalOrder`'s."""

    def __init__(self, streams: Sequence[Stream]) -> None:
        if not streams:
            raise DataError("a mixture needs at least one stream")
        for stream in streams:
            if not len(stream.samples):
                raise DataError(f"stream {stream.name} has no samples")
            if not (math.isfinite(stream.weight) and stream.weight > 0):
                raise DataError(
                    f"stream {stream.name} has weight {stream.weight}; it must be above 0: leave "
                    "out what is not to be seen"
                )
        self.streams = tuple(streams)
        self.starts = np.cumsum([0, *(len(stream.samples) for stream in streams)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | Sequence[Sample]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        stream, own = self.locate(number)
        return stream.samples[own]

    def locate(self, index: int) -> tuple[Stream, int]:
        """Say which stream holds a sample, and its number there."""
        number = bisect_right(self.starts, index) - 1
        return self.streams[number], index - int(self.starts[number])


class GlobalOrder:
    """The global batches of a run.

    Args:
        sizes: Samples of each stream.
        weights: How often an epoch goes through each.
        global_batch_size: G, the same for every batch.
        seed: Another seed, another order.
        mode: `random` or `per_stream`.
        window: Neighbours among which samples are shuffled; 0: all of them, videos are no matter.
        groups: Of each stream, the number of the video of each sample; needed with a window.

    Raises:
        DataError: counts that do not fit, with both numbers.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        global_batch_size: int,
        weights: Sequence[float] | None = None,
        seed: int = 0,
        mode: Mode = "random",
        window: int = 0,
        groups: Sequence[np.ndarray] | None = None,
    ) -> None:
        if global_batch_size < 1:
            raise DataError(f"a global batch of {global_batch_size} samples; at least 1 is needed")
        if window and (groups is None or [len(g) for g in groups] != list(sizes)):
            raise DataError("a shuffle window needs the video number of every sample")
        self.sizes = tuple(int(size) for size in sizes)
        self.global_batch_size, self.seed = global_batch_size, seed
        self.mode: Mode = mode
        self.window, self._groups = window, groups
        shares = weights or [1.0] * len(self.sizes)
        self._quotas = tuple(
            max(1, round(share * size)) for share, size in zip(shares, self.sizes, strict=True)
        )
        self._starts = np.cumsum([0, *self.sizes])
        # held per order: a stream's permutations and an epoch's plan are asked for again and again
        self._permutation = lru_cache(maxsize=4 * len(self.sizes))(self._make_permutation)
        self._epoch_streams = lru_cache(maxsize=2)(self._make_epoch_streams)

    @classmethod
    def of(
        cls,
        mixture: Mixture,
        *,
        global_batch_size: int,
        seed: int = 0,
        mode: Mode = "random",
        window: int = 0,
    ) -> GlobalOrder:
        """Make the order of a mixture; with a window, every row is read once to know its video."""
        samples = [stream.samples for stream in mixture.streams]
        return cls(
            [len(own) for own in samples],
            weights=[stream.weight for stream in mixture.streams],
            global_batch_size=global_batch_size,
            seed=seed,
            mode=mode,
            window=window,
            groups=[group_numbers(own) for own in samples] if window else None,
        )

    @property
    def samples_per_epoch(self) -> int:
        """Count what an epoch sees, by the weights."""
        return sum(self._quotas)

    @property
    def fingerprint(self) -> str:
        """Name all that the order depends on: a run resumes on the same one alone."""
        parts = (self.sizes, self._quotas, self.global_batch_size, self.seed, self.mode)
        text = repr((*parts, self.window))
        digest = hashlib.blake2b(text.encode(), digest_size=8)
        for numbers in self._groups or ():
            digest.update(np.ascontiguousarray(numbers, dtype=np.int64).tobytes())
        return digest.hexdigest()

    def num_batches(self, epochs: float = 1.0) -> int:
        """Count the batches in which so many epochs are seen whole."""
        return count_batches(self._quotas, self.global_batch_size, self.mode, epochs)

    def batch(self, number: int) -> np.ndarray:
        """Give a global batch: (G,) int64 indices into the mixture."""
        size = self.global_batch_size
        if self.mode == "random":
            positions = np.arange(number * size, (number + 1) * size)
            return self._mixed(positions)
        epoch, within = self._epoch_of_batch(number)
        streams, ranks = self._epoch_streams(epoch)
        stream = int(streams[within])
        own_number = self._stream_batches(stream, epoch) + int(ranks[within])
        return self._from_stream(stream, np.arange(own_number * size, (own_number + 1) * size))

    def _mixed(self, positions: np.ndarray) -> np.ndarray:
        """Give the samples at positions of the mixed order; which stream, then which of its own."""
        found = np.empty(len(positions), dtype=np.int64)
        epochs, withins = np.divmod(positions, self.samples_per_epoch)
        for epoch in np.unique(epochs):
            all_streams, all_ranks = self._epoch_streams(int(epoch))
            here = np.flatnonzero(epochs == epoch)
            streams, ranks = all_streams[withins[here]], all_ranks[withins[here]]
            for stream in np.unique(streams):
                own = streams == stream
                places = int(epoch) * self._quotas[stream] + ranks[own]
                found[here[own]] = self._from_stream(int(stream), places)
        return found

    def _from_stream(self, stream: int, places: np.ndarray) -> np.ndarray:
        """Give the samples at places of a stream's endless run of permutations."""
        rounds, within = np.divmod(places, self.sizes[stream])
        found = np.empty(len(places), dtype=np.int64)
        for number in np.unique(rounds):
            here = rounds == number
            found[here] = self._permutation(stream, int(number))[within[here]]
        return found + self._starts[stream]

    def _make_epoch_streams(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Give the stream of each sample (`random`) or batch (`per_stream`), and its turn there."""
        if self.mode == "random":
            counts = list(self._quotas)
        else:
            counts = [
                self._stream_batches(s, epoch + 1) - self._stream_batches(s, epoch)
                for s in range(len(self.sizes))
            ]
        streams = np.repeat(np.arange(len(counts), dtype=np.int16), counts)
        streams = self._random("streams", epoch).permutation(streams)
        ranks = np.empty(len(streams), dtype=np.int64)
        for stream, count in enumerate(counts):
            ranks[streams == stream] = np.arange(count)
        return streams, ranks

    def _stream_batches(self, stream: int, epochs: int) -> int:
        """Count a stream's batches in the first epochs."""
        return _rounded_up(epochs * self._quotas[stream], self.global_batch_size)

    def _epoch_of_batch(self, number: int) -> tuple[int, int]:
        low, high = 0, number + 1  # an epoch has at least one batch in the long run
        while self.num_batches(high) <= number:
            high *= 2
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.num_batches(middle) <= number else (low, middle - 1)
        return low, number - self.num_batches(low)

    def _make_permutation(self, stream: int, number: int) -> np.ndarray:
        random = self._random("stream", stream, number)
        if not self.window or self._groups is None:
            return random.permutation(self.sizes[stream])
        groups = self._groups[stream]
        order = np.argsort(random.permutation(int(groups.max()) + 1)[groups], kind="stable")
        for start in range(0, len(order), self.window):
            random.shuffle(order[start : start + self.window])
        return order

    def _random(self, *parts: str | int) -> np.random.Generator:
        """Draw from (seed, what for): the same on every machine."""
        text = repr((self.seed, *parts)).encode()
        return np.random.Generator(
            np.random.PCG64(int.from_bytes(hashlib.sha256(text).digest()[:16], "little"))
        )


def count_batches(
    quotas: Sequence[int], global_batch_size: int, mode: Mode, epochs: float = 1.0
) -> int:
    """Count the batches in which so many epochs are seen whole.

    Args:
        quotas: What an epoch takes of each stream.
        global_batch_size: Samples of a batch.
        mode: `per_stream` fills up each stream's last batch.
        epochs: Any number.
    """
    if mode == "random":
        return math.ceil(epochs * sum(quotas) / global_batch_size)
    whole = math.floor(epochs)
    done, then = (
        sum(_rounded_up(number * quota, global_batch_size) for quota in quotas)
        for number in (whole, whole + 1)
    )
    return done + math.ceil((epochs - whole) * (then - done))


def _rounded_up(num_samples: int, global_batch_size: int) -> int:
    return -(-num_samples // global_batch_size)


def group_numbers(samples: Sequence[Sample]) -> np.ndarray:
    """Number the video of each sample: equal numbers (n,) share one."""
    groups = getattr(samples, "groups", None)
    if groups is not None:
        return groups()
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(s.group, len(numbers)) for s in samples], dtype=np.int64)
