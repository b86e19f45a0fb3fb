"""Image files that cannot be read."""

from __future__ import annotations

import pytest
from PIL import Image

from hour_llava.data.images import opened_image, read_image
from hour_llava.errors import DataError


@pytest.mark.parametrize("error", [EOFError(), IndexError("out of range"), OSError("cut off")])
def test_whatever_a_decoder_raises_the_file_and_the_sample_are_named(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: str) -> Image.Image:
        raise error

    monkeypatch.setattr(Image, "open", fail)
    reason = str(error) or "EOFError"
    with pytest.raises(DataError, match=f"^s7: image a/b.webp cannot be read: {reason}$"):
        read_image("a/b.webp", "s7")


def test_a_lack_of_memory_is_no_fault_of_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: str) -> Image.Image:
        raise MemoryError

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(MemoryError), opened_image("a.png"):
        pass
