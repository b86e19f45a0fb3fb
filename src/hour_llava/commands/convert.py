"""`hour-llava convert`: a checkpoint of the released layout to ours, and back."""

from __future__ import annotations

import sys
from pathlib import Path
from shlex import quote
from typing import Annotated, Literal

import tyro


def convert(
    source: Annotated[str, tyro.conf.arg(metavar="SOURCE")],
    destination: Annotated[Path, tyro.conf.arg(metavar="DESTINATION")],
    /,
    *,
    to: Literal["hour-llava", "released"] = "hour-llava",
) -> None:
    """Turn a released checkpoint into one that `import hour_llava` lets transformers load; or back.

    Every key and shape is checked first; the weights are the same bytes under other names. The
    destination appears when it is whole.

    Args:
        source: a folder, or a hub id such as jylins/hourllava-qwen25-3b-s3
        destination: a folder that does not exist yet, or is empty
        to: the layout to write
    """
    from hour_llava.model.checkpoints import convert as convert_checkpoint

    found = convert_checkpoint(source, destination, to=to)
    size = f"{len(found.entries)} tensors, {found.num_bytes / 1e9:.3g} GB"
    print(f"{destination}: {to} layout, {size}")
    if to == "hour-llava":
        name = quote(str(destination))
        print(f"next: hour-llava ask VIDEO QUESTION --model {name}", file=sys.stderr)
