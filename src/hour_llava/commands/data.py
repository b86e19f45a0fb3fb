"""`hour-llava data`: make manifests for training."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, TypeVar

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from hour_llava.commands.terminal import say
from hour_llava.data.grouping import MAX_QUESTIONS, GroupingCounts, group_samples
from hour_llava.data.manifest import Sample, write_manifest
from hour_llava.data.readers.layouts import Layout, base_folder, read_layout
from hour_llava.errors import DataError

_Item = TypeVar("_Item")


def group(
    sources: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="SOURCE...")],
    /,
    *,
    out: Path,
    layout: Layout | None = None,
    root: Path | None = None,
    max_questions: int = MAX_QUESTIONS,
    seed: int = 0,
) -> None:
    """Make a training manifest (JSONL) of datasets, up to five questions of a video a sample.

    Reads our releases and VideoMarathon (Parquet or JSONL rows, LLaVA JSON), LLaVA-Video-178K,
    LLaVA-OneVision (images inside Parquet are written beside the manifest), and manifests. Paths
    in the manifest are relative to it.

    Args:
        sources: files or folders
        out: the manifest to write (FILE.jsonl)
        layout: how the sources are laid out; by default what they look like
        root: the folder that the sources' paths are relative to; by default the source's own
        max_questions: questions of one video in one sample
        seed: another seed, another grouping
    """
    if out.suffix != ".jsonl":
        raise DataError(f"--out {out}: a manifest is written as FILE.jsonl")
    if max_questions < 1:
        raise DataError(f"--max-questions {max_questions}: a sample has at least 1 question")
    if not sources:
        raise DataError("no SOURCE: name a file or a folder")
    media = out.parent / f"{out.stem}_images"
    counts = GroupingCounts()

    def placed() -> Iterator[Sample]:
        for source in sources:
            base = base_folder(source) if root is None else root
            for sample in read_layout(source, layout, media=media):
                yield _relative(sample, base, out.parent)

    with counting("reading") as count:
        samples = group_samples(
            count(placed()), max_questions=max_questions, seed=seed, counts=counts
        )
        num_written = write_manifest(out, samples)
    if not num_written:
        out.unlink()
        raise DataError(f"{', '.join(map(str, sources))}: no samples in there")
    print(out)
    say(
        f"{num_written:,} samples of {counts.num_read:,} read: {counts.num_questions:,} questions "
        f"of {len(counts.videos):,} videos, {counts.num_alone:,} samples as they were, "
        f"{counts.num_repeated:,} repeated questions left out"
    )


def _relative(sample: Sample, base: Path, folder: Path) -> Sample:
    """Turn paths relative to the source into paths relative to the manifest."""

    def place(path: str) -> str:
        return path if Path(path).is_absolute() else _from(folder, base / path)

    return replace(
        sample,
        images=tuple(place(image) for image in sample.images),
        video=None if sample.video is None else place(sample.video),
        features=None if sample.features is None else place(sample.features),
    )


def _from(folder: Path, path: Path) -> str:
    return os.path.relpath(path.absolute(), folder.absolute())


@contextmanager
def counting(what: str, total: int | None = None) -> Iterator[_Counter]:
    """Show on stderr how many items have gone by, where it is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        yield _Counter(bar, total)


class _Counter:
    """Passes items on and moves a bar."""

    def __init__(self, bar: Progress, total: int | None) -> None:
        self._bar, self._task = bar, bar.add_task("", total=total)

    def __call__(self, items: Iterable[_Item]) -> Iterator[_Item]:
        for item in items:
            yield item
            self._bar.advance(self._task)
