"""What is wrong with a sample, in words: one place for training and for `data check`.

Pure: nothing is opened, neither torch nor a tokenizer is needed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from hour_llava.data.manifest import IMAGE, VIDEO, Sample
from hour_llava.schema import DamagedSpan

SPEAKERS = {"human": "human", "user": "human", "gpt": "gpt", "assistant": "gpt"}
MAX_PIXEL_FRAMES = 1024
"""Longer videos must come as features: an hour as pixels takes 6.4 GB."""
MAX_DAMAGED = 0.05
"""Share of a video whose frames may be repeated ones; with more it does not show what is asked."""
_OPTION_LINE = re.compile(r"^\s*\(?[A-Z][.):]", re.MULTILINE)
_LEAK_WORDS = 4
_CONTROL = re.compile(
    r"<\|(?:im_start|im_end|endoftext|(?:object_ref|box|quad|vision)_(?:start|end)"
    r"|(?:vision|image|video)_pad)\|>"
)
"""What Qwen's tokenizers make one token of wherever it stands: a turn would end within a text."""
_SURROGATE = re.compile("[\ud800-\udfff]")
"""Half of a character: JSON can hold it (`\\ud800`), Unicode and tokenizers cannot."""


def conversation_faults(sample: Sample) -> list[tuple[str, str]]:
    """List what forbids training on a sample: (kind, what exactly)."""
    speakers = [turn["from"] for turn in sample.conversations]
    start = 1 if speakers[0] == "system" else 0
    faults: list[tuple[str, str]] = []
    for number, name in enumerate(speakers[start:], start=start):
        if name not in SPEAKERS:
            said = name.encode("utf-8", "backslashreplace").decode()
            faults.append(("role", f"turn {number} is from `{said}`; it must be human or gpt"))
    roles = [SPEAKERS.get(name, name) for name in speakers[start:]]
    if not faults:
        faults += _order_faults(roles, start)
    for number, turn in enumerate(sample.conversations):
        if control := _CONTROL.search(turn["value"]):
            faults.append(("control", f"turn {number} holds the control token {control[0]}"))
        if half := _SURROGATE.search(turn["value"]):
            code = f"\\u{ord(half[0]):04x}"
            faults.append(("unicode", f"turn {number} holds {code}, half of a character"))
    for number, turn in enumerate(sample.conversations[start:], start=start):
        role, value = SPEAKERS.get(turn["from"]), turn["value"]
        words = value.replace(IMAGE, "").replace(VIDEO, "").strip()
        if role == "human" and not words:
            faults.append(("question", f"turn {number} asks nothing"))
        if role == "gpt" and not words:
            faults.append(("answer", f"turn {number}, an answer, is empty"))
        if role == "gpt" and (IMAGE in value or VIDEO in value):
            faults.append(("placeholder", f"turn {number}, an answer, holds a placeholder"))
    return faults + _placeholder_faults(sample)


def _order_faults(roles: list[str], start: int) -> list[tuple[str, str]]:
    if "human" not in roles:
        return [("question", "nobody asks: no turn is human's")]
    if "gpt" not in roles:
        return [("answer", "nobody answers: no turn is gpt's")]
    if roles[0] != "human":
        return [("role", f"turn {start} is gpt's; a conversation begins with human")]
    for number, (one, two) in enumerate(pairwise(roles), start=start):
        if one == two:
            return [("role", f"turns {number} and {number + 1} are both {one}'s")]
    if roles[-1] != "gpt":
        return [("answer", f"the last turn, {start + len(roles) - 1}, is a question unanswered")]
    return []


def _placeholder_faults(sample: Sample) -> list[tuple[str, str]]:
    text = "".join(turn["value"] for turn in sample.conversations)
    num_images, num_videos = text.count(IMAGE), text.count(VIDEO)
    has_video = bool(sample.video or sample.features)
    first = sample.conversations[0] if sample.conversations else {"from": "", "value": ""}
    if first["from"] == "system" and (IMAGE in first["value"] or VIDEO in first["value"]):
        return [("placeholder", "the system's turn holds a placeholder; put it into a question")]
    if num_videos > 1:
        return [("placeholder", f"{num_videos} {VIDEO} in it; a sample is about one video")]
    if num_videos and not has_video:
        return [("placeholder", f"{VIDEO} in the text, and no video")]
    if num_images == 0 and len(sample.images) == 1:
        return []  # it is put first, as for a video
    if num_images != len(sample.images):
        return [("placeholder", f"{num_images} {IMAGE} in the text, {len(sample.images)} images")]
    return []


def pixel_fault(video: str, num_frames: int, limit: int = MAX_PIXEL_FRAMES) -> str:
    """Say that a video file is too long to be read as pixels; nothing where it is not."""
    if num_frames <= limit:
        return ""
    return (
        f"{video} has {num_frames:,} frames, at most {limit:,} are read as pixels: `hour-llava "
        "extract` makes features of long videos"
    )


def damage_fault(video: str, damage: Sequence[DamagedSpan], duration_seconds: float) -> str:
    """Say that too much of a video file cannot be decoded; nothing where it is little.

    Args:
        video: The file.
        damage: What its reader names; what was cut off is a span behind the end.
        duration_seconds: Of what is there.
    """
    lost = sum(span.end_seconds - span.start_seconds for span in damage)
    whole = max([duration_seconds, *(span.end_seconds for span in damage)])
    if lost <= MAX_DAMAGED * whole:
        return ""
    first = damage[0]
    return (
        f"{video} is damaged for {lost:,.0f} of {whole:,.0f} s, first at {first.start_seconds:,.1f}"
        f" s ({first.reason}); at most {MAX_DAMAGED:.0%} is taken: copy the file again"
    )


def leaks(sample: Sample) -> list[str]:
    """List answers that stand, word for word, in their own question; options do not count."""
    found: list[str] = []
    turns = sample.conversations
    for number, (question, answer) in enumerate(pairwise(turns)):
        is_pair = (
            SPEAKERS.get(question["from"]) == "human" and SPEAKERS.get(answer["from"]) == "gpt"
        )
        if not is_pair or _OPTION_LINE.search(question["value"]):
            continue
        said = " ".join(answer["value"].lower().split()).rstrip(".")
        asked = " ".join(question["value"].lower().split())
        if len(said.split()) >= _LEAK_WORDS and said in asked:
            found.append(f"the answer of turn {number + 1} stands in its question: {said[:60]!r}")
    return found
