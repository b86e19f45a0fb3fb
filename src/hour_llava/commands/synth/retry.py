"""`hour-llava synth retry`: give failed units another chance."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from hour_llava.commands.synth.wording import counted
from hour_llava.commands.terminal import say
from hour_llava.videomarathon.build import Build
from hour_llava.videomarathon.retry import clear_failures
from hour_llava.videomarathon.runner import resume_command


def retry(
    build: Annotated[Path, tyro.conf.arg(metavar="BUILD_DIR")],
    /,
    *,
    stage: str | None = None,
) -> None:
    """Mark failed units for another try; the next run makes it. Nothing is asked now.

    What their calls brought stays in the ledger; only new answers are paid for.

    Args:
        build: the build's folder
        stage: only this stage's units
    """
    num_cleared = clear_failures(Build.open(build), stage)
    if num_cleared:
        marked = f"{counted(num_cleared, 'unit')} marked for another try"
        say(f"{marked}; to make it: {resume_command(build)}")
    else:
        say("nothing to retry: no unit has failed")
