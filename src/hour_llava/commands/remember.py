"""`hour-llava remember`: watch a video once and keep its memory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from hour_llava.commands.arguments import Rate, Seconds
from hour_llava.commands.progress import readable_bytes, say_damage, watch
from hour_llava.commands.terminal import say


def remember(
    video: Annotated[str, tyro.conf.arg(metavar="VIDEO")],
    /,
    *,
    out: Path | None = None,
    model: str = "nano",
    device: str | None = None,
    dtype: str | None = None,
    fps: Rate = 1.0,
    start: Seconds = None,
    end: Seconds = None,
) -> None:
    """Watch a video once and keep its memory; prints where the memory is.

    Stopped in the middle, even by `kill -9`, it resumes where it was.

    Args:
        video: the video
        out: also write the memory here, as a file that travels (FILE.hlm)
        model: `nano`, a local folder, or a hub id
        device: cpu, cuda, cuda:1, mps; the best there is by default
        dtype: float32, bfloat16 or float16
        fps: frames a second to watch
        start: watch from here, seconds or mm:ss
        end: watch up to here, seconds or mm:ss
    """
    from hour_llava.commands.loading import load_quietly
    from hour_llava.session.options import RememberOptions
    from hour_llava.session.target import check_target
    from hour_llava.video.container import check_path

    check_path(video)
    if out is not None:
        check_target(out, what="the memory file", suffixes=(".hlm",), source=video)
    assistant = load_quietly(model, device=device, dtype=dtype)
    with watch(Path(video).name) as progress:
        remembered = assistant.remember_with_report(
            video, RememberOptions(fps=fps, start=start, end=end, progress=progress)
        )
    memory = remembered.memory
    if out is not None:
        memory.save(out)
    print(out or remembered.file)
    source = "already remembered" if remembered.is_cached else "remembered"
    say(
        f"{source}: {memory.num_frames:,} frames of {memory.duration_seconds:.1f} s "
        f"({remembered.num_encoded:,} watched now), "
        f"{readable_bytes(memory.num_bytes)}; seconds: decode {remembered.decode_seconds:.2f}, "
        f"encode {remembered.encode_seconds:.2f}"
    )
    say_damage(memory.damage)
