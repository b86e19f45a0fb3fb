"""`hour-llava extract`: videos to features, before training."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from hour_llava.commands.arguments import Rate
from hour_llava.commands.data import counting
from hour_llava.commands.lacks import naming_lacks
from hour_llava.commands.progress import readable_bytes, readable_seconds
from hour_llava.commands.terminal import say
from hour_llava.errors import ConfigError, DataError

if TYPE_CHECKING:
    from hour_llava.data.extraction import Extracted, Job

_SAY_SECONDS = 60.0


def extract(
    source: Annotated[Path, tyro.conf.arg(metavar="SOURCE")],
    /,
    *,
    out: Path,
    model: str = "nano",
    storage: Literal["bf16", "int8", "fp8"] = "bf16",
    fps: Rate = 1.0,
    shard: Annotated[str, tyro.conf.arg(metavar="I/N")] = "0/1",
    root: Path | None = None,
    device: str | None = None,
    dtype: str | None = None,
    overwrite: bool = False,
) -> int:
    """Extract the features of videos, one safetensors file each, to train on them.

    Stopped in the middle, even by `kill -9`, it goes on with the first video that is not there.
    Videos that cannot be read, and rows that are no samples, are listed in
    OUT/broken-I-of-N.jsonl, and the exit code is 1. Features that are there from another video of
    the same path are refused. On several GPUs start one process each: CUDA_VISIBLE_DEVICES=3 ...
    --shard 3/8.

    Args:
        source: a training manifest, or a folder of videos
        out: the folder for the features; hand it to training and to `data check` as --features
        model: whose tower: `nano`, a local folder, or a hub id
        storage: bf16, or half of that: int8, or fp8 with a scale a token
        fps: frames a second
        shard: the share of this process: 0/8 to 7/8
        root: the folder that the manifest's paths are relative to; by default its own
        device: cpu, cuda, cuda:1, mps; the best there is by default
        dtype: float32, bfloat16 or float16
        overwrite: replace features of another video, tower, rate or storage
    """
    from hour_llava.commands.loading import load_quietly
    from hour_llava.data.extraction import extract as extract_all
    from hour_llava.data.extraction import share
    from hour_llava.data.features import tower_digest

    if (out / "config.json").is_file():
        raise ConfigError(f"--out {out} is a model's folder; name one of its own for the features")
    number, count = _parse_shard(shard)
    jobs, bad_rows = _jobs(source, root, out)
    own = list(share(jobs, number, count))
    out.mkdir(parents=True, exist_ok=True)
    assistant = load_quietly(model, device=device, dtype=dtype)
    say(f"{len(own):,} of {len(jobs):,} videos, share {number} of {count}, to {out}")
    watcher = _Watcher(len(own))
    lacks = naming_lacks(
        memory="take --dtype bfloat16, another --device, or close other programs",
        disk=f"the disk of {out} is full: free some space and give the command again; features "
        "that are there are whole and are not made anew",
    )
    with lacks, counting("extracting", total=len(own)) as bar:
        done = extract_all(
            watcher(bar(own)),
            assistant.encoder,
            tower=tower_digest(assistant.model),
            broken_list=out / f"broken-{number}-of-{count}.jsonl",
            fps=fps,
            storage=storage,
            overwrite=overwrite,
            bad_rows=bad_rows[number::count],
            on_frames=watcher.on_frames,
        )
    print(out)
    say(
        f"{done.num_done:,} videos extracted ({done.num_frames:,} frames, "
        f"{readable_bytes(done.num_bytes)}), {done.num_there:,} were there"
    )
    if not done.broken and not done.bad_rows:
        return 0
    _say_broken(done, len(own), out / f"broken-{number}-of-{count}.jsonl")
    return 1


def _jobs(
    source: Path, root: Path | None, out: Path
) -> tuple[Sequence[Job], Sequence[tuple[str, str]]]:
    """List what is to be extracted, and rows that are no samples."""
    from hour_llava.data.extraction import jobs_of_folder, jobs_of_manifest
    from hour_llava.data.manifest import read_manifest

    if source.is_dir():
        jobs, bad_rows = jobs_of_folder(source, out), []
    else:
        jobs, bad_rows = jobs_of_manifest(read_manifest(source, root=root), out)
    if not jobs:
        bad = f"; {len(bad_rows):,} rows are no samples, the first: " if bad_rows else ""
        raise DataError(
            f"{source}: it names no videos to extract features of{bad}{_first(bad_rows)}"
        )
    return jobs, bad_rows


def _say_broken(done: Extracted, num_videos: int, listed: Path) -> None:
    rows = f" and {len(done.bad_rows):,} rows are no samples" if done.bad_rows else ""
    say(
        f"error: {len(done.broken):,} of {num_videos:,} videos are broken{rows}, listed in "
        f"{listed}; the first is {_first([*done.bad_rows, *done.broken])}"
    )


def _first(named: Sequence[tuple[str, str]]) -> str:
    return ": ".join(named[0]) if named else ""


class _Watcher:
    """Says now and then how far it is, where no bar is seen."""

    def __init__(self, num_videos: int) -> None:
        self._num_videos, self._number, self._said = num_videos, 0, time.monotonic()
        self._begin = self._said

    def __call__(self, jobs: Iterable[Job]) -> Iterator[Job]:
        for job in jobs:
            self._number += 1
            yield job

    def on_frames(self, num_done: int, num_frames: int) -> None:
        now = time.monotonic()
        if now - self._said < _SAY_SECONDS:
            return
        self._said = now
        done = self._number - 1 + num_done / max(1, num_frames)
        left = (now - self._begin) / done * (self._num_videos - done) if done else 0.0
        say(
            f"video {self._number:,} of {self._num_videos:,}, frame {num_done:,} of "
            f"{num_frames:,}; about {readable_seconds(left)} left; interrupt at will, it resumes"
        )


def _parse_shard(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    number, count = (int(found[1]), int(found[2])) if found else (0, 0)
    if not number < count:
        raise DataError(f"--shard {text}: write I/N, 0/8 for the first of eight processes")
    return number, count
