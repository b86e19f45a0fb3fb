"""Loading a model for a command: libraries keep quiet, so that stderr holds our lines alone."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hour_llava.session import Assistant

# Threads of a small model mostly wait for each other: on two busy cores a question of nano took 1.0
# CPU seconds with two threads and 0.04 with one.
_ONE_THREAD_PARAMETERS = 50_000_000


def load_quietly(name: str, *, device: str | None = None, dtype: str | None = None) -> Assistant:
    """Load a model without the bars and warnings of other libraries; errors stay."""
    import torch

    keep_libraries_quiet()
    from hour_llava.session import load

    assistant = load(name, device=device, dtype=dtype)
    if assistant.num_parameters < _ONE_THREAD_PARAMETERS and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
    return assistant


def keep_libraries_quiet() -> None:
    """Turn the bars and warnings of other libraries off."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    warnings.filterwarnings("ignore", module=r"(torch|transformers|matplotlib|accelerate|peft)\b")
