"""`hour-llava synth export`: write the releases of a build."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from hour_llava.commands.synth.wording import counted
from hour_llava.commands.terminal import printable, say
from hour_llava.videomarathon.build import Build
from hour_llava.videomarathon.release.seal import Sealed, seal
from hour_llava.videomarathon.settings import FILE


def export(
    build: Annotated[Path, tyro.conf.arg(metavar="BUILD_DIR")],
    /,
    *,
    name: str | None = None,
    out: Path | None = None,
    videos: bool = False,
) -> None:
    """Write the releases of a build: Parquet, training JSON, WebVTT, card, plots, checksums.

    Rows of generated truth and of real endpoints become training data; rows of measured facts or of
    a mock endpoint a second release that calls itself a demonstration in every file.

    Args:
        build: the build's folder
        name: of the release; that of build.toml without it
        out: folder for the releases; BUILD_DIR/release without it
        videos: copy the videos, too, where their licence allows it
    """
    report = seal(Build.open(build), name, out=out, with_videos=videos)
    for release in report.releases:
        print(_line(release))
        for item in release.left_out:
            say(f"not copied: {item.video} ({item.reason})")
        if release.left_out:
            say(
                f"videos are copied under an open licence: where all of the folder's have one, set "
                f"`licence` in {build / FILE} to its SPDX name, such as CC-BY-4.0, and run again"
            )
    if not report.releases:
        say(
            f"no accepted rows in {build}, so no release; `hour-llava synth stats {build}` says why"
        )
    elif not report.is_new:
        say("nothing to do: the releases already hold these rows")


def _line(release: Sealed) -> str:
    kind = "training data" if release.kind == "training" else "DEMONSTRATION, not training data"
    return (
        f"{printable(str(release.folder))}: {counted(release.num_rows, 'row')} of "
        f"{counted(release.num_videos, 'video')} ({kind})"
    )
