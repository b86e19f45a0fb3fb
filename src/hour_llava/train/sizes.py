"""How large samples are: tokens, frames and tiles of a few rows of each manifest, or the paper's.

Letters: L tokens of a row, S of them visual, M memory tokens.
Source: arXiv 2506.05332, section 4 (samples of a stage) and table 1 (length of videos).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from hour_llava.data.faults import MAX_PIXEL_FRAMES, conversation_faults, pixel_fault
from hour_llava.data.features import open_features
from hour_llava.data.images import opened_image
from hour_llava.data.manifest import Manifest, Sample, read_manifest, shown
from hour_llava.errors import DataError, VideoError
from hour_llava.model.configuration_hour_llava import HourLlavaConfig
from hour_llava.model.image_geometry import sheet_tiles_wh
from hour_llava.model.visual_plan import CellDraws, images_memory_positions, plan_images, plan_video

QuestionScope = Literal["conversation", "turn"]
CountTokens = Callable[[str], int]

TURN_TOKENS = 5
"""What ChatML puts around a turn's words."""
SYSTEM_TOKENS, TIME_LINE_TOKENS = 11, 34
LETTERS_PER_TOKEN = 4
NUM_LOOKED_AT, NUM_PROBED = 200, 8
LONGEST_SECONDS, MEAN_SECONDS = 3600, 1254
"""Of VideoMarathon's videos: an hour, and 20.9 minutes."""
ASSUMED_CLIP_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class SampleSize:
    """What a sample costs, before the model's configuration is known.

    Args:
        question_tokens: Text that MemAug sees.
        answer_tokens: Text that is learned.
        num_frames: Of its video, as many as are read.
        as_pixels: Whether the tower must run over them.
        images_wh: Width and height of each image.
        num_rows: One, or one an answer: `--data.question-scope turn`.
    """

    question_tokens: int
    answer_tokens: int
    num_frames: int = 0
    as_pixels: bool = False
    images_wh: tuple[tuple[int, int], ...] = ()
    num_rows: int = 1


@dataclass(frozen=True, kw_only=True)
class TokenCounts:
    """The same sample in a model's tokens.

    Its rows go through the model together, each with its own visual tokens; those before the last
    end earlier, and are padded to it.

    Args:
        question: Text that MemAug sees, in the last row.
        learned: Positions whose next word is learned, each in one of the rows.
        kept: S, visual tokens of a row that the language model reads.
        memory: M, what MemAug reads for a row.
        tower_inputs: Tiles and frames that the tower encodes.
        cells: Tower cells that the projector sees.
        rows: How many.
        memories: Of them; rows share a video's.
    """

    question: int
    learned: int
    kept: int
    memory: int
    tower_inputs: int
    cells: int
    rows: int = 1
    memories: int = 1

    @property
    def row(self) -> int:
        """L, tokens of the last row, with all questions and answers."""
        return self.question + self.learned + self.kept


@dataclass(frozen=True, kw_only=True)
class StreamSize:
    """One manifest.

    Args:
        name: Of it.
        num_samples: Of an epoch, its weight counted; None: not known.
        typical: Samples whose mean stands for all.
        largest: The one that decides about memory.
        note: Where the numbers come from.
        unusable: How many rows training would refuse, and the first; empty: none was seen.
    """

    name: str
    num_samples: int | None
    typical: tuple[SampleSize, ...]
    largest: SampleSize
    note: str = ""
    unusable: str = ""


def count_tokens_of(sample: SampleSize, config: HourLlavaConfig) -> TokenCounts:
    """Count a sample's tokens by the model's own plan of its pictures."""
    draws = CellDraws(seed=0)
    kept = memory = inputs = cells = 0
    memories = 1
    if sample.num_frames:
        plan = plan_video(sample.num_frames, config, draws)
        kept = plan.num_kept
        memory = max(sample.num_frames, config.min_memory_frames) * (config.num_cells + 1)
        inputs = sample.num_frames if sample.as_pixels else 0
        cells = sample.num_frames * config.num_cells
    elif sample.images_wh:
        tiles = [1] * len(sample.images_wh)
        if len(tiles) == 1 and config.image_aspect_ratio.startswith("anyres"):
            columns, rows = sheet_tiles_wh(
                sample.images_wh[0], config.image_grid_pinpoints, config.tile_size
            )
            tiles = [1 + columns * rows]
        sizes_hw = [(height, width) for width, height in sample.images_wh]
        kept = plan_images(sizes_hw, tiles, config, draws).num_kept
        memory = len(images_memory_positions(sizes_hw, tiles, config))
        memories = sample.num_rows
        inputs = sum(tiles) * memories
        cells = inputs * config.grid_side**2
    return TokenCounts(
        question=sample.question_tokens,
        learned=sample.answer_tokens,
        kept=kept,
        memory=memory,
        tower_inputs=inputs,
        cells=cells,
        rows=sample.num_rows,
        memories=memories,
    )


def _paper_streams() -> Mapping[str, StreamSize]:
    def stream(name: str, typical: SampleSize, largest: SampleSize) -> StreamSize:
        note = "the paper's; sizes assumed, one answer each"
        return StreamSize(
            name=name, num_samples=None, typical=(typical,), largest=largest, note=note
        )

    def video(seconds: int, question: int, answer: int, *, as_pixels: bool) -> SampleSize:
        return SampleSize(
            question_tokens=question + SYSTEM_TOKENS + TIME_LINE_TOKENS,
            answer_tokens=answer,
            num_frames=seconds,
            as_pixels=as_pixels,
        )

    def images(*sizes_wh: tuple[int, int]) -> SampleSize:
        return SampleSize(question_tokens=100, answer_tokens=100, images_wh=sizes_wh)

    text = SampleSize(question_tokens=150, answer_tokens=300)
    found = (
        stream("single image", images((640, 480)), images((2304, 2304))),
        stream("multi image", images(*[(640, 480)] * 3), images(*[(640, 480)] * 8)),
        stream("text", text, SampleSize(question_tokens=500, answer_tokens=1500)),
        stream(
            "short video",
            video(40, 100, 150, as_pixels=True),
            video(180, 200, 300, as_pixels=True),
        ),
        stream(
            "long video",
            video(MEAN_SECONDS, 300, 150, as_pixels=False),
            video(LONGEST_SECONDS, 500, 300, as_pixels=False),
        ),
    )
    return {stream.name: stream for stream in found}


# thousands of samples of each stage; how many images stage 1 has is not told
PAPER_SAMPLES: Mapping[int, Mapping[str, int | None]] = {
    1: {"single image": None},
    2: {"single image": 120, "multi image": 50, "text": 90, "short video": 300},
    3: {
        "single image": 1140,
        "multi image": 500,
        "text": 810,
        "short video": 1300,
        "long video": 700,
    },
}


def paper_streams(stage: int) -> list[StreamSize]:
    """Give what the paper trained a stage on, where no manifest is named."""
    sizes = _paper_streams()
    return [
        replace(sizes[name], num_samples=None if thousands is None else 1000 * thousands)
        for name, thousands in PAPER_SAMPLES[stage].items()
    ]


def manifest_streams(
    manifests: Sequence[Path],
    weights: Sequence[float],
    *,
    root: Path | None,
    features: Path | None,
    fps: float,
    count_tokens: CountTokens | None,
    question_scope: QuestionScope = "conversation",
    max_length: int | None = None,
    model_config: HourLlavaConfig | None = None,
) -> list[StreamSize]:
    """Look at some rows of each manifest.

    Args:
        manifests: The files.
        weights: Of each; empty: 1.
        root: As in `read_manifest`.
        features: As in `read_manifest`.
        fps: At which video files are read.
        count_tokens: Of a text; None: a token is four letters.
        question_scope: "turn" makes a row of each answer.
        max_length: Rows with more tokens are named, and decide nothing; None: any length is taken.
        model_config: Counts them; None: any length is taken.

    Raises:
        DataError: a manifest cannot be read.
    """
    shares = list(weights) or [1.0] * len(manifests)
    count = count_tokens or (lambda text: -(-len(text) // LETTERS_PER_TOKEN))
    streams: list[StreamSize] = []
    for path, share in zip(manifests, shares, strict=True):
        rows = read_manifest(path, root=root, features=features)
        sizes, faults = _looked_at(rows, fps, count, by_turn=question_scope == "turn")
        if not sizes:
            first = next(iter(faults.values()), "")
            raise DataError(f"{path}: no row that was looked at can be read, the first: {first}")
        num_seen = len(sizes) + len(faults)
        faults |= _too_long(rows, sizes, max_length, model_config)
        short = [size for index, size in sizes.items() if index not in faults]
        usable = short or list(sizes.values())  # too long all of them: the run itself refuses
        streams.append(
            StreamSize(
                name=path.stem,
                num_samples=max(1, round(share * len(rows))),
                typical=tuple(usable),
                largest=max(usable, key=_weight),
                note=f"{num_seen} of {len(rows):,} rows looked at",
                unusable=_unusable(faults, num_seen, len(rows)),
            )
        )
    return streams


def _looked_at(
    rows: Manifest, fps: float, count: CountTokens, *, by_turn: bool
) -> tuple[dict[int, SampleSize], dict[int, str]]:
    """Measure some rows, by their number; say of the others why they cannot be read."""
    probes = _Probes(fps)
    step = max(1, len(rows) // NUM_LOOKED_AT)
    sizes: dict[int, SampleSize] = {}
    faults: dict[int, str] = {}
    for index in range(0, len(rows), step):
        try:
            sample = rows[index]
            if wrong := conversation_faults(sample):
                raise DataError(f"{rows.where(index)}: {wrong[0][1]}")
            sizes[index] = _size_of(sample, probes, count, by_turn=by_turn)
        except (DataError, VideoError, OSError, ValueError, KeyError) as error:
            faults[index] = _why(error)
    return sizes, faults


def _why(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{shown(str(error.filename))}: {error.strerror}"
    return str(error)


def _too_long(
    rows: Manifest,
    sizes: Mapping[int, SampleSize],
    max_length: int | None,
    model_config: HourLlavaConfig | None,
) -> dict[int, str]:
    """Name the rows with more tokens than are allowed, by their number."""
    if max_length is None or model_config is None:
        return {}
    lengths = {index: count_tokens_of(size, model_config).row for index, size in sizes.items()}
    return {
        index: f"{rows.where(index)}: {length:,} tokens, the limit is {max_length:,}"
        for index, length in lengths.items()
        if length > max_length
    }


def _unusable(faults: Mapping[int, str], num_seen: int, num_rows: int) -> str:
    if not faults:
        return ""
    first = " ".join(faults[min(faults)].split())
    nothing = ""
    if len(faults) == num_seen:
        seen = "all of them" if num_seen == num_rows else f"all that were looked at of {num_rows:,}"
        nothing = f" ({seen}: nothing would be learned, and the run would stop)"
    return (
        f"{len(faults)} of {num_seen} rows cannot be read or are too long{nothing}, the first: "
        f"{first}; run "
        "`hour-llava data check`"
    )


def _weight(sample: SampleSize) -> int:
    pixels = sample.num_frames if sample.as_pixels else 0
    area = sum(width * height for width, height in sample.images_wh)
    text = sample.question_tokens + sample.answer_tokens
    return 700 * pixels + sample.num_rows * (70 * sample.num_frames + area // 200 + text)


class _Probes:
    """Lengths of video files: the first few are measured, the others taken to be their mean.

    Too long ones are never read, so the mean is at most what is read.
    """

    def __init__(self, fps: float) -> None:
        self.fps, self.known = fps, dict[str, int]()

    def num_frames(self, path: str) -> int:
        if path in self.known:
            return self.known[path]
        if len(self.known) >= NUM_PROBED:
            return min(MAX_PIXEL_FRAMES, round(sum(self.known.values()) / len(self.known)))
        try:
            from hour_llava.video.probe import probe
        except ImportError:  # no PyAV here
            return round(ASSUMED_CLIP_SECONDS * self.fps)
        self.known[path] = max(1, round(probe(path).duration_seconds * self.fps))
        return self.known[path]


def _size_of(sample: Sample, probes: _Probes, count: CountTokens, *, by_turn: bool) -> SampleSize:
    asked = answered = num_answers = 0
    for turn in sample.conversations:
        tokens = count(turn["value"]) + TURN_TOKENS
        if turn["from"] in ("gpt", "assistant"):
            answered += tokens
            num_answers += 1
        else:
            asked += tokens
    has_system = sample.conversations[0]["from"] == "system"
    asked += 0 if has_system else count("You are a helpful assistant.") + TURN_TOKENS
    frames, as_pixels = 0, False
    if sample.features is not None:
        frames = open_features(sample.features).num_frames
    elif sample.video is not None:
        frames, as_pixels = probes.num_frames(sample.video), True
        if fault := pixel_fault(sample.video, frames):
            raise DataError(f"{sample.id}: {fault}")
    sizes: list[tuple[int, int]] = []
    for path in sample.images:
        with opened_image(path) as image:
            sizes.append(image.size)
    if frames:
        asked += TIME_LINE_TOKENS
    return SampleSize(
        question_tokens=asked,
        answer_tokens=answered,
        num_frames=frames,
        as_pixels=as_pixels,
        images_wh=tuple(sizes),
        num_rows=num_answers if by_turn else 1,
    )
