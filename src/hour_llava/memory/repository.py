"""The memory repository: all that a video left behind, before any question is known.

Holds the pooled features of the vision tower (before the projector), one exact time a frame, and
what they were made from. Opened from a file, features stay on disk until they are asked for.

Letters: F frames, P tokens a frame, D feature size.
Source: arXiv 2506.05332 (memory repository). Different: kept on disk, and shared by all questions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from hour_llava.errors import MemoryFileError
from hour_llava.memory.file import FeatureFile, MemoryFile, Thumbnails, open_memory_file
from hour_llava.memory.header import MemoryHeader
from hour_llava.memory.writer import MemoryFileWriter
from hour_llava.schema import DamagedSpan, Sampling, VideoInfo

SAVE_FRAMES = 256


class MemoryRepository:
    """A video's features, times and origin; every operation gives a new repository.

    Args:
        features_FPD: pooled features of float16, bfloat16 or float32.
        times_F: presentation seconds on the video's own clock, never falling.
        header: what the features are of.
        thumbnails: (seconds, JPEG bytes) of a few frames.

    Raises:
        ValueError: counts that do not fit, with both numbers; times that fall.
    """

    def __init__(
        self,
        *,
        features_FPD: Tensor | FeatureFile,
        times_F: Tensor | Sequence[float],
        header: MemoryHeader | None = None,
        thumbnails: Thumbnails = (),
    ) -> None:
        self._features = features_FPD
        self.times_F = torch.as_tensor(times_F, dtype=torch.float64)
        self.header = header or MemoryHeader()
        self.thumbnails: Thumbnails = tuple(thumbnails)
        self._file: MemoryFile | None = None
        if len(features_FPD.shape) != 3 or self.times_F.shape != features_FPD.shape[:1]:
            raise ValueError(
                f"features {tuple(features_FPD.shape)} (F, P, D) do not fit "
                f"{tuple(self.times_F.shape)} times"
            )
        if len(self.times_F) == 0:
            raise ValueError("a memory needs at least 1 frame, this one has 0")
        falls = (self.times_F.diff() < 0).nonzero()
        if len(falls):
            i = int(falls[0])
            raise ValueError(
                f"frame {i + 1} is at {self.times_F[i + 1]:.3f} s, before frame {i} at "
                f"{self.times_F[i]:.3f} s: times may not fall"
            )
        if self.header.duration_seconds <= 0:
            self.header = replace(self.header, duration_seconds=self._guess_duration())

    @property
    def features_FPD(self) -> Tensor:
        """Give all features; those of a file are mapped, and read by the system on use."""
        return self._features.map() if isinstance(self._features, FeatureFile) else self._features

    @property
    def shape(self) -> tuple[int, int, int]:
        """Give (F, P, D) without touching the features."""
        F, P, D = self._features.shape
        return F, P, D

    @property
    def dtype(self) -> torch.dtype:
        """Give the features' dtype without touching them."""
        return self._features.dtype

    @property
    def num_frames(self) -> int:
        """Count the frames."""
        return self.shape[0]

    @property
    def tokens_per_frame(self) -> int:
        """Count the tokens a frame, without the newline that the model adds."""
        return self.shape[1]

    @property
    def num_bytes(self) -> int:
        """Count the bytes of the features."""
        F, P, D = self.shape
        return F * P * D * self.dtype.itemsize

    @property
    def duration_seconds(self) -> float:
        """Say how long the remembered stretch lasts."""
        return self.header.duration_seconds

    @property
    def info(self) -> VideoInfo | None:
        """Say what the video file held; None where there was none."""
        return self.header.info

    @property
    def sampling(self) -> Sampling:
        """Say which frames were read."""
        return self.header.sampling

    @property
    def content_digest(self) -> str:
        """Name the video stream's bytes."""
        return self.header.content_digest

    @property
    def tower_digest(self) -> str:
        """Name the vision tower's weights."""
        return self.header.tower_digest

    @property
    def model(self) -> str:
        """Name the model that made the memory."""
        return self.header.model

    @property
    def damage(self) -> tuple[DamagedSpan, ...]:
        """List the stretches whose frames may be wrong."""
        return self.header.damage

    @property
    def path(self) -> Path | None:
        """Name the file behind the features, if there is one."""
        return self._features.path if isinstance(self._features, FeatureFile) else None

    def __len__(self) -> int:
        return self.num_frames

    def __repr__(self) -> str:
        where = f", {self.path}" if self.path else ""
        return (
            f"MemoryRepository({self.num_frames} frames of {self.duration_seconds:.1f} s, "
            f"{self.num_bytes:,} bytes{where})"
        )

    def frames(self, first: int, last: int) -> Tensor:
        """Give the features of frames first..last-1, leaving the rest on disk.

        A copy where they come from a file, so that no more than this is held in memory.
        """
        last = min(last, self.num_frames)
        if isinstance(self._features, FeatureFile):
            return self._features.read(first, last)
        return self._features[first:last]

    def __getitem__(self, part: slice) -> MemoryRepository:
        """Give the memory of some frames, such as memory[600:1200] or memory[::2]."""
        if not isinstance(part, slice):
            raise TypeError(f"a memory is cut by slices, not by {type(part).__name__}")
        first, last, step = part.indices(self.num_frames)
        if step < 1 or first >= last:
            raise ValueError(f"frames {first}:{last}:{step} of {self.num_frames} are no frames")
        start, end = float(self.times_F[first]), self._end_of(last)
        if step == 1 and isinstance(self._features, FeatureFile):
            features = self._features.slice(first, last)
        else:
            features = self.features_FPD[first:last:step]
        return self._part(features, self.times_F[first:last:step], start, end)

    def crop(
        self, start_seconds: float | None = None, end_seconds: float | None = None
    ) -> MemoryRepository:
        """Give the memory of the frames in [start, end) seconds; their times stay as they are.

        Where none comes on screen there, it is what stands still: the last that came before.

        Raises:
            ValueError: nothing is seen there, and the memory's own times are named; an end that is
                not behind the start.
        """
        times = self.times_F
        whole_end = self._end_of(self.num_frames)
        start = float(times[0]) if start_seconds is None else start_seconds
        end = max(start, whole_end) if end_seconds is None else end_seconds
        if end_seconds is not None and end <= start:
            raise ValueError(f"end is {end:g} s and start {start:g} s; choose an end after it")
        first, last = torch.searchsorted(times, torch.tensor([start, end]).double()).tolist()
        if end_seconds is None:
            last = self.num_frames
        if first >= last > 0 and start < whole_end:
            first = int(torch.searchsorted(times, times[last - 1]))
        if first >= last:
            raise ValueError(
                f"no frame between {start:.3f} s and {end:.3f} s: this memory has frames "
                f"from {times[0]:.3f} s to {times[-1]:.3f} s"
            )
        cut = self[first:last]
        start = max(start, float(times[0]))
        end = min(end, whole_end)
        return self._part(cut._features, cut.times_F, start, end)

    def append(self, features_fPD: Tensor, times_f: Tensor | Sequence[float]) -> MemoryRepository:
        """Give this memory with later frames behind it (for long streams: `MemoryFileWriter`)."""
        origin = MemoryHeader(sampling=self.sampling)
        later = MemoryRepository(features_FPD=features_fPD, times_F=times_f, header=origin)
        end = float(later.times_F[0]) + later.duration_seconds
        return MemoryRepository(
            features_FPD=torch.cat([self.features_FPD, features_fPD.to(self.dtype)]),
            times_F=torch.cat([self.times_F, later.times_F]),
            header=replace(self.header, duration_seconds=end - float(self.times_F[0])),
            thumbnails=self.thumbnails,
        )

    @classmethod
    def concatenate(
        cls, parts: Sequence[MemoryRepository], *, rebase: bool = False
    ) -> MemoryRepository:
        """Put memories one behind the other.

        Args:
            parts: of one vision tower and one shape a frame.
            rebase: let each part begin where the one before it ended; otherwise times stay, and
                must not fall.
        """
        if not parts:
            raise ValueError("there are 0 memories to put together, at least 1 is needed")
        for part in parts[1:]:
            if part.shape[1:] != parts[0].shape[1:] or part.tower_digest != parts[0].tower_digest:
                raise ValueError(
                    f"memories of different vision towers: {parts[0].shape[1:]} a frame by "
                    f"{parts[0].tower_digest or '?'} and {part.shape[1:]} by "
                    f"{part.tower_digest or '?'}"
                )
        placed = _rebased(parts) if rebase else list(parts)
        digests = sorted({part.content_digest for part in parts})
        joined = hashlib.sha256(":".join(p.content_digest for p in parts).encode()).hexdigest()
        header = replace(
            parts[0].header,
            content_digest=digests[0] if len(digests) == 1 else joined,
            info=parts[0].info if len(digests) == 1 else None,
            damage=tuple(span for part in placed for span in part.damage),
            duration_seconds=placed[-1]._end_of(len(placed[-1])) - float(placed[0].times_F[0]),
        )
        return cls(
            features_FPD=torch.cat([part.features_FPD for part in placed]),
            times_F=torch.cat([part.times_F for part in placed]),
            header=header,
            thumbnails=tuple(image for part in placed for image in part.thumbnails),
        )

    def save(self, path: str | Path) -> Path:
        """Write the memory to a file `.hlm`, which appears at once or not at all."""
        F, P, D = self.shape
        writer = MemoryFileWriter(
            path,
            header=self.header,
            tokens_per_frame=P,
            feature_size=D,
            dtype=self.dtype,
            num_frames_expected=F,
            thumbnails_expected=(
                len(self.thumbnails),
                sum(len(image) for _, image in self.thumbnails),
            ),
            commit_every=SAVE_FRAMES,
            resume=False,
            suffix=".saving",
        )
        try:
            for first in range(0, F, SAVE_FRAMES):
                times = self.times_F[first : first + SAVE_FRAMES].tolist()
                images = self.thumbnails if first == 0 else ()
                writer.add(self.frames(first, first + SAVE_FRAMES), times, images)
            return writer.finish()
        except BaseException:
            writer.discard()
            raise

    @classmethod
    def open(cls, path: str | Path) -> MemoryRepository:
        """Open a memory file; features stay on disk until asked for.

        Raises:
            MemoryFileError: missing, foreign, truncated, corrupt or newer; the message says which.
        """
        file = open_memory_file(Path(path))
        try:
            memory = cls(
                features_FPD=file.features,
                times_F=file.times_F,
                header=file.header,
                thumbnails=file.thumbnails,
            )
        except ValueError as error:
            raise MemoryFileError(f"{path}: corrupt memory file ({error})") from error
        memory._file = file
        return memory

    def verify(self) -> None:
        """Read the whole file behind this memory and compare its digest; nothing without a file.

        Raises:
            MemoryFileError: some byte has changed since it was written.
        """
        if self._file is not None:
            self._file.verify()

    def _end_of(self, last: int) -> float:
        """Say when frame last-1 ends: at the next one, or with the stretch."""
        if last < self.num_frames:
            return float(self.times_F[last])
        return max(float(self.times_F[0]) + self.duration_seconds, float(self.times_F[-1]))

    def _guess_duration(self) -> float:
        spacing = float(self.times_F.diff().median()) if self.num_frames > 1 else 0.0
        spacing = spacing or 1.0 / self.header.sampling.fps
        return float(self.times_F[-1] - self.times_F[0]) + spacing

    def _part(
        self, features: Tensor | FeatureFile, times_F: Tensor, start: float, end: float
    ) -> MemoryRepository:
        header = replace(
            self.header,
            duration_seconds=end - start,
            damage=tuple(
                span
                for span in self.damage
                if span.start_seconds < end and span.end_seconds > start
            ),
        )
        images = tuple(image for image in self.thumbnails if start <= image[0] < end)
        return MemoryRepository(
            features_FPD=features, times_F=times_F, header=header, thumbnails=images
        )


def _rebased(parts: Sequence[MemoryRepository]) -> list[MemoryRepository]:
    """Shift every part to begin where the one before it ended."""
    placed: list[MemoryRepository] = [parts[0]]
    for part in parts[1:]:
        shift = placed[-1]._end_of(len(placed[-1])) - float(part.times_F[0])
        damage = tuple(
            replace(
                span,
                start_seconds=span.start_seconds + shift,
                end_seconds=span.end_seconds + shift,
            )
            for span in part.damage
        )
        placed.append(
            MemoryRepository(
                features_FPD=part._features,
                times_F=part.times_F + shift,
                header=replace(part.header, damage=damage),
                thumbnails=tuple((second + shift, image) for second, image in part.thumbnails),
            )
        )
    return placed
