"""Image files of samples: whatever is wrong with one is said with its name."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from hour_llava.data.manifest import shown, why_no_file
from hour_llava.errors import DataError
from hour_llava.model.processing_hour_llava import as_rgb

# Twice that is refused. Not around each image: `data check` opens several at once.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


@contextmanager
def opened_image(path: str) -> Iterator[Image.Image]:
    """Open an image; what goes wrong inside names it.

    Raises:
        DataError: names the file and the reason, whatever its decoder raised: Pillow's do not keep
            to kinds of their own.
    """
    try:
        if state := why_no_file(Path(path)):
            raise DataError(f"image {shown(path)} cannot be read: it {state}")
        with Image.open(path) as image:
            yield image
    except (MemoryError, DataError):
        raise
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DataError(f"image {shown(path)} cannot be read: {reason}") from error


def read_image(path: str, sample_id: str) -> Image.Image:
    """Read an image as RGB.

    Raises:
        DataError: names the sample, the file and the reason.
    """
    try:
        with opened_image(path) as image:
            return as_rgb(image)
    except DataError as error:
        raise DataError(f"{sample_id}: {error}") from error
