"""Reports: the same lines for TensorBoard, Weights & Biases or trackio.

A line's numbers appear as kind/name: step/loss, step/lr/memaug, validation/loss, exam/open.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hour_llava.errors import HourLlavaError
from hour_llava.train.config import RUN_REPORTS
from hour_llava.train.watching.lines import Line, Watcher, numbers_of
from hour_llava.train.watching.terminal import say

_PROJECT = "hour-llava"


def open_reports(names: Sequence[str], out: Path, *, name: str) -> list[Watcher]:
    """Make the reports of these names.

    TensorBoard, the default, is left out with a word where it is not installed.

    Raises:
        HourLlavaError: there is no such report, or one that was asked for is not installed.
    """
    found: list[Watcher] = []
    for report in dict.fromkeys(names):
        if report == "tensorboard":
            writer_class = _tensorboard()
            if writer_class is None:
                say(
                    "TensorBoard is not installed, so there is no report for it (pip install "
                    "'hour-llava[train]'); log.jsonl has every number"
                )
            else:
                found.append(TensorBoard(out / "tensorboard", writer_class))
        elif report in RUN_REPORTS:
            found.append(RunReport(report, _module(report), out, name=name))
        else:
            raise HourLlavaError(
                f"there is no report {report!r}; reports are tensorboard, {', '.join(RUN_REPORTS)}"
            )
    return found


class TensorBoard:
    """Event files in a folder; a resumed run hides what came after its step."""

    def __init__(self, folder: Path, writer_class: Any) -> None:
        self._folder, self._writer_class = folder, writer_class
        self._writer: Any = None

    def begin(self, run: Line) -> None:
        """Open the event file."""
        try:
            self._writer = self._writer_class(str(self._folder), purge_step=int(run["step"]) + 1)
            facts = "\n".join(f"| {name} | {value} |" for name, value in run.items())
            self._writer.add_text("run", f"| fact | value |\n| --- | --- |\n{facts}", run["step"])
        except OSError as error:
            self._give_up(error)

    def take(self, line: Line) -> None:
        """Add the line's numbers."""
        if self._writer is None:
            return
        try:
            for name, value in numbers_of(line).items():
                self._writer.add_scalar(f"{line['kind']}/{name}", value, line["step"])
        except OSError as error:
            self._give_up(error)

    def close(self) -> None:
        """Write what is left and close."""
        if self._writer is not None:
            try:
                self._writer.close()
            except OSError as error:
                self._give_up(error)
            self._writer = None

    def _give_up(self, error: OSError) -> None:
        self._writer = None
        say(f"the report in {self._folder} ends here ({error}); log.jsonl goes on")


class RunReport:
    """wandb or trackio, which have the same three functions: init, log, finish.

    One that fails on the way ends, and the training does not."""

    def __init__(self, report: str, module: Any, out: Path, *, name: str) -> None:
        self._report, self._module, self._out, self._name = report, module, out, name
        self._is_open = False

    def begin(self, run: Line) -> None:
        """Open a run under the same name; the facts are its configuration.

        Raises:
            HourLlavaError: it cannot: nobody is logged in, the server cannot be reached.
        """
        where = {"dir": str(self._out)} if self._report == "wandb" else {}
        try:
            self._module.init(project=_PROJECT, name=self._name, config=dict(run), **where)
        except Exception as error:
            raise HourLlavaError(
                f"{self._report} does not begin ({error}): log in, or leave it out of "
                "--watch.reports (WANDB_MODE=offline needs no server)"
            ) from error
        self._is_open = True

    def take(self, line: Line) -> None:
        """Send the line's numbers."""
        numbers = {f"{line['kind']}/{n}": v for n, v in numbers_of(line).items()}
        if self._is_open and numbers:
            self._or_give_up(lambda: self._module.log(numbers, step=int(line["step"])))

    def close(self) -> None:
        """End the run."""
        if self._is_open:
            self._or_give_up(self._module.finish)
            self._is_open = False

    def _or_give_up(self, act: Callable[[], Any]) -> None:
        try:
            act()
        except Exception as error:
            self._is_open = False
            say(f"the report to {self._report} ends here ({error}); log.jsonl goes on")


def _tensorboard() -> Any:
    try:
        return importlib.import_module("torch.utils.tensorboard").SummaryWriter
    except ImportError:
        return None


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise HourLlavaError(
            f"--watch.reports names {name}, which is not installed ({error}); pip install {name}, "
            "or leave it out"
        ) from error
