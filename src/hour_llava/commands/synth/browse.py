"""`hour-llava synth browse`: a build as one HTML page."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import tyro

from hour_llava.commands.terminal import say
from hour_llava.videomarathon.browse import MAX_VIDEOS, write_page
from hour_llava.videomarathon.build import Build


def browse(
    build: Annotated[Path, tyro.conf.arg(metavar="BUILD_DIR")],
    /,
    *,
    out: Path | None = None,
    video: str | None = None,
    max_videos: int = MAX_VIDEOS,
    open: bool = False,
) -> None:
    """Write one HTML page to look at a build, finished or not, and print its path.

    The page needs no server and fetches nothing; it plays the videos from where they lie.

    Args:
        build: the build's folder
        out: the page; BUILD_DIR/browse.html without it
        video: only the video of this id or path
        max_videos: the first so many
        open: show it in the browser
    """
    opened = Build.open(build)
    page = write_page(
        opened,
        build / "browse.html" if out is None else out,
        title=f"{opened.settings.name} ({opened.folder.name})",
        video=video,
        max_videos=max_videos,
    )
    if page.num_left_out:
        say(f"{page.num_left_out:,} more videos are not on the page; see --max-videos and --video")
    print(page.path)
    if open:
        webbrowser.open(page.path.resolve().as_uri())
