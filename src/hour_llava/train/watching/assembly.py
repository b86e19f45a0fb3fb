"""callbacks: from the run's settings to what its Trainer is given."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from transformers import TrainerCallback

from hour_llava.train.watching.callback import Watch
from hour_llava.train.watching.curves import CurvesAtTheEnd
from hour_llava.train.watching.lines import Watcher
from hour_llava.train.watching.log import LOG, JsonlLog
from hour_llava.train.watching.measurement import Measurement
from hour_llava.train.watching.progress import PlainLines, ProgressBar
from hour_llava.train.watching.reports import open_reports


class WatchSettings(Protocol):
    """The fields of `train.config.WatchConfig` that are read here."""

    @property
    def log_every_steps(self) -> int: ...
    @property
    def reports(self) -> tuple[str, ...]: ...
    @property
    def progress(self) -> bool: ...


@contextmanager
def callbacks(
    watch: WatchSettings,
    out: Path,
    *,
    name: str,
    samples_per_step: int,
    measurements: Sequence[Measurement] = (),
    facts: Mapping[str, Any] | None = None,
    is_first_process: bool = True,
) -> Iterator[list[TrainerCallback]]:
    """Give the callbacks of a run, and give the terminal back behind it, whatever happens.

    Args:
        watch: How often to speak, and to whom.
        out: The run's folder: log.jsonl, tensorboard/ and curves.png are written there.
        name: Of the run.
        samples_per_step: The global batch size.
        measurements: Validation and exams.
        facts: More to know of the run: seed, commit, configuration ...; flat.
        is_first_process: Other ranks measure along, and write nothing.

    Raises:
        HourLlavaError: a report of that name does not exist or is not installed.
    """
    watchers: list[Watcher] = []
    if is_first_process:
        watchers = [JsonlLog(out / LOG), *open_reports(watch.reports, out, name=name)]
        watchers.append(CurvesAtTheEnd(out))
        if watch.progress and sys.stderr.isatty():
            watchers.append(ProgressBar())
        elif watch.log_every_steps > 0:
            watchers.append(PlainLines(every_steps=watch.log_every_steps))
    callback = Watch(
        watchers,
        measurements,
        samples_per_step=samples_per_step,
        facts={"name": name, **(facts or {})},
    )
    try:
        yield [callback]
    finally:
        callback.close()
