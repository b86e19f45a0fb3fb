"""The evidence picture: written in the asked format, at any length, with any text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hour_llava.errors import ResourceError
from hour_llava.schema import Evidence
from hour_llava.session.picture import clock, draw_evidence

SPAN = Evidence(start_seconds=3.0, end_seconds=5.0, score=0.8)


def draw(path: Path, num_frames: int = 60, **changes: object) -> Path:
    mass = np.full(num_frames, 1e-3)
    mass[min(3, num_frames - 1)] = 1
    image = np.zeros((90, 160, 3), np.uint8)
    given = {
        "question": "which digit was shown?",
        "answer": "seven",
        "mass_F": mass,
        "times_F": np.arange(num_frames, dtype=float),
        "spans": [SPAN],
        "thumbnails": [(3.0, image), (4.0, image)],
    }
    return draw_evidence(path, **{**given, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0, "00:00"), (75.9, "01:15"), (3599, "59:59"), (3661, "1:01:01")]
)
def test_clock(seconds: float, expected: str) -> None:
    assert clock(seconds) == expected


@pytest.mark.parametrize("num_frames", [1, 2, 60, 3600])
def test_any_length_can_be_drawn(tmp_path: Path, num_frames: int) -> None:
    with Image.open(draw(tmp_path / "e.png", num_frames)) as image:
        assert image.size == (1200, 612)


def test_no_thumbnail_and_no_span_are_fine(tmp_path: Path) -> None:
    assert draw(tmp_path / "e.svg", thumbnails=[], spans=[]).stat().st_size > 1000


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("text", ["$x_1$ \\frac", "a\nb\x00", "这是什么", "x" * 5000, ""])
def test_any_text_can_be_written(tmp_path: Path, text: str) -> None:
    assert draw(tmp_path / "e.png", question=text, answer=text).exists()


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"take \.png"):
        draw(tmp_path / "e.doc")


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="is no folder"):
        draw(tmp_path / "none" / "e.png")
