"""Image files that cannot be read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from hour_llava.data.images import opened_image, read_image
from hour_llava.errors import DataError


@pytest.mark.parametrize("error", [EOFError(), IndexError("out of range"), OSError("cut off")])
def test_whatever_a_decoder_raises_the_file_and_the_sample_are_named(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: str) -> Image.Image:
        raise error

    (tmp_path / "b.webp").write_bytes(b"RIFF")
    monkeypatch.setattr(Image, "open", fail)
    reason = str(error) or "EOFError"
    with pytest.raises(DataError, match=f"^s7: image .*/b.webp cannot be read: {reason}$"):
        read_image(str(tmp_path / "b.webp"), "s7")


def test_a_lack_of_memory_is_no_fault_of_the_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.png").write_bytes(b"PNG")

    def fail(path: str) -> Image.Image:
        raise MemoryError

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(MemoryError), opened_image(str(tmp_path / "a.png")):
        pass


def test_a_pipe_is_refused_rather_than_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "pipe.png")
    for name in ("pipe.png", "link.png"):
        said = f"image .*{name} cannot be read: it is no regular file"
        with pytest.raises(DataError, match=said), opened_image(str(tmp_path / name)):
            pass
