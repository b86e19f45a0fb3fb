"""Finding, before training starts, what would stop it or spoil it.

Each sample is read as training reads it, its files opened once however many samples share them.
With a model its tokens are counted too, by the very code that trains.

Letters: F frames.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from types import MappingProxyType

import torch
from PIL import Image

from hour_llava.data.collate import Collator, Row, Video
from hour_llava.data.conversation import format_ids
from hour_llava.data.extraction import other_content
from hour_llava.data.faults import (
    MAX_PIXEL_FRAMES,
    conversation_faults,
    damage_fault,
    leaks,
    pixel_fault,
)
from hour_llava.data.features import open_features
from hour_llava.data.images import opened_image
from hour_llava.data.manifest import Manifest, Sample, is_file, shown, why_no_file
from hour_llava.errors import DataError, VideoError
from hour_llava.model.processing_hour_llava import as_rgb

KINDS = MappingProxyType(
    {
        "row": "a row that is no sample (fields, two videos)",
        "role": "wrong roles, or roles that do not take turns",
        "question": "no question",
        "answer": "an empty or missing answer",
        "control": "a control token of the chat template, which would be learned as one",
        "unicode": "text that is no Unicode (half of a surrogate pair)",
        "placeholder": "placeholders that do not fit the pictures",
        "image": "an image that is missing, broken, or 1 pixel wide",
        "video": "a video that is missing, broken, damaged, or too long to be read as pixels",
        "features": "features that are missing, broken, NaN, or of another tower, shape or video",
        "long": "more tokens than are allowed",
        "learned": "nothing learned, or an answer that MemAug sees",
    }
)
"""Kind of a fault -> what it means."""
NOTICES = MappingProxyType(
    {
        "leak": "an answer that stands in its own question (a choice, or a leak: look)",
        "alpha": "an image with transparency (dropped: colours under it show)",
        "huge": "an image of over 89 megapixels: read whole by every worker that meets it",
        "repeated": "an id that another sample has",
        "unprepared": "a video file without extracted features",
    }
)
"""What is worth knowing and forbids nothing."""
MAX_WORDS = 20_000
AHEAD = 4
"""Samples a worker whose files are looked at before their turn."""


_Key = tuple[str, str]
_ONE_HUGE = Lock()
"""Huge images are opened one after the other, whatever the number of threads."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing wrong with one sample."""

    kind: str
    where: str
    sample_id: str
    text: str


@dataclass(kw_only=True)
class Checked:
    """What was found.

    Args:
        num_samples: All that were looked at.
        samples: Of each kind: text, image, images, video, features.
        faults: Every fault, in order.
        notices: How many of each.
        notes: Those that are to be looked at.
        num_frames: Of all videos and features, each once.
        longest: Tokens of the longest row and the sample it is in; 0 without a model.
        num_learned: Tokens learned an epoch.
    """

    num_samples: int = 0
    samples: Counter[str] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)
    notices: Counter[str] = field(default_factory=Counter)
    notes: list[Fault] = field(default_factory=list)
    num_frames: int = 0
    longest: tuple[int, str] = (0, "")
    num_learned: int = 0

    @property
    def num_faulty(self) -> int:
        """Count the samples that have a fault."""
        return len({fault.where for fault in self.faults})


class ManifestCheck:
    """Checks samples in their order.

    Args:
        manifest: The samples.
        collator: A model's, to count tokens and to hold features to its tower; None without one.
        open_media: Decode images, read videos' packets and features; False: only look that they
            are there.
        workers: Threads that look at the files of samples whose turn comes soon; what is found
            does not depend on them.
    """

    def __init__(
        self,
        manifest: Manifest,
        collator: Collator | None = None,
        *,
        open_media: bool = True,
        workers: int = 0,
    ) -> None:
        self.manifest, self.collator, self.open_media = manifest, collator, open_media
        self.workers = workers
        self.found = Checked()
        self._ids: set[str] = set()
        self._media: dict[_Key, _Medium] = {}
        self._early: dict[_Key, Future[_Medium]] = {}
        self._pairs: dict[tuple[str, str], str] = {}
        self._read: dict[int, Sample] = {}

    def run(self) -> Checked:
        """Check all samples."""
        for _ in self.each():
            pass
        return self.found

    def each(self) -> Iterator[int]:
        """Check sample after sample; yields the number of each."""
        total, ahead = len(self.manifest), AHEAD * self.workers
        pool = ThreadPoolExecutor(max(1, self.workers), thread_name_prefix="data-check")
        try:
            for soon in range(total + ahead):
                if ahead and soon < total:
                    self._look_early(soon, pool)
                if (index := soon - ahead) >= 0:
                    self.check(index)
                    yield index
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _look_early(self, index: int, pool: ThreadPoolExecutor) -> None:
        """Read a row once, and let a thread look at its files, unless that was done."""
        try:
            sample = self._read[index] = self.manifest[index]
        except DataError:
            return  # it is named when its turn comes
        for key in _files_of(sample):
            if key not in self._media and key not in self._early:
                self._early[key] = pool.submit(self._look, *key)

    def check(self, index: int) -> None:
        """Check one sample."""
        found, where = self.found, self.manifest.where(index)
        found.num_samples += 1
        try:
            sample = self._read.pop(index, None) or self.manifest[index]
        except DataError as error:
            sample_id = self.manifest.id_of(index)
            found.faults.append(
                Fault(kind="row", where=where, sample_id=sample_id, text=str(error))
            )
            return
        found.samples[_kind(sample)] += 1
        found.notices["repeated"] += sample.id in self._ids
        self._ids.add(sample.id)
        faults = conversation_faults(sample)
        for text in leaks(sample):
            found.notices["leak"] += 1
            found.notes.append(Fault(kind="leak", where=where, sample_id=sample.id, text=text))
        media = list(self._media_of(sample, where))
        faults += [(medium.kind, medium.fault) for medium in media if medium.fault]
        if not faults and (text := self._pair_fault(sample)):
            faults.append(("features", text))
        if not faults:
            faults += self._token_faults(sample, media)
        found.faults += [
            Fault(kind=kind, where=where, sample_id=sample.id, text=text) for kind, text in faults
        ]

    def _media_of(self, sample: Sample, where: str) -> Iterator[_Medium]:
        """Look at a sample's files; each file is opened once."""
        for key in _files_of(sample):
            self.found.notices["unprepared"] += key[0] == "video"
            medium = self._media.get(key)
            if medium is None:
                early = self._early.pop(key, None)
                medium = self._media[key] = self._look(*key) if early is None else early.result()
                self.found.num_frames += medium.num_frames
                for kind in medium.notes():
                    self.found.notices[kind] += 1
                    text = f"{shown(key[1])}, {medium.size_wh[0]} x {medium.size_wh[1]} pixels"
                    note = Fault(kind=kind, where=where, sample_id=sample.id, text=text)
                    self.found.notes.append(note)
            yield medium

    def _look(self, kind: str, path: str) -> _Medium:
        try:
            state = why_no_file(Path(path))
            if state:
                raise DataError(f"{shown(path)} {state}")
            if kind == "image":
                return _look_at_image(path, is_opened=self.open_media)
            if kind == "features":
                return self._look_at_features(path)
            return self._look_at_video(path)
        except (DataError, VideoError) as error:
            return _Medium(kind=kind, fault=" ".join(str(error).split()))
        except (OSError, ValueError) as error:  # a path no system takes: too long, NUL, half a pair
            reason = getattr(error, "strerror", None) or error
            return _Medium(kind=kind, fault=f"{shown(path)} cannot be opened: {reason}")

    def _look_at_features(self, path: str) -> _Medium:
        file = open_features(path)
        if self.collator is not None:
            self.collator.require_own(file)
        if self.open_media:
            file.read()
        return _Medium(
            kind="features",
            num_frames=file.num_frames,
            duration_seconds=file.header.duration_seconds,
        )

    def _pair_fault(self, sample: Sample) -> str:
        """Say that features are of another video than the row's; nothing where they are not."""
        features, video = sample.features, sample.video
        if not self.open_media or features is None or video is None or not is_file(Path(video)):
            return ""
        if (features, video) not in self._pairs:
            file = open_features(features)
            try:
                other = other_content(Path(video), file)
            except VideoError as error:
                text = " ".join(str(error).split())
            else:
                text = other and (
                    f"{features} is of {file.header.video} with the content "
                    f"{file.header.content_digest:.12}, {video} has {other:.12}: extract it anew"
                )
            self._pairs[features, video] = text
        return self._pairs[features, video]

    def _look_at_video(self, path: str) -> _Medium:
        if not self.open_media:
            return _Medium(kind="video")
        from hour_llava.video import read_frames

        own = self.collator
        fps, limit = (1.0, MAX_PIXEL_FRAMES) if own is None else (own.fps, own.max_pixel_frames)
        with read_frames(path, fps=fps, threads=1) as reader:
            next(iter(reader), None)  # the first frame must decode
            return _Medium(
                kind="video",
                fault=pixel_fault(path, reader.num_frames, limit)
                or damage_fault(path, reader.info.damage, reader.info.duration_seconds),
                num_frames=reader.num_frames,
                duration_seconds=reader.info.duration_seconds,
            )

    def _token_faults(self, sample: Sample, media: list[_Medium]) -> list[tuple[str, str]]:
        if self.collator is None:
            words = sum(len(turn["value"].split()) for turn in sample.conversations)
            return [("long", f"{words:,} words, over {MAX_WORDS:,}")] if words > MAX_WORDS else []
        video = None
        images: list[Image.Image] = []
        for medium in media:
            if medium.kind == "image":
                images.append(Image.new("RGB", medium.size_wh))
            elif not medium.num_frames:
                return []  # a video that was not opened: its tokens cannot be counted
            else:
                video = medium.as_video()
        try:
            rows, _ = self.collator.rows(sample, images, video)
        except DataError as error:
            return [("long", str(error))]
        return [fault for row in rows for fault in self._row_faults(sample, row, self.collator)]

    def _row_faults(
        self, sample: Sample, row: Row, collator: Collator
    ) -> Iterator[tuple[str, str]]:
        learned = row.labels_L >= 0
        num_learned = int(learned.sum())
        self.found.num_learned += num_learned
        self.found.longest = max(self.found.longest, (len(row.ids_L), sample.id))
        is_format = torch.isin(row.labels_L, format_ids(collator.processor.tokenizer))
        if not bool((learned & ~is_format).any()):
            yield "learned", "no token of an answer is learned"
        if bool((learned & row.question_L).any()):
            yield "learned", f"{int((learned & row.question_L).sum())} learned tokens are asked"


@dataclass(frozen=True, kw_only=True)
class _Medium:
    """A file that samples read, looked at once."""

    kind: str
    fault: str = ""
    num_frames: int = 0
    duration_seconds: float = 0.0
    size_wh: tuple[int, int] = (0, 0)
    has_alpha: bool = False

    @property
    def is_huge(self) -> bool:
        """Say whether Pillow would warn of it; twice that is refused."""
        return math.prod(self.size_wh) > (Image.MAX_IMAGE_PIXELS or math.inf)

    def notes(self) -> Iterator[str]:
        """List the kinds of notice that its looks deserve."""
        if self.has_alpha:
            yield "alpha"
        if self.is_huge:
            yield "huge"

    def as_video(self) -> Video:
        """Stand in for the video: its length without its frames."""
        return Video(
            name="",
            is_features=True,
            frames=torch.empty(self.num_frames, 0),
            seconds_F=torch.empty(0),
            duration_seconds=self.duration_seconds,
        )


def _files_of(sample: Sample) -> Iterator[_Key]:
    """List what is opened of a sample: what it is, and its path."""
    yield from (("image", path) for path in sample.images)
    if sample.features is not None:
        yield "features", sample.features
    elif sample.video is not None:
        yield "video", sample.video


def _look_at_image(path: str, *, is_opened: bool) -> _Medium:
    with opened_image(path) as image:
        width, height = image.size
        has_alpha = "A" in image.getbands() or "transparency" in image.info
        if min(width, height) < 2:
            raise DataError(f"{path} has {width} x {height} pixels: it shows nothing")
        found = _Medium(kind="image", size_wh=(width, height), has_alpha=has_alpha)
        if is_opened:
            with _ONE_HUGE if found.is_huge else nullcontext():
                as_rgb(image)
    return found


def _kind(sample: Sample) -> str:
    if sample.features is not None:
        return "features"
    if sample.video is not None:
        return "video"
    return {0: "text", 1: "image"}.get(len(sample.images), "images")
