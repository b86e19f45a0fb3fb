"""The evidence picture: written in the asked format, at any length, with any text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hour_llava.errors import ResourceError
from hour_llava.schema import Evidence
from hour_llava.session.picture import (
    _bin_by_maximum,
    _clock_ticks,
    clock,
    clock_digits,
    draw_evidence,
)

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


@pytest.mark.parametrize(
    ("fps", "seconds", "expected"),
    [
        (0.1, 12.5, "00:12"),
        (1, 12.9963, "00:12"),
        (2, 12.5, "00:12.5"),
        (10, 59.9, "00:59.9"),
        (30, 2 / 30, "00:00.06"),
        (1000, 3600.003, "1:00:00.003"),
    ],
)
def test_the_clock_tells_neighbouring_frames_apart(
    fps: float, seconds: float, expected: str
) -> None:
    digits = clock_digits(fps)
    assert clock(seconds, digits) == expected
    assert clock(seconds + 1.001 / fps, digits) != expected


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
    with pytest.raises(ResourceError, match=r"end it in \.png"):
        draw(tmp_path / "e.doc")


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="is no folder"):
        draw(tmp_path / "none" / "e.png")


def test_a_cut_out_minute_fills_the_axis_with_a_bar_a_second() -> None:
    times, mass = np.arange(3540.0, 3600.0), np.linspace(0, 1, 60)
    centres, heights = _bin_by_maximum(mass, times, 3540.0, 3600.0)
    assert np.allclose(centres, times + 0.5)
    assert np.allclose(heights, mass)
    assert _clock_ticks(3540.0, 3600.0) == [3540.0, 3550.0, 3560.0, 3570.0, 3580.0, 3590.0, 3600.0]


def test_a_picture_that_cannot_be_written_leaves_the_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "e.png"
    path.write_bytes(b"older")

    def fail(*_: object, **__: object) -> None:
        (tmp_path / "e.png.partial").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", fail)
    with pytest.raises(ResourceError, match="No space left"):
        draw(path)
    assert path.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [path]
