"""How a video is remembered: one record that everything on the way hands on. No torch here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hour_llava.schema import Sampling
from hour_llava.session.answer import Progress, ProgressCallback

if TYPE_CHECKING:
    from hour_llava.memory.repository import MemoryRepository


def _ignore(_: Progress) -> None:
    """Stand for a progress callback that nobody gave."""


@dataclass(frozen=True, kw_only=True)
class RememberOptions:
    """Which frames are watched, who is told how far it is, and whether anything is kept.

    Args:
        fps: frames a second to watch; None: 1 of a video, a memory file's own.
        start: seconds, the video's own start by default.
        end: seconds, the video's own end by default.
        progress: is told how far it is, and what it will cost.
        use_cache: False neither reads nor keeps anything on disk.
        before_watching: is given the memory that is about to be made, without its features, and
            may raise: what cannot be asked afterwards need not be watched.
    """

    fps: float | None = None
    start: float | None = None
    end: float | None = None
    progress: ProgressCallback = _ignore
    use_cache: bool = True
    before_watching: Callable[[MemoryRepository], None] | None = None

    @property
    def sampling(self) -> Sampling:
        """Name the frames of a video that are watched."""
        fps = 1.0 if self.fps is None else self.fps
        return Sampling(fps=fps, start_seconds=self.start or None, end_seconds=self.end)
