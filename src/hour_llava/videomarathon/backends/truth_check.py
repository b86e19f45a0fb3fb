"""Does a truth file belong to its video? Its length is compared, then some of its pictures.

A truth file beside the wrong video would make every "exact" answer wrong without a sign. So nine
moments of the video are decoded and held against what the truth says they show; a re-encoded or
scaled video still fits, a video of another seed does not.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hour_llava.errors import HourLlavaError, VideoError
from hour_llava.video import read_frames
from hour_llava.world.render import Renderer
from hour_llava.world.timeline import Timeline

NUM_MOMENTS = 9
LENGTH_TOLERANCE_MS = 1000
SIZE = (160, 90)
MAX_DIFFERENCE = 40.0
"""Of 255, the second largest of the moments (one may lie on a cut).

Measured on three minutes: 3 as made, 23 in MPEG-4 at 96 x 64, 74 and more for 20 other seeds.
"""


def read_truth(path: str | Path) -> Timeline:
    """Read a truth file.

    Raises:
        HourLlavaError: missing, not readable, or no truth of MarathonWorld.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise HourLlavaError(f"{path}: cannot be read ({error})") from error
    try:
        return Timeline.from_json(text)
    except HourLlavaError as error:
        raise HourLlavaError(f"{path}: {_fault(error)}") from error


def check_truth(file: str, truth: str, *, duration_ms: int) -> str | None:
    """Compare a truth file with its video.

    Returns: what does not fit, None where all does.
    Cost: nine short decodes.
    """
    try:
        timeline = read_truth(truth)
    except HourLlavaError as error:
        return str(error)
    told_ms = timeline.duration_seconds * 1000
    if abs(told_ms - duration_ms) > LENGTH_TOLERANCE_MS:
        return (
            f"{truth} tells of {told_ms / 1000:g} s, the video lasts {duration_ms / 1000:g} s; "
            "give it its own truth file or none"
        )
    difference = sorted(_differences(file, timeline))[-2:][0]
    if difference > MAX_DIFFERENCE:
        return (
            f"{truth} tells of other pictures than the video shows (they differ by "
            f"{difference:.0f} of 255, at most {MAX_DIFFERENCE:.0f} is allowed); give it its own "
            "truth file or none"
        )
    return None


def _fault(error: HourLlavaError) -> str:
    """Say what is wrong with a truth file, without the name that the world gives its own."""
    cause = error.__cause__
    if cause is None:
        return str(error).removeprefix("truth.json: ")
    detail = "a part has the wrong form"
    if isinstance(cause, json.JSONDecodeError):
        detail = f"no JSON at line {cause.lineno}, column {cause.colno}"
    elif isinstance(cause, KeyError):
        detail = f"{cause.args[0]} is missing"
    return f"not a MarathonWorld timeline ({detail}); make it anew or remove it"


def _differences(file: str, timeline: Timeline) -> list[float]:
    step = timeline.duration_seconds / NUM_MOMENTS
    renderer = Renderer(320, 180)
    found: list[float] = []
    try:
        with read_frames(file, fps=1 / step, start_seconds=step / 2, threads=1) as reader:
            for frame in reader:
                told = renderer.render(timeline, frame.pts_seconds)
                found.append(float(np.mean(np.abs(_small(frame.rgb) - _small(told)))))
    except VideoError:
        return found or [255.0]
    return found


def _small(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    image = Image.fromarray(rgb).resize(SIZE, Image.Resampling.BOX)
    return np.asarray(image, dtype=np.float32)
