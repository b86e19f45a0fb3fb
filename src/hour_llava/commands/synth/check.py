"""`hour-llava synth check`: is a build, or a release, what it claims to be?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from hour_llava.commands.synth.wording import counted
from hour_llava.errors import BuildError
from hour_llava.videomarathon.build import Build
from hour_llava.videomarathon.checking import (
    CheckReport,
    check_build,
    check_release,
    check_sealed,
    sealed_in,
)
from hour_llava.videomarathon.settings import FILE


def check(
    folder: Annotated[Path, tyro.conf.arg(metavar="BUILD_DIR|RELEASE_DIR")],
    /,
) -> None:
    """Look at every record of a build with its releases, or of one release; stop at a fault.

    A build's accepted rows are held against the rows of its releases, too: none lost, none more.

    Checksums, records, ids and links, evidence inside its video and quoted verbatim, exactly one
    right option, computed answers computed again, the training JSON. Exit code 1 and one line name
    the first fault.

    Args:
        folder: a build's folder, or that of a release
    """
    if (folder / FILE).is_file():
        build = Build.open(folder)
        print(_line(str(folder), check_build(build)))
        for release in sealed_in(folder):
            print(_line(str(release), check_release(release)))
        check_sealed(build)
    elif (folder / "release.json").is_file():
        print(_line(str(folder), check_release(folder)))
    else:
        raise BuildError(
            f"{folder} is neither a build ({FILE} is missing) nor a release (release.json is "
            "missing); name the folder of one"
        )


def _line(name: str, report: CheckReport) -> str:
    files = f", {counted(report.num_files, 'file')} as in the manifest" if report.num_files else ""
    return (
        f"{name}: {report.kind} in order: {counted(report.num_videos, 'video')}, "
        f"{counted(report.num_captions, 'caption')}, {counted(report.num_events, 'event')}, "
        f"{counted(report.num_rows, 'row')} "
        f"({report.num_accepted:,} accepted){files}"
    )
