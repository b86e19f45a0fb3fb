"""WebVTT of a video: its events as chapters, its clips as metadata cues that hold JSON.

Source: W3C WebVTT, sections 4.4 (chapters) and 4.5 (metadata): no cue text holds `-->` or an empty
line, chapter cues do not overlap.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from hour_llava.videomarathon.records import ClipCaption, Event


def write_chapters(events: Sequence[Event], note: str = "") -> str:
    """Return the events as chapter cues; one that reaches into the next ends where that begins."""
    ordered = sorted(events, key=lambda event: (event.span.start_ms, event.span.end_ms))
    ends = [event.span.start_ms for event in ordered[1:]] + [2**62]
    cues = [
        _cue(f"event-{event.index}", event.span.start_ms, end, _escape(event.title))
        for event, next_start in zip(ordered, ends, strict=True)
        if (end := min(event.span.end_ms, next_start)) > event.span.start_ms
    ]
    return _file(cues, note)


def write_clips(captions: Iterable[ClipCaption], note: str = "") -> str:
    """Return the clips as metadata cues: JSON of id, aspects, who said it and if it is usable."""
    cues: list[str] = []
    for number, caption in enumerate(captions):
        payload = {
            "clip_id": caption.clip_id,
            **caption.aspects.model_dump(),
            "backend": caption.provenance.backend,
            "is_usable": caption.is_usable,
        }
        text = json.dumps(payload, ensure_ascii=False).replace("-->", "--\\u003e")
        cues.append(_cue(f"clip-{number}", caption.span.start_ms, caption.span.end_ms, text))
    return _file(cues, note)


def timestamp(milliseconds: int) -> str:
    """Return hh:mm:ss.mmm; hours may have more digits."""
    seconds, rest = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}.{rest:03}"


def _cue(name: str, start_ms: int, end_ms: int, text: str) -> str:
    return f"{name}\n{timestamp(start_ms)} --> {timestamp(end_ms)}\n{text}\n"


def _escape(title: str) -> str:
    words = " ".join(title.split())
    return words.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") or "untitled"


def _file(cues: Iterable[str], note: str) -> str:
    head = ["WEBVTT\n", f"NOTE {note}\n"] if note else ["WEBVTT\n"]
    return "\n".join([*head, *cues])
