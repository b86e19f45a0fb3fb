"""The families of questions: which task each belongs to, and what can be answered.

A family is one kind of question with one kind of answer; several may serve one of the 22 tasks.
The first eleven ask of needles and scenes; the others ask of the story and of two times at once.
"""

from __future__ import annotations

import math
from types import MappingProxyType

from hour_llava.world.timeline import ACTIONS, CELLS, COLOURS, DIGITS, SCENES, SHAPES, VERBS

EIGHTHS: tuple[str, ...] = (
    "first eighth",
    "second eighth",
    "third eighth",
    "fourth eighth",
    "fifth eighth",
    "sixth eighth",
    "seventh eighth",
    "last eighth",
)
DURATIONS: tuple[str, ...] = ("1 second", "2 seconds", "3 seconds", "4 seconds")
RELATIONS: tuple[str, ...] = ("same corner", "same row", "same column", "opposite corner")
SIDES: tuple[str, ...] = ("left", "right")
BESIDE: tuple[str, ...] = ("before", "after")
YES_NO: tuple[str, ...] = ("yes", "no")

LADDER_SECONDS = (
    *(4, 6, 8, 12, 16, 24, 32, 45),
    *(60 * minutes for minutes in (1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 45)),
    *(3600 * hours for hours in (1, 1.5, 2, 3, 4, 6, 8, 12, 16)),
)
LADDER_TOLERANCE = 0.12


def _ladder_name(seconds: float) -> str:
    if seconds < 60:
        return f"about {seconds} seconds"
    if seconds == 90:
        return "about 90 seconds"
    if seconds < 3600:
        return f"about {seconds // 60:.0f} minute{'s' if seconds > 60 else ''}"
    if seconds == 5400:
        return "about 90 minutes"
    return f"about {seconds // 3600:.0f} hour{'s' if seconds > 3600 else ''}"


LADDER: tuple[str, ...] = tuple(_ladder_name(seconds) for seconds in LADDER_SECONDS)
"""Rounded lengths of time, each at least a third longer than the one before."""


def rung_of(seconds: float) -> str | None:
    """Name the rounded length within 12 % of a length; None where it stands between two."""
    nearest = min(range(len(LADDER)), key=lambda i: abs(math.log(LADDER_SECONDS[i] / seconds)))
    is_near = abs(seconds - LADDER_SECONDS[nearest]) <= LADDER_TOLERANCE * seconds
    return LADDER[nearest] if is_near else None


def rungs_within(seconds: float) -> tuple[str, ...]:
    """List the rounded lengths that fit into a video; at least four."""
    fitting = sum(rung <= seconds for rung in LADDER_SECONDS)
    return LADDER[: max(4, fitting)]


FAMILIES: tuple[str, ...] = (
    "object",
    "colour",
    "digit",
    "scene",
    "action",
    "position",
    "existence",
    "order",
    "when",
    "next_scene",
    "duration",
)
"""The eleven of needles and scenes, which the first nano models learned."""

_TASKS_AND_FAMILIES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("temporal_perception", ("when", "duration")),
    ("duration_perception", ("scene_duration",)),
    ("temporal_reasoning", ("longer_scene",)),
    ("temporal_gap_estimation", ("gap",)),
    ("temporal_order", ("order", "scene_order")),
    ("spatial_perception", ("position", "side")),
    ("spatial_reasoning", ("relation",)),
    ("object_recognition", ("object", "digit")),
    ("object_attribute", ("colour",)),
    ("object_interaction", ("patient", "agent", "verb")),
    ("object_reasoning", ("same_colour", "colour_match")),
    ("object_existence", ("existence", "both")),
    ("object_permanence", ("return_place", "return_stays", "out_of_sight")),
    ("action_recognition", ("action",)),
    ("action_localization", ("action_when", "action_beside")),
    ("action_sequence", ("action_order", "act_sequence")),
    ("action_reasoning", ("effect", "same_action")),
    ("scene_recognition", ("scene",)),
    ("scene_transition", ("next_scene", "previous_scene", "between_scene")),
    ("event_sequence", ("scene_sequence", "flash_sequence")),
    ("key_event_extraction", ("main_scene", "highlight")),
    ("overall_summarization", ("summary",)),
)

TASK_OF: MappingProxyType[str, str] = MappingProxyType(
    {family: task for task, families in _TASKS_AND_FAMILIES for family in families}
)
"""Slug of the task that a family belongs to."""

STORY_FAMILIES: tuple[str, ...] = tuple(family for family in TASK_OF if family not in FAMILIES)
ALL_FAMILIES: tuple[str, ...] = (*FAMILIES, *STORY_FAMILIES)

SEQUENCES: tuple[str, ...] = ("act_sequence", "scene_sequence", "flash_sequence")
"""Answers are three names in their order, "cave, ocean, snow"."""

OPEN_FAMILIES: tuple[str, ...] = (*SEQUENCES, "summary")
"""Families whose answers are not listed in `ANSWERS`."""

TWO_NAMED: tuple[str, ...] = ("order", "scene_order", "longer_scene", "action_order")
"""The question names two things, and one of them is the answer."""

ALTERNATING: tuple[str, ...] = ("existence", "both", "colour_match")
"""Yes and no take turns in the list of facts, and go on doing so when questions are drawn."""

ANSWERS: dict[str, tuple[str, ...]] = {
    "object": SHAPES,
    "colour": COLOURS,
    "digit": DIGITS,
    "scene": SCENES,
    "action": ACTIONS,
    "position": CELLS,
    "existence": YES_NO,
    "order": SHAPES,
    "when": EIGHTHS,
    "next_scene": SCENES,
    "duration": DURATIONS,
    "scene_duration": LADDER,
    "longer_scene": SCENES,
    "gap": LADDER,
    "scene_order": SCENES,
    "side": SIDES,
    "relation": RELATIONS,
    "patient": SHAPES,
    "agent": SHAPES,
    "verb": VERBS,
    "same_colour": SHAPES,
    "colour_match": YES_NO,
    "both": YES_NO,
    "return_place": CELLS,
    "return_stays": YES_NO,
    "out_of_sight": LADDER,
    "action_when": EIGHTHS,
    "action_beside": BESIDE,
    "action_order": ACTIONS,
    "effect": ACTIONS,
    "same_action": YES_NO,
    "previous_scene": SCENES,
    "between_scene": SCENES,
    "main_scene": SCENES,
    "highlight": SCENES,
}
"""What can be answered a family; multiple choice draws its wrong options from here."""


def families_of(task: str) -> tuple[str, ...]:
    """List the families of a task's slug."""
    return tuple(family for family in ALL_FAMILIES if TASK_OF[family] == task)


def formats_of(family: str) -> tuple[str, ...]:
    """List a family's formats: a summary is open-ended only."""
    return ("oe",) if family == "summary" else ("oe", "mc")


def num_options(family: str) -> int:
    """Return how many options a multiple-choice question of a family has."""
    return 4 if family in OPEN_FAMILIES else min(4, len(ANSWERS[family]))


def chance_of(family: str, format: str) -> float:
    """Return what guessing gets that has read the question but not seen the video.

    Some questions name two or three things of which one is the answer; *duration* is never 4
    seconds; three things can be put in six orders; no summary is guessed.
    """
    known = {"duration": 1 / 3, "same_colour": 1 / 3, "summary": 0.0}
    known |= dict.fromkeys(TWO_NAMED, 1 / 2)
    if family in known:
        return known[family]
    if family in SEQUENCES:
        return 1 / 6 if format == "oe" else 1 / 4
    return 1 / (num_options(family) if format == "mc" else len(ANSWERS[family]))
