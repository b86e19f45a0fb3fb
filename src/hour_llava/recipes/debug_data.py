"""What the debug recipes train on: a few dozen samples of every kind, drawn from MarathonWorld.

    images.jsonl   one picture, one question          texts.jsonl   sums, in words
    pairs.jsonl    two pictures                       clips.jsonl   short mp4 files (without PyAV:
                                                                    features, in stage 3 alone)
    long.jsonl     features of five-minute videos, several questions each

Everything is a pure function of the seed; nothing is downloaded.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hour_llava.data.features import FeaturesHeader, write_features
from hour_llava.data.manifest import Sample, features_path, write_manifest
from hour_llava.model.video_processing_hour_llava import HourLlavaVideoProcessor
from hour_llava.world.questions import Question, make_questions
from hour_llava.world.render import Renderer
from hour_llava.world.timeline import Timeline, make_timeline

NUM_IMAGES, NUM_PAIRS, NUM_TEXTS, NUM_CLIPS, NUM_LONG = 32, 24, 24, 12, 16
QUESTIONS_OF_A_CLIP, QUESTIONS_OF_A_LONG_VIDEO = 2, 5
CLIP_SECONDS, LONG_SECONDS = 16, 300
_SIZE = (128, 72)
_PICTURE_SIZES = ((96, 64), (64, 96), (48, 48))
"""Wide, high and square: each is cut into other tiles."""
_FIRST_SEED = 70_000
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight")

Encode = Callable[[Tensor], Tensor]


def make_material(
    folder: Path, *, stage: int, size: int, encode: Encode | None, tower: str
) -> tuple[Path, ...]:
    """Write what a stage learns from, and return its manifests.

    Args:
        folder: Where to.
        stage: 1: pictures; 2: also pairs, texts and clips; 3: also long videos.
        size: Pixels along a frame's side, of the model's tower.
        encode: Pixels (F, 3, size, size) to features; for stage 3, whose tower is frozen.
        tower: `features.tower_digest` of the model; "" where `encode` is not needed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    streams: dict[str, Iterator[Sample]] = {"images": _images(folder)}
    if stage >= 2:
        streams["pairs"] = _pairs(folder)
        streams["texts"] = _texts()
    if stage >= 3 or (stage == 2 and has_decoder()):
        streams["clips"] = _videos(
            folder, "clips", CLIP_SECONDS, NUM_CLIPS, QUESTIONS_OF_A_CLIP, size, encode, tower
        )
    if stage >= 3:
        streams["long"] = _videos(
            folder, "long", LONG_SECONDS, NUM_LONG, QUESTIONS_OF_A_LONG_VIDEO, size, encode, tower
        )
    paths: list[Path] = []
    for name, samples in streams.items():
        paths.append(folder / f"{name}.jsonl")
        write_manifest(paths[-1], samples)
    return tuple(paths)


def has_decoder() -> bool:
    """Say whether mp4 files can be written and read here."""
    return importlib.util.find_spec("av") is not None


def _images(folder: Path) -> Iterator[Sample]:
    for number in range(NUM_IMAGES):
        name, scene = _picture(folder, number)
        yield Sample(
            id=f"image-{number}",
            conversations=_turns(("<image>\nWhich scene is this?", scene)),
            images=(name,),
            source="debug",
        )


def _pairs(folder: Path) -> Iterator[Sample]:
    for number in range(NUM_PAIRS):
        (first, one), (second, two) = (_picture(folder, 100 + 2 * number + i) for i in (0, 1))
        yield Sample(
            id=f"pair-{number}",
            conversations=_turns(("<image>\n<image>\nWhich scenes are these?", f"{one}, {two}")),
            images=(first, second),
            source="debug",
        )


def _picture(folder: Path, number: int) -> tuple[str, str]:
    """Draw a frame of some video as a PNG: its name, and the scene in it."""
    random = Random(f"debug picture {number}")
    timeline = make_timeline(20, _FIRST_SEED + number, split="train")
    second = random.randrange(20)
    name = f"images/{number}.png"
    (folder / "images").mkdir(exist_ok=True)
    frame = Renderer(*_SIZE).render(timeline, second + 0.5)
    picture = Image.fromarray(np.asarray(frame))
    picture.resize(_PICTURE_SIZES[number % 3]).save(folder / name)
    return name, timeline.scene_at(second).name


def _texts() -> Iterator[Sample]:
    for number in range(NUM_TEXTS):
        one, two = divmod(number, 5)
        yield Sample(
            id=f"text-{number}",
            conversations=_turns(
                (f"What is {_NUMBERS[one]} and {_NUMBERS[two]}?", _NUMBERS[one + two])
            ),
            source="debug",
        )


def _videos(
    folder: Path,
    kind: str,
    seconds: int,
    count: int,
    num_questions: int,
    size: int,
    encode: Encode | None,
    tower: str,
) -> Iterator[Sample]:
    """Draw videos: clips as mp4 files where PyAV is, all others as features."""
    as_file = kind == "clips" and has_decoder()
    for number in range(count):
        timeline = make_timeline(seconds, _FIRST_SEED + seconds + number, split="train")
        name = f"{kind}/{number}.mp4"
        features: str | None = None
        if as_file:
            _write_clip(timeline, folder / name)
        else:
            assert encode is not None
            target = features_path(Path("features"), name)
            features = str(target)
            _write_features(timeline, folder / target, size, encode, tower)
        yield Sample(
            id=f"{kind}-{number}",
            conversations=_turns(*_questions(timeline, num_questions)),
            video=name if as_file else None,
            features=features,
            source="debug",
        )


def _questions(timeline: Timeline, count: int) -> list[tuple[str, str]]:
    """Ask about a video, open-ended and with options in turn."""
    asked = list(make_questions(timeline, 0, per_family=1))
    Random(f"debug questions {timeline.seed}").shuffle(asked)
    pairs = [_asked(question) for question in asked[:count]]
    return [(f"<video>\n{pairs[0][0]}", pairs[0][1]), *pairs[1:]]


def _asked(question: Question) -> tuple[str, str]:
    if question.options is None:
        return question.question, question.answer
    lines = [
        f"{letter}. {option}" for letter, option in zip("ABCDEFGH", question.options, strict=False)
    ]
    letter = "ABCDEFGH"[question.options.index(question.answer)]
    return "\n".join([question.question, *lines]), letter


def _turns(*pairs: tuple[str, str]) -> tuple[dict[str, str], ...]:
    return tuple(
        turn
        for asked, answered in pairs
        for turn in ({"from": "human", "value": asked}, {"from": "gpt", "value": answered})
    )


def _write_clip(timeline: Timeline, path: Path) -> None:
    from hour_llava.world.video_file import write_video

    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(timeline, path, fps=2, width=_SIZE[0], height=_SIZE[1])


def _write_features(timeline: Timeline, path: Path, size: int, encode: Encode, tower: str) -> None:
    seconds = timeline.duration_seconds
    frames = Renderer(*_SIZE).render_many(timeline, [second + 0.5 for second in range(seconds)])
    pixels = HourLlavaVideoProcessor(size)(frames)
    header = FeaturesHeader(tower_digest=tower, duration_seconds=float(seconds), video=path.stem)
    write_features(path, encode(pixels), torch.arange(seconds, dtype=torch.float64), header)
