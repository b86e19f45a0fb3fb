"""Loading a model for a command: libraries keep quiet, so that stderr holds our lines alone."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hour_llava.session import Assistant


def load_quietly(name: str, *, device: str | None = None, dtype: str | None = None) -> Assistant:
    """Load a model without the bars and warnings of other libraries; errors stay."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    warnings.filterwarnings("ignore", module=r"(torch|transformers|matplotlib)\b")
    from hour_llava.session import load

    return load(name, device=device, dtype=dtype)
