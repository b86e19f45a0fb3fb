"""Samples to what a model is trained on: ids, labels, the question's mask, pictures.

    TrainingData[drawn] -> EncodedSample      in a data worker: everything that takes time
    Collator.merge(encoded samples) -> batch  pads, and lets samples of one video share it

Nothing is cut: a sample that is too long is refused, with both numbers.

Letters: F frames, L sequence.
Source: arXiv 2506.05332, training; labels as in the released code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from hour_llava.data.cache import NodeCache
from hour_llava.data.conversation import IGNORED, encode_conversation, place_pictures_first
from hour_llava.data.extraction import taken_fault
from hour_llava.data.faults import (
    MAX_PIXEL_FRAMES,
    SPEAKERS,
    conversation_faults,
    damage_fault,
    pixel_fault,
)
from hour_llava.data.features import FeaturesFile, open_features
from hour_llava.data.images import read_image
from hour_llava.data.manifest import IMAGE, VIDEO, Sample
from hour_llava.data.mixture import Mixture
from hour_llava.data.sampler import Drawn, forgetting_seed
from hour_llava.errors import DataError, VideoError
from hour_llava.model.processing_hour_llava import HourLlavaProcessor
from hour_llava.model.prompts import SYSTEM, insert_time_line, time_line

QuestionScope = Literal["conversation", "turn"]
Turn = Mapping[str, str]

NOT_FOR_THE_MODEL = ("sample_ids", "broken")
"""What a batch says about itself: take it out before the forward pass."""
_UNLIMITED = 10**9
DECODED_AT_ONCE = 32
"""Frames of a video file that are held at their own size."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Row:
    """One row of a batch: a sample's whole conversation, or it up to one answer."""

    ids_L: Tensor
    labels_L: Tensor
    question_L: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Video:
    """A sample's video, as features (F, P, D) or as pixels (F, 3, size, size)."""

    name: str
    is_features: bool
    frames: Tensor
    seconds_F: Tensor
    duration_seconds: float


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodedSample:
    """A sample, ready to be put into a batch.

    Args:
        sample_id: Names it in logs.
        rows: One, or one a turn.
        seed: Of its forgetting.
        images: The processor's image inputs, `image_rows` counted from this sample's first row.
        video: What its rows read.
        broken: Samples that it stands in for, and why each could not be read.
    """

    sample_id: str
    rows: tuple[Row, ...]
    seed: int
    images: Mapping[str, Tensor]
    video: Video | None
    broken: tuple[str, ...] = ()


class Collator:
    """Encodes samples and merges them.

    Args:
        processor: The model's.
        seed: Of the run; with a sample's place in the order it decides what forgetting keeps.
        question_scope: "conversation": all questions of a sample share one pass of MemAug, as
            released; "turn": each answer is a row of its own, whose MemAug sees no later question.
        max_length: Tokens of a row; None: the tokenizer's own limit.
        tower: `features.tower_digest` of the model; None takes features of any tower.
        feature_size: Of the model's tower; None takes any.
        takes_features: Whether features stand for videos: not those of a tower that is trained.
        fps: At which video files are read, and features were made.
        max_pixel_frames: Longer videos must come as features.
        cache: Where files of features are copied to and read from; None reads them where they are.
    """

    def __init__(
        self,
        processor: HourLlavaProcessor,
        *,
        seed: int = 0,
        question_scope: QuestionScope = "conversation",
        max_length: int | None = None,
        tower: str | None = None,
        feature_size: int | None = None,
        takes_features: bool = True,
        fps: float = 1.0,
        max_pixel_frames: int = MAX_PIXEL_FRAMES,
        cache: NodeCache | None = None,
    ) -> None:
        if question_scope not in ("conversation", "turn"):
            raise DataError(f"question_scope {question_scope!r}: it is conversation or turn")
        self.processor, self.seed, self.question_scope = processor, seed, question_scope
        limit = processor.tokenizer.model_max_length
        self.max_length = max_length or (limit if limit < _UNLIMITED else None)
        self.tower, self.feature_size = tower, feature_size
        self.takes_features = takes_features
        self.fps, self.max_pixel_frames = fps, max_pixel_frames
        self.cache = cache

    def __call__(self, samples: Sequence[EncodedSample]) -> dict[str, Any]:
        """Merge; so that the collator itself can be a DataLoader's `collate_fn`."""
        return self.merge(samples)

    def encode(self, sample: Sample, *, position: int = 0) -> EncodedSample:
        """Encode one sample; its files are read.

        Args:
            sample: Any kind.
            position: Its place in the run's global order.

        Raises:
            DataError: it cannot be trained on; the sample, the fault and both numbers are named.
            VideoError: its video cannot be read.
        """
        faults = conversation_faults(sample)
        if faults:
            raise DataError(f"{sample.id}: {faults[0][1]}")
        video = self._read_video(sample)
        images = [read_image(path, sample.id) for path in sample.images]
        seed = forgetting_seed(self.seed, position)
        rows, rows_images = self.rows(sample, images, video, seed=seed)
        return EncodedSample(
            sample_id=sample.id,
            rows=tuple(rows),
            seed=seed,
            images=self.processor.image_inputs(rows_images),
            video=video,
        )

    def rows(
        self, sample: Sample, images: Sequence[Image.Image], video: Video | None, *, seed: int = 0
    ) -> tuple[list[Row], list[list[Image.Image]]]:
        """Encode a sample's text, given its pictures: its rows, and the images of each.

        Raises:
            DataError: a row is too long; both numbers are named.
        """
        system, turns = self._turns(sample, video)
        num_frames = None if video is None else len(video.frames)
        by_turn = self.question_scope == "turn"
        rows: list[Row] = []
        rows_images: list[list[Image.Image]] = []
        for end in range(2, len(turns) + 1, 2) if by_turn else [len(turns)]:
            own = list(images[: sum(turn["value"].count(IMAGE) for turn in turns[:end])])
            lengths = self.processor.visual_lengths(own, num_frames, seed, None)
            row = self._row(turns[:end], system, lengths)
            if rows:
                first = len(self._row(turns[: end - 2], system, lengths).ids_L)
                row = replace(row, labels_L=_ignored_before(row.labels_L, first))
            self._require_short(sample, row, sum(lengths))
            rows.append(row)
            rows_images.append(own)
        return rows, rows_images

    def merge(self, samples: Sequence[EncodedSample]) -> dict[str, Any]:
        """Put samples into one batch, padded on the right.

        Returns:
            The model's inputs and `labels` (B, L), -100 where nothing is learned; besides
            `sample_ids`, one a row, and `broken`: see `NOT_FOR_THE_MODEL`.
        """
        rows = [row for sample in samples for row in sample.rows]
        pad = self.processor.pad
        batch: dict[str, Any] = pad(
            [row.ids_L for row in rows], [row.question_L for row in rows], padding_side="right"
        )
        labels = [row.labels_L for row in rows]
        batch["labels"] = torch.nn.utils.rnn.pad_sequence(
            labels, batch_first=True, padding_value=IGNORED
        )
        seeds = [sample.seed for sample in samples for _ in sample.rows]
        batch["forgetting_seeds"] = torch.tensor(seeds, dtype=torch.long)
        batch |= _merge_images(samples)
        batch |= _merge_videos(samples)
        batch["sample_ids"] = [sample.sample_id for sample in samples for _ in sample.rows]
        batch["broken"] = [note for sample in samples for note in sample.broken]
        return batch

    def _turns(self, sample: Sample, video: Video | None) -> tuple[str, list[Turn]]:
        """Give the system's text and the turns, pictures first, the video's line behind it."""
        given = list(sample.conversations)
        system = SYSTEM
        if given[0]["from"] == "system":
            system = given.pop(0)["value"]
        turns = [{"from": SPEAKERS[t["from"]], "value": t["value"]} for t in given]
        missing = VIDEO if video is not None else IMAGE if sample.images else ""
        if missing and not any(missing in turn["value"] for turn in turns):
            turns[0]["value"] = f"{missing}\n{turns[0]['value']}"
        turns = place_pictures_first(turns)
        if video is not None and self.processor.time_instruction:
            line = time_line(video.duration_seconds, len(video.frames))
            for turn in turns:
                if VIDEO in turn["value"]:
                    turn["value"] = insert_time_line(turn["value"], line)
        return system, list(turns)

    def _row(self, turns: Sequence[Turn], system: str, lengths: Sequence[int]) -> Row:
        encoded = encode_conversation(
            turns,
            self.processor.tokenizer,
            image_token_id=self.processor.image_token_id,
            video_token_id=self.processor.video_token_id,
            visual_lengths=lengths,
            system=system,
        )
        return Row(ids_L=encoded.ids_L, labels_L=encoded.labels_L, question_L=encoded.question_L)

    def _require_short(self, sample: Sample, row: Row, num_visual: int) -> None:
        if self.max_length is not None and len(row.ids_L) > self.max_length:
            raise DataError(
                f"{sample.id}: {len(row.ids_L):,} tokens ({num_visual:,} visual, "
                f"{len(row.ids_L) - num_visual:,} of text), the limit is {self.max_length:,}; "
                "nothing is cut: group fewer questions, or raise the limit"
            )

    def require_own(self, file: FeaturesFile) -> None:
        """Refuse features of another tower, shape or rate than the model's.

        Raises:
            DataError: both are named; or the tower is trained.
        """
        if not self.takes_features:
            raise DataError(
                f"{file.path} holds what the tower made before training, and the tower is trained: "
                "read the video instead"
            )
        file.require(
            tower=self.tower,
            fps=self.fps,
            tokens_per_frame=self.processor.pool_size**2,
            feature_size=self.feature_size or file.shape[2],
        )

    def _read_video(self, sample: Sample) -> Video | None:
        if sample.features is None:
            return None if sample.video is None else self._decode(sample, sample.video)
        copy = sample.features if self.cache is None else str(self.cache.local(sample.features))
        try:
            return self._read_features(copy, sample)
        except DataError:
            if self.cache is None or copy == sample.features:
                raise
        self.cache.forget(sample.features)  # damaged, or it just made room for another
        return self._read_features(sample.features, sample)

    def _read_features(self, path: str, sample: Sample) -> Video:
        file = open_features(path)
        self.require_own(file)
        if fault := taken_fault(sample.video, file):
            raise DataError(f"{sample.id}: {fault}")
        return Video(
            name=str(sample.features),
            is_features=True,
            frames=file.read(),
            seconds_F=file.times(),
            duration_seconds=file.header.duration_seconds,
        )

    def _decode(self, sample: Sample, path: str) -> Video:
        from hour_llava.video import read_frames

        with read_frames(path, fps=self.fps, threads=1) as reader:
            if fault := pixel_fault(path, reader.num_frames, self.max_pixel_frames):
                raise DataError(f"{sample.id}: {fault}")
            frames, parts, times = iter(reader), list[Tensor](), list[float]()
            while batch := list(islice(frames, DECODED_AT_ONCE)):
                parts.append(self.processor.video_processing([frame.rgb for frame in batch]))
                times += [frame.pts_seconds for frame in batch]
            if fault := damage_fault(path, reader.damage, reader.info.duration_seconds):
                raise DataError(f"{sample.id}: {fault}")
            return Video(
                name=path,
                is_features=False,
                frames=torch.cat(parts),
                seconds_F=torch.tensor(times, dtype=torch.float64),
                duration_seconds=reader.info.duration_seconds,
            )


class TrainingData(torch.utils.data.Dataset[EncodedSample]):
    """Encoded samples by number, for a DataLoader with the `GlobalBatchSampler`.

    A sample that cannot be read is replaced by the next one of its stream that is of another video,
    and named in `broken`: `BrokenBudget` counts them and stops the run where there are too many.
    Where `max_tries` such neighbours, or all of a stream, are broken, the run stops whatever the
    budget.
    """

    def __init__(self, mixture: Mixture, collator: Collator, *, max_tries: int = 8) -> None:
        self.mixture, self.collator, self.max_tries = mixture, collator, max_tries

    def __len__(self) -> int:
        return len(self.mixture)

    def __getitem__(self, drawn: Drawn | int) -> EncodedSample:
        index, position = drawn if isinstance(drawn, tuple) else (drawn, drawn)
        stream, own = self.mixture.locate(index)
        broken: list[str] = []
        failed: set[str] = set()  # a grouped manifest has a video's samples one behind the other
        for step in range(len(stream.samples)):
            number, group = (own + step) % len(stream.samples), ""
            try:
                sample = stream.samples[number]
                if (group := sample.group) in failed:
                    continue
                encoded = self.collator.encode(sample, position=position)
                return replace(encoded, broken=tuple(broken))
            except (DataError, VideoError) as error:
                failed.add(group)
                broken.append(f"{stream.name}, sample {number}: {error}")
            if len(broken) == self.max_tries:
                break
        raise DataError(
            f"{len(broken)} samples one behind the other, of different videos, cannot be read, the "
            f"first: {broken[0]}; a run stops where {self.max_tries} such neighbours, or a whole "
            "stream, are broken, whatever --data.broken-allowed; run `hour-llava data check` on "
            "the manifest"
        )


class BrokenBudget:
    """Counts samples that were replaced, and stops a run that replaces too many.

    Args:
        limit: How many are allowed.
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.num_broken = limit, 0

    def add(self, broken: Sequence[str]) -> None:
        """Count what a batch's `broken` names.

        Raises:
            DataError: the budget is spent; the last sample is named.
        """
        self.num_broken += len(broken)
        if self.num_broken > self.limit:
            raise DataError(
                f"samples could not be read {self.num_broken} times, {self.limit} are allowed; "
                f"the last is {broken[-1]}; run `hour-llava data check` on the manifest"
            )


def _ignored_before(labels_L: Tensor, first: int) -> Tensor:
    labels = labels_L.clone()
    labels[:first] = IGNORED
    return labels


def _merge_images(samples: Sequence[EncodedSample]) -> dict[str, Any]:
    found: dict[str, list[Tensor]] = {}
    first_row = 0
    for sample in samples:
        for name, value in sample.images.items():
            found.setdefault(name, []).append(value + first_row if name == "image_rows" else value)
        first_row += len(sample.rows)
    return {name: torch.cat(values) for name, values in found.items()}


def _merge_videos(samples: Sequence[EncodedSample]) -> dict[str, Any]:
    """Number the videos as the model does: those of pixels, then those of features."""
    videos = {
        (video.is_features, video.name): video
        for video in (sample.video for sample in samples)
        if video is not None
    }
    if not videos:
        return {}
    order = sorted(videos)
    index = [
        -1 if sample.video is None else order.index((sample.video.is_features, sample.video.name))
        for sample in samples
        for _ in sample.rows
    ]
    merged: dict[str, Any] = {
        "memory_index": torch.tensor(index, dtype=torch.long),
        "video_seconds": [videos[key].seconds_F for key in order],
    }
    pixels = [videos[key].frames for key in order if not key[0]]
    features = [videos[key].frames for key in order if key[0]]
    if pixels:
        merged["pixel_values_videos"] = pixels
    if features:
        merged["video_features"] = features
    return merged
