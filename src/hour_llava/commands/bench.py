"""`hour-llava bench`: a quick measurement of this machine, decode, encode and ask."""

from __future__ import annotations

import json as json_format
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from hour_llava.commands.terminal import say

if TYPE_CHECKING:
    from hour_llava.memory.repository import MemoryRepository
    from hour_llava.session import Assistant

_QUESTION = "What colour is the star?"
_VIDEO_SECONDS, _SEED = 20, 5


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One line of the table: the median of a few runs."""

    name: str
    value: float
    unit: str
    detail: str


def bench(
    *, model: str = "nano", device: str | None = None, json: bool = False, runs: int = 3
) -> None:
    """Measure this machine: decode, encode, ask at 10 and at 60 minutes; takes about a minute.

    Args:
        model: `nano`, a local folder, or a hub id
        device: cpu, cuda, cuda:1, mps; the best there is by default
        json: print one JSON object
        runs: of which the median counts
    """
    import torch

    from hour_llava.commands.loading import load_quietly

    say("measuring; close what else is busy")
    begin = time.perf_counter()
    assistant = load_quietly(model, device=device)
    measured = [
        Measured(
            name="load",
            value=time.perf_counter() - begin,
            unit="s",
            detail=f"{assistant.name}, {assistant.num_parameters / 1e6:.1f} M parameters",
        )
    ]
    measured += _measure_video(assistant, runs)
    for minutes in (10, 60):
        memory = _random_memory(assistant, minutes * 60)
        seconds = _median(lambda memory=memory: assistant.ask(memory, _QUESTION), runs)
        measured.append(
            Measured(name=f"ask {minutes} min", value=seconds, unit="s", detail="one question")
        )
    machine = f"{platform.machine()}, {os.cpu_count()} cores"
    where = f"{machine}, {assistant.device}, torch {torch.__version__}"
    if json:
        rows = [asdict(row) for row in measured]
        print(json_format.dumps({"machine": where, "runs": runs, "measured": rows}))
        return
    table = Table(title=where, title_justify="left")
    table.add_column("what")
    table.add_column("median", justify="right")
    table.add_column("of what")
    for row in measured:
        table.add_row(row.name, f"{row.value:,.3g} {row.unit}", row.detail)
    Console().print(table)


def _measure_video(assistant: Assistant, runs: int) -> list[Measured]:
    from hour_llava.video import read_frames
    from hour_llava.world.timeline import make_timeline
    from hour_llava.world.video_file import write_video

    with tempfile.TemporaryDirectory(prefix="hour-llava-") as folder:
        path = Path(folder) / "video.mp4"
        write_video(make_timeline(_VIDEO_SECONDS, _SEED), path, fps=30, width=1280, height=720)

        def decode() -> None:
            with read_frames(path) as reader:
                for _ in reader:
                    pass

        with read_frames(path) as reader:
            frames = [frame.rgb for frame in reader]
        decode_seconds = _median(decode, runs)
    encode_seconds = _median(lambda: assistant.encode(frames), runs)
    return [
        Measured(
            name="decode",
            value=_VIDEO_SECONDS / decode_seconds,
            unit="x real time",
            detail="720p30 H.264 at 1 frame a second, child start-up included",
        ),
        Measured(
            name="encode",
            value=len(frames) / encode_seconds,
            unit="frames/s",
            detail="720p frames resized, through the vision tower",
        ),
    ]


def _random_memory(assistant: Assistant, num_frames: int) -> MemoryRepository:
    import torch

    from hour_llava.memory.repository import MemoryRepository

    shape = (num_frames, assistant.encoder.tokens_per_frame, assistant.encoder.feature_size)
    features = torch.randn(shape, generator=torch.Generator().manual_seed(_SEED))
    return MemoryRepository(features_FPD=features.half(), times_F=torch.arange(num_frames).double())


def _median(run: Callable[[], object], runs: int) -> float:
    run()  # warm-up
    seconds: list[float] = []
    for _ in range(max(1, runs)):
        begin = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)
