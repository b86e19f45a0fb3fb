"""`hour-llava synth retry`: give failed units another chance."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from hour_llava.commands.terminal import say
from hour_llava.videomarathon.build import Build
from hour_llava.videomarathon.retry import clear_failures


def retry(
    build: Annotated[Path, tyro.conf.arg(metavar="BUILD_DIR")],
    /,
    *,
    stage: str | None = None,
) -> None:
    """Forget why units failed, so that the next run tries them again.

    What their calls brought stays in the ledger; only new answers are paid for.

    Args:
        build: the build's folder
        stage: only this stage's units
    """
    num_cleared = clear_failures(Build.open(build), stage)
    if num_cleared:
        say(f"{num_cleared} units will be tried again; now: hour-llava synth run {build}")
    else:
        say("nothing to retry: no unit has failed")
