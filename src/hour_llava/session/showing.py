"""Showing an answer: the evidence picture of one question about one memory."""

from __future__ import annotations

from pathlib import Path

from hour_llava.memory.repository import MemoryRepository
from hour_llava.session.answer import Answer
from hour_llava.session.evidence import top_frames
from hour_llava.session.picture import MAX_THUMBNAILS, clock, clock_digits, draw_evidence
from hour_llava.session.thumbnails import images_of_video, nearest_images

# Moments read less than this share of the strongest one are not shown.
_MIN_SHARE = 0.1


def draw_answer(
    path: str | Path,
    *,
    question: str,
    answer: Answer,
    memory: MemoryRepository,
    video: Path | None = None,
    title: str | None = None,
) -> Path:
    """Write the evidence picture of an answer that was asked for with `evidence=True`.

    Args:
        path: the picture; its suffix chooses the format.
        question: what was asked.
        answer: with its mass.
        memory: that was asked; its thumbnails serve where there is no video.
        video: the file to take pictures from.
        title: stands for the answer's text.

    Raises:
        ValueError: the answer was given without evidence.
        ResourceError: the picture cannot be written.
    """
    if answer.mass_F is None or answer.times_F is None:
        raise ValueError("this answer holds no evidence; ask with evidence=True")
    mass_F, times_F = answer.mass_F, answer.times_F
    strong = [
        frame
        for frame in top_frames(mass_F, MAX_THUMBNAILS, min_gap=1)
        if mass_F[frame] >= _MIN_SHARE * mass_F.max()
    ]
    seconds = [float(times_F[frame]) for frame in strong]
    images = images_of_video(video, seconds, fps=memory.sampling.fps) if video else []
    return draw_evidence(
        path,
        question=question,
        answer=answer.text if title is None else title,
        mass_F=mass_F,
        times_F=times_F,
        spans=answer.evidence,
        thumbnails=images or nearest_images(memory.thumbnails, seconds),
        note=f"{answer.model}: {clock(memory.duration_seconds)} of video, "
        f"{answer.memory_tokens:,} memory tokens",
        digits=clock_digits(memory.sampling.fps),
    )
