"""The videos themselves in a release: copied only on request, and only where the licence allows.

`youtube`, `unknown` or no licence at all is no permission.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hour_llava.errors import BuildError
from hour_llava.videomarathon.records import Video

_OPEN = re.compile(
    r"cc0(-1\.0)?|cc-by(-nc)?(-sa|-nd)?-[1-4]\.0|apache-2\.0|mit|public[- ]domain|pddl|unlicense"
)


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A video whose pixels stay where they are, and why."""

    video: str
    reason: str


def allows_copies(licence: str | None) -> bool:
    """Say whether a licence lets whole copies be passed on (an SPDX name, whatever the case)."""
    return licence is not None and _OPEN.fullmatch(licence.strip().lower()) is not None


def copy_videos(source: Path, folder: Path, videos: Sequence[Video]) -> tuple[LeftOut, ...]:
    """Copy the videos that may be copied to `folder`, under their paths.

    Raises:
        BuildError: a video is gone or cannot be copied.
    """
    left_out: list[LeftOut] = []
    for video in videos:
        if not allows_copies(video.licence):
            reason = f"licence: {video.licence or 'not stated'}"
            left_out.append(LeftOut(video=video.path, reason=reason))
            continue
        target = folder / video.path
        if not target.resolve().is_relative_to(folder.resolve()):
            raise BuildError(f"the video {video.path!r} lies outside the source folder {source}")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(source / video.path, target)
        except OSError as error:
            raise BuildError(
                f"cannot copy {source / video.path} into the release: {error.strerror}; seal "
                "without --videos, or make room"
            ) from error
    return tuple(left_out)
