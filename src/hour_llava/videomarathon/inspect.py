"""From a row back to what made it: evidence, captions, raw calls, and the frames themselves.

find_row -> Found(video, row)
describe(found, read) -> lines      words, from the row to the raw replies of its calls
draw_contact_sheet(path, found)     a line of frames for each piece of evidence
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# Matplotlib's types are partial.
from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hour_llava.errors import BuildError
from hour_llava.tasks import task_named
from hour_llava.video import read_frames
from hour_llava.videomarathon.records import (
    ClipCaption,
    Event,
    Evidence,
    Provenance,
    QAPair,
    Span,
    Verdict,
)
from hour_llava.videomarathon.release.chapters import timestamp
from hour_llava.videomarathon.release.content import (
    DEMONSTRATION_NOTE,
    Content,
    VideoContent,
)
from hour_llava.videomarathon.stages.verify import LONG_FORM

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from hour_llava.videomarathon.calls.ledger import StoredCall

FRAMES_A_SPAN, MAX_SPANS = 4, 6
_INK, _PALE, _ACCENT, _PAPER = "#1f2933", "#9aa5b1", "#d9480f", "#ffffff"
_SHORTENED = "kept as short-form"
_SHORT = 400  # letters of a raw reply that are shown unless all are asked for


@dataclass(frozen=True, kw_only=True)
class Found:
    """A row and the video it is about."""

    video: VideoContent
    row: QAPair

    def caption_of(self, item: Evidence) -> ClipCaption | Event | None:
        """Return the clip caption or event that a piece of evidence cites."""
        if item.clip_id is not None:
            return next((c for c in self.video.captions if c.clip_id == item.clip_id), None)
        return next((e for e in self.video.events if e.id == item.event_id), None)


def find_row(content: Content, wanted: str) -> Found:
    """Find a row by its id, or by the beginning of the id or of its part behind the colon.

    Raises:
        BuildError: none has this id, or several begin so; the message lists some.
    """
    all_found = [
        Found(video=video, row=row)
        for video in content.videos
        for row in video.rows
        if wanted and (row.id.startswith(wanted) or row.id.split(":", 1)[-1].startswith(wanted))
    ]
    exact = [found for found in all_found if found.row.id == wanted]
    if len(exact or all_found) == 1:
        return (exact or all_found)[0]
    if not all_found:
        some = next((row.id for video in content.videos for row in video.rows), None)
        hint = f"an id looks like {some}" if some else "the build has no rows yet"
        raise BuildError(f"no row {wanted!r} in the build; {hint}; `synth browse` lists them")
    some = ", ".join(found.row.id for found in all_found[:3])
    raise BuildError(f"{len(all_found)} rows begin with {wanted!r}: {some}, ...; give more letters")


def describe(
    found: Found, *, read_call: Callable[[str], StoredCall | None], is_raw: bool = False
) -> list[str]:
    """Return the way from a row to its calls in lines.

    Args:
        found: The row.
        read_call: Looks a call up in the build's ledger.
        is_raw: Show replies whole.
    """
    row, video = found.row, found.video.video
    task = task_named(row.task)
    lines = [
        f"row {row.id}: {row.status}" + _reasons(row),
        f"{task.topic}: {task.name}, {'multiple-choice' if row.options else 'open-ended'}, "
        f"{row.form}-form",
        f"question  {row.question}",
    ]
    for option in row.options or ():
        lines.append(f"        {'->' if option == row.answer else '  '} {option}")
    lines.append(f"answer    {row.answer}")
    lines.append(f"video     {video.path} ({timestamp(video.duration_ms // 1000)}, id {video.id})")
    if found.video.kind == "demonstration":
        lines.append(f"          {DEMONSTRATION_NOTE}")
    lines += ["", "evidence"]
    lines += [line for item in row.evidence for line in _evidence(found, item)] or ["  none cited"]
    if row.claim is not None:
        lines.append(f"computed  {row.claim.claim} = {row.claim.value}")
        lines += [f"  {item.label}: {_between(item.span)}" for item in row.claim.items]
    lines += ["", "verdicts"]
    lines += [_verdict(row, verdict) for verdict in row.verdicts]
    lines += ["", "made by"]
    for provenance in _provenances(found):
        lines += _calls(provenance, read_call, is_raw=is_raw)
    return lines


def draw_contact_sheet(path: Path, found: Found, *, source: Path) -> Path:
    """Write the frames of a row's evidence as a PNG; a row that cites nothing shows the video.

    Args:
        path: The PNG; replaced whole or not at all.
        found: The row.
        source: The folder that the video's path starts from.

    Raises:
        BuildError: the picture cannot be written.
        VideoError: the video is gone or cannot be read.
    """
    video = found.video.video
    whole = Span(start_ms=0, end_ms=video.duration_ms)
    spans = [(item.span, item.quote) for item in found.row.evidence[:MAX_SPANS]]
    strips = [
        (span, quote, read_strip(source / video.path, span))
        for span, quote in spans or [(whole, "cites nothing: the whole video")]
    ]
    figure = _draw(found, strips)
    partial = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(partial, format="png", facecolor=_PAPER, metadata={"Software": None})
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise BuildError(
            f"cannot write the contact sheet {path}: {error.strerror}; name another with --out"
        ) from error
    return path


def read_strip(
    video: Path, span: Span, count: int = FRAMES_A_SPAN
) -> list[tuple[float, NDArray[np.uint8]]]:
    """Return (seconds, RGB frame) of `count` even moments inside a span.

    Raises:
        VideoError: the video cannot be read.
    """
    step = span.duration_ms / 1000 / count
    start = span.start_ms / 1000 + step / 2
    with read_frames(
        video, fps=1 / step, start_seconds=start, end_seconds=span.end_ms / 1000, threads=1
    ) as frames:
        return [(frame.tick_seconds, frame.rgb) for frame in frames]


def _reasons(row: QAPair) -> str:
    words = [_SHORTENED if _is_shortened(row, reason) else reason for reason in row.reasons]
    return f" ({', '.join(words)})" if words else ""


def _verdict(row: QAPair, verdict: Verdict) -> str:
    line = f"  {verdict.outcome:<5} {verdict.rule}: {verdict.detail}".rstrip(": ")
    is_shortened = verdict.outcome == "fail" and _is_shortened(row, verdict.rule)
    return f"{line}; {_SHORTENED}" if is_shortened else line


def _is_shortened(row: QAPair, rule: str) -> bool:
    """Say whether failing this rule made the row short-form instead of rejecting it."""
    return rule == LONG_FORM and row.status == "accepted" and row.form == "short"


def _evidence(found: Found, item: Evidence) -> Iterator[str]:
    cited = found.caption_of(item)
    place = item.clip_id or item.event_id or "the global caption"
    yield f"  {_between(item.span)}  {item.quote!r} in {place}"
    if isinstance(cited, ClipCaption):
        for name, text in cited.aspects.model_dump().items():
            mark = "*" if item.quote in text else " "
            yield f"    {mark} {name:<12}{text}"
    elif isinstance(cited, Event):
        yield f"      {cited.title}: {cited.narrative}"


def _provenances(found: Found) -> list[Provenance]:
    """List the row's own maker, then those of the captions that it cites, each once."""
    cited = [found.caption_of(item) for item in found.row.evidence]
    everyone = [found.row.provenance, *(item.provenance for item in cited if item is not None)]
    if found.video.global_caption is not None:
        everyone.append(found.video.global_caption.provenance)
    return list(dict.fromkeys(everyone))


def _calls(
    by: Provenance, read_call: Callable[[str], StoredCall | None], *, is_raw: bool
) -> Iterator[str]:
    words = [by.backend, by.model, f"prompt {by.prompt}" if by.prompt else None]
    yield f"  {by.stage}: {', '.join(word for word in words if word)}"
    if not by.call_keys and by.backend in ("truth", "embedded"):
        yield "    no call was made"
    for key in by.call_keys:
        call = read_call(key)
        if call is None:
            yield f"    call {key}: not in this build's ledger"
            continue
        yield (
            f"    call {key}: {call.model}, {call.prompt_tokens:,} + {call.completion_tokens:,} "
            "tokens"
        )
        yield from _raw(call, is_raw=is_raw)


def _raw(call: StoredCall, *, is_raw: bool) -> Iterator[str]:
    body = call.body
    with suppress(ValueError, KeyError, IndexError, TypeError):
        body = json.loads(body)["choices"][0]["message"]["content"] or body
    text = body if is_raw or len(body) <= _SHORT else f"{body[:_SHORT]} ... (--raw shows all)"
    for line in text.splitlines():
        yield f"      | {line}"


def _draw(
    found: Found, strips: Sequence[tuple[Span, str, Sequence[tuple[float, NDArray[np.uint8]]]]]
) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    strip_height = 1.8
    height = 1.2 + strip_height * len(strips)
    figure = Figure(figsize=(9.6, height), dpi=110, facecolor=_PAPER)
    FigureCanvasAgg(figure)
    _write(figure, 1 - 0.35 / height, found.row.question, 100, fontsize=11.5, color=_INK)
    _write(figure, 1 - 0.75 / height, found.row.answer, 90, fontsize=13, color=_ACCENT)
    if found.video.kind == "demonstration":
        _write(figure, 0.08 / height, DEMONSTRATION_NOTE, 120, fontsize=8, color=_PALE)
    for number, (span, quote, frames) in enumerate(strips):
        top = height - 1.0 - strip_height * number
        words = f"{_between(span)}   {quote}"
        _write(figure, (top - 0.2) / height, words, 125, fontsize=9, color=_INK)
        width = 0.9 / FRAMES_A_SPAN
        for column, (seconds, rgb) in enumerate(frames):
            place = (0.05 + column * width, (top - 1.6) / height, width - 0.01, 1.28 / height)
            axes = figure.add_axes(place, anchor="N")
            axes.imshow(rgb)
            axes.set(xticks=[], yticks=[])
            axes.set_xlabel(timestamp(int(seconds)), color=_INK, fontsize=9)
            for spine in axes.spines.values():
                spine.set(color=_ACCENT, linewidth=1)
    return figure


def _write(
    figure: Figure, y: float, words: str, width: int, *, fontsize: float, color: str
) -> None:
    plain = "".join(letter if letter.isprintable() else " " for letter in words)
    text = textwrap.shorten(plain, width, placeholder=" ...")
    figure.text(0.05, y, text, fontsize=fontsize, color=color, va="center", parse_math=False)


def _between(span: Span) -> str:
    return f"{timestamp(span.start_ms // 1000)}-{timestamp(-(-span.end_ms // 1000))}"
