"""`hour-llava synth run`: do what is not done yet, and seal the release."""

from __future__ import annotations

import asyncio
import shlex
from pathlib import Path
from typing import Annotated

import tyro

from hour_llava.commands.synth.watching import cost_line, watch_run
from hour_llava.commands.synth.wording import counted
from hour_llava.commands.terminal import printable, say
from hour_llava.errors import HourLlavaError
from hour_llava.videomarathon.build import Build
from hour_llava.videomarathon.calls.budget import BudgetCaps
from hour_llava.videomarathon.runner import (
    EXIT_COMPLETE,
    EXIT_INTERRUPTED,
    EXIT_QUARANTINED,
    ExecutorName,
    RunReport,
    resume_command,
    run_build,
)


def run(
    build: Annotated[Path, tyro.conf.arg(metavar="BUILD_DIR")],
    /,
    *,
    executor: ExecutorName = "local",
    max_usd: float | None = None,
    max_calls: int | None = None,
    max_tokens: int | None = None,
    until: str | None = None,
) -> int:
    """Do what is not done yet, and seal the release. Interrupt and resume at will.

    Nothing is paid for twice and nothing done is lost, whatever ends the run. Exit codes: 0
    complete, 1 wrong settings, 3 complete but for units that failed, 4 budget spent, 5 the endpoint
    or the disk gave out, 130 interrupted (the first Ctrl-C ends what is under way, the second one
    all).

    Args:
        build: the build's folder
        executor: local, or ray (needs hour-llava[ray])
        max_usd: stop before all runs together have spent more
        max_calls: stop before all runs together have made more calls
        max_tokens: stop before all runs together have used more tokens
        until: stop after this stage; no release
    """
    for flag, cap in (("usd", max_usd), ("calls", max_calls), ("tokens", max_tokens)):
        if cap is not None and not cap > 0:  # NaN included
            raise HourLlavaError(f"--max-{flag} {cap:g}: a limit is above 0; leave it out for none")
    opened = Build.open(build)
    caps = BudgetCaps(max_usd=max_usd, max_calls=max_calls, max_tokens=max_tokens)
    try:
        with watch_run() as watcher:
            report = run_build(opened, watcher, executor=executor, caps=caps, until=until)
    except asyncio.CancelledError:
        report = RunReport(exit_code=EXIT_INTERRUPTED, message="ended at once")
    _conclude(report, build, until)
    return report.exit_code


def _conclude(report: RunReport, build: Path, until: str | None) -> None:
    for release in report.sealed.releases if report.sealed else ():
        kind = "training data" if release.kind == "training" else "DEMONSTRATION, no training data"
        print(f"{printable(str(release.folder))}: {counted(release.num_rows, 'row')} ({kind})")
    if report.message:
        say(report.message)
    if report.spent.calls:
        say(f"all runs of this build together: {cost_line(report.spent)}")
    if report.is_idle and report.exit_code == EXIT_COMPLETE:
        say("nothing to do: every unit was done before" + ("" if until else ", the release stands"))
    if report.num_failed:
        say(
            f"{counted(report.num_failed, 'unit')} failed for good; `{_command('status', build)}` "
            f"says why, `{_command('retry', build)}` marks them for another try by the next run"
        )
    if report.num_unanswered:
        say(
            f"{counted(report.num_unanswered, 'unit')} got no answer after several tries; the next "
            "run asks again"
        )
    if report.exit_code not in (EXIT_COMPLETE, EXIT_QUARANTINED) or report.num_unanswered:
        say(f"to go on: {resume_command(build)}")


def _command(verb: str, build: Path) -> str:
    return f"hour-llava synth {verb} {shlex.quote(str(build))}"
