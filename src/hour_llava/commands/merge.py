"""`hour-llava merge`: a LoRA adapter and its base to a plain model."""

from __future__ import annotations

import sys
from pathlib import Path
from shlex import quote
from typing import Annotated, Literal

import tyro


def merge(
    adapter: Annotated[Path, tyro.conf.arg(metavar="ADAPTER")],
    /,
    *,
    out: Path,
    base: str | None = None,
    dtype: Literal["float32", "bfloat16"] | None = None,
) -> None:
    """Make a plain model of a LoRA run's adapter and the model that it was trained on.

    The adapters are added to the weights they sit on, in float32; projector and MemAug are the
    trained ones. The result answers like base and adapter together, and needs no peft.

    Args:
        adapter: the folder `model` of a run with --model.lora.rank
        out: a folder that does not exist yet, or is empty
        base: the folder or hub id it was trained on, if it is not where the run found it
        dtype: of the weights written; by default the base's
    """
    import torch

    from hour_llava.commands.loading import keep_libraries_quiet
    from hour_llava.train.export import merge_adapter

    keep_libraries_quiet()
    merge_adapter(adapter, out, base=base, dtype=None if dtype is None else getattr(torch, dtype))
    print(f"{out}: hour-llava layout")
    print(f"next: hour-llava ask VIDEO QUESTION --model {quote(str(out))}", file=sys.stderr)
