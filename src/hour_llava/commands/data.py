"""`hour-llava data`: make manifests for training, and check them."""

from __future__ import annotations

import json as json_format
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from hour_llava.commands.arguments import OptionalRate
from hour_llava.commands.lacks import naming_lacks
from hour_llava.commands.terminal import say
from hour_llava.data.grouping import MAX_QUESTIONS, GroupingCounts, group_samples
from hour_llava.data.manifest import Sample, write_manifest
from hour_llava.data.readers.layouts import Layout, base_folder, detect_layout, read_layout
from hour_llava.errors import ConfigError, DataError

if TYPE_CHECKING:
    from hour_llava.data.check import Checked, Fault
    from hour_llava.data.collate import Collator

_Item = TypeVar("_Item")
_NAMED, _NAMED_NOTES = 10, 3


def group(
    sources: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="SOURCE...")],
    /,
    *,
    out: Path,
    layout: Layout | None = None,
    root: Path | None = None,
    max_questions: int = MAX_QUESTIONS,
    seed: int = 0,
) -> int:
    """Make a training manifest (JSONL) of datasets, up to five questions of a video a sample.

    Reads our releases and VideoMarathon (Parquet or JSONL rows, LLaVA JSON), LLaVA-Video-178K,
    LLaVA-OneVision (images inside Parquet are written beside the manifest), and manifests. Paths
    in the manifest are relative to it; those that were absolute stay so. Rows that are no samples
    are left out and listed in FILE.bad.jsonl, and the exit code is 1.

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
    if any(out.exists() and source.exists() and out.samefile(source) for source in sources):
        raise DataError(
            f"--out {out} is one of the sources and would be replaced; name another file"
        )
    media, listed = out.parent / f"{out.stem}_images", out.with_name(f"{out.stem}.bad.jsonl")
    if listed.absolute() in {source.absolute() for source in sources}:
        raise DataError(f"{listed}: bad rows of {out} would be listed there; take another --out")
    counts, bad = GroupingCounts(), _BadRows(listed)

    def placed() -> Iterator[Sample]:
        for source in sources:
            base = base_folder(source) if root is None else root
            for sample in read_layout(source, layout, media=media, bad=bad):
                yield _relative(sample, base, out.parent, written=media)

    lacks = naming_lacks(
        memory="all questions of videos are held at once: group fewer SOURCEs at a time",
        disk=f"the disk of {out.parent} is full: free some space and give the command again; "
        f"images that stand in {media} are whole",
    )
    with lacks, counting("reading") as count:
        samples = group_samples(
            count(placed()), max_questions=max_questions, seed=seed, counts=counts
        )
        first = next(samples, None)
        if first is None:
            taken = ", ".join(f"{one} (as {layout or detect_layout(one)})" for one in sources)
            nothing = f"{taken}: no samples in there; --layout names another layout"
            raise DataError(f"{nothing}: {bad.told()}" if bad.num else nothing)
        num_written = write_manifest(out, chain([first], samples))
    print(out)
    say(
        f"{num_written:,} samples of {counts.num_read:,} read: {counts.num_questions:,} questions "
        f"of {len(counts.videos):,} videos, {counts.num_alone:,} samples as they were, "
        f"{counts.num_repeated:,} repeated questions left out"
    )
    if bad.num:
        say(f"error: {bad.told()}; the manifest has the others")
    return 1 if bad.num else 0


class _BadRows:
    """Counts and lists rows that are no samples; the list is there only if there are some."""

    def __init__(self, listed: Path) -> None:
        self.listed, self.num, self.first = listed, 0, ""
        listed.unlink(missing_ok=True)

    def __call__(self, error: DataError) -> None:
        self.first = self.first or str(error)
        self.num += 1
        self.listed.parent.mkdir(parents=True, exist_ok=True)
        with self.listed.open("a", encoding="utf-8") as file:
            file.write(json_format.dumps({"error": str(error)}) + "\n")

    def told(self) -> str:
        """Say how many, where they are listed and which is the first."""
        rows = "row is no sample" if self.num == 1 else "rows are no samples"
        return f"{self.num:,} {rows}, listed in {self.listed}; the first is {self.first}"


def check(
    manifest: Annotated[Path, tyro.conf.arg(metavar="MANIFEST")],
    /,
    *,
    model: str | None = None,
    root: Path | None = None,
    features: Path | None = None,
    max_length: int | None = None,
    fps: OptionalRate = None,
    fast: bool = False,
    workers: int = 4,
    list_to: Path | None = None,
    json: bool = False,
) -> int:
    """Find what would stop or spoil a training, before it starts; exit code 1 if there is any.

    Missing and broken files, wrong roles, no question, empty answers, control tokens in a text, two
    videos in a sample, videos too long to be read as pixels, features with NaN. With --model also:
    samples that are too long, nothing learned, answers that MemAug would see, features of another
    tower or shape. Noted only: answers that stand in their own question.

    Args:
        manifest: a .jsonl, .parquet or LLaVA .json
        model: count tokens with this model: `nano`, a local folder, or a hub id
        root: the folder that the manifest's paths are relative to; by default its own
        features: the folder that `hour-llava extract` filled
        max_length: tokens of a row, with --model; by default training's: 32,768, or the
            tokenizer's own limit where that is smaller
        fps: frames a second at which video files will be read, with --model; by default 1
        fast: decode nothing: read the heads of images and features, look that videos are there
        workers: threads that open files before their turn; 0: none
        list_to: also write every fault and note here (FILE.jsonl)
        json: print one JSON object
    """
    from hour_llava.data.check import KINDS, NOTICES, ManifestCheck
    from hour_llava.data.manifest import read_manifest
    from hour_llava.train.config import MOST_WORKERS

    _require_model(model, max_length, fps)
    if not 0 <= workers <= MOST_WORKERS:
        raise ConfigError(f"--workers {workers}: 0 to {MOST_WORKERS}")
    opened = read_manifest(manifest, root=root, features=features)
    is_interrupted = False
    with _listing(list_to, manifest) as listed:
        collator = None
        if model is not None:
            collator = _collator(model, max_length=max_length, fps=fps or 1.0)
        checker = ManifestCheck(opened, collator, open_media=not fast, workers=workers)
        found = checker.found
        try:
            with counting("checking", total=len(opened)) as count:
                for _ in count(checker.each()):
                    listed(found)
        except KeyboardInterrupt:  # hours of looking are worth telling
            is_interrupted = True
    if json:
        print(json_format.dumps(_summary(found), indent=2, ensure_ascii=False))
    else:
        print("\n".join(_table(found, {**KINDS, **NOTICES})))
    for fault, count in _causes(found.faults)[:_NAMED]:
        more = f" (and {count - 1:,} more samples)" if count > 1 else ""
        say(f"{fault.where}: {fault.kind}: {_cause(fault)}{more}")
    for note in found.notes[:_NAMED_NOTES]:
        say(f"note: {note.where}: {note.text}")
    if is_interrupted:
        say(f"{found.num_samples:,} of {len(opened):,} samples were looked at")
        raise KeyboardInterrupt
    if not found.faults:
        return 0
    say(
        f"error: {found.num_faulty:,} of {found.num_samples:,} samples cannot be trained on; mend "
        "them or take them out" + ("" if list_to else "; --list-to FILE.jsonl names all of them")
    )
    return 1


def _cause(fault: Fault) -> str:
    """Give what is wrong without the place, so that samples of one broken file are alike."""
    return fault.text.removeprefix(f"{fault.where}: ").removeprefix(f"{fault.sample_id}: ")


def _causes(faults: Sequence[Fault]) -> list[tuple[Fault, int]]:
    """Count the faults of each cause; the first of each kind stand in front."""
    alike: dict[tuple[str, str], list[Fault]] = {}
    for fault in faults:
        alike.setdefault((fault.kind, _cause(fault)), []).append(fault)
    turns: Counter[str] = Counter()
    ranked: list[tuple[int, Fault, int]] = []
    for (kind, _), own in alike.items():
        ranked.append((turns[kind], own[0], len(own)))
        turns[kind] += 1
    ranked.sort(key=lambda item: item[0])
    return [(fault, count) for _, fault, count in ranked]


@contextmanager
def _listing(path: Path | None, manifest: Path) -> Iterator[Callable[[Checked], None]]:
    """Write faults and notes to a file as they are found; where it cannot be, say so at once."""
    if path is None:
        yield lambda found: None
        return
    if path.exists() and path.samefile(manifest):
        raise ConfigError(f"--list-to {path}: that is the manifest; name another file")
    try:
        listed = path.open("w", encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"--list-to {path}: {error.strerror}; name a file in a folder that is there"
        ) from error
    num_faults = num_notes = 0
    with listed as file:

        def write(found: Checked) -> None:
            nonlocal num_faults, num_notes
            for fault in [*found.faults[num_faults:], *found.notes[num_notes:]]:
                file.write(json_format.dumps(asdict(fault), ensure_ascii=False) + "\n")
            num_faults, num_notes = len(found.faults), len(found.notes)

        yield write


def _summary(found: Checked) -> dict[str, Any]:
    return {
        "num_samples": found.num_samples,
        "num_faulty": found.num_faulty,
        "samples": dict(found.samples),
        "faults": dict(Counter(fault.kind for fault in found.faults)),
        "notices": {name: number for name, number in found.notices.items() if number},
        "num_frames": found.num_frames,
        "longest_tokens": found.longest[0] or None,
        "num_learned_tokens": found.num_learned or None,
        "first_faults": [asdict(fault) for fault in found.faults[:_NAMED]],
    }


def _table(found: Checked, meanings: Mapping[str, str]) -> Iterator[str]:
    kinds = ", ".join(f"{number:,} {kind}" for kind, number in found.samples.most_common())
    yield f"samples    {found.num_samples:>11,}  {kinds}"
    yield f"frames     {found.num_frames:>11,}  of all videos that were opened, each once"
    if found.longest[0]:
        yield f"longest    {found.longest[0]:>11,}  tokens, in {found.longest[1]}"
        yield f"learned    {found.num_learned:>11,}  tokens an epoch"
    counts = Counter(fault.kind for fault in found.faults)
    for name, number in [*counts.most_common(), *found.notices.items()]:
        if number:
            mark = "FAULT" if name in counts else "note"
            yield f"{name:<11}{number:>11,}  {mark}: {meanings[name]}"
    yield f"faulty     {found.num_faulty:>11,}  samples"


def _require_model(model: str | None, max_length: int | None, fps: float | None) -> None:
    """Refuse what only a model's check reads, rather than leave it unread."""
    if max_length is not None and max_length < 1:
        raise ConfigError(f"--max-length {max_length}: a row has at least 1 token")
    for flag, value in (("--max-length", max_length), ("--fps", fps)):
        if model is None and value is not None:
            raise ConfigError(
                f"{flag} {value} is used with --model only, which counts a sample's tokens: add "
                f"--model, or leave {flag} out"
            )


def _collator(model: str, *, max_length: int | None, fps: float) -> Collator:
    from hour_llava.commands.loading import load_quietly
    from hour_llava.data.collate import Collator
    from hour_llava.data.features import tower_digest
    from hour_llava.train.config import DataConfig

    assistant = load_quietly(model)
    config = assistant.model.config
    if max_length is None:
        own, training = assistant.processor.tokenizer.model_max_length, DataConfig().max_length
        max_length = own if training is None else min(own, training)
    return Collator(
        assistant.processor,
        max_length=max_length,
        tower=tower_digest(assistant.model),
        feature_size=config.vision_config.hidden_size,
        fps=fps,
    )


def _relative(sample: Sample, base: Path, folder: Path, *, written: Path) -> Sample:
    """Turn paths relative to the source, or of images just written, into the manifest's."""

    def place(path: str) -> str:
        is_ours = Path(path).is_relative_to(written.absolute())
        return path if Path(path).is_absolute() and not is_ours else _from(folder, base / path)

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
