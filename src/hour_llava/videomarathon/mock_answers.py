"""What the mock server's model says: made from a digest of the request, and from its own prompt.

A clip's caption comes from a small invented story of its video, so that neighbours agree; events,
narratives and questions are put together from the notes in the prompt, with quotes copied from
them. So a build runs through to its release without a model, and a good part of its rows survives
the checks. None of it says anything about the video: such rows are marked `mock`, for ever.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

_PEOPLE = ("tall man", "young woman", "old man", "girl", "boy", "chef", "gardener", "painter")
_COLOURS = ("red", "blue", "green", "yellow", "white", "black", "orange", "purple")
_THINGS = (
    *("bowl", "cup", "basket", "bottle", "ladder", "lamp", "chair", "box", "book", "ball", "bag"),
    *("plate", "rope", "brush", "hat", "kettle", "vase", "drum", "towel", "bucket"),
)
_ACTIONS = (
    ("lifts", "lifting"),
    ("cleans", "cleaning"),
    ("carries", "carrying"),
    ("turns", "turning"),
    ("paints", "painting"),
    ("opens", "opening"),
    ("shakes", "shaking"),
    ("repairs", "repairing"),
    ("measures", "measuring"),
    ("wraps", "wrapping"),
)
_PLACES = (
    ("kitchen", "bright, with light from a wide window"),
    ("garden", "sunny, with short shadows on the grass"),
    ("workshop", "dim, with one lamp above the bench"),
    ("street", "grey and wet after rain"),
    ("library", "quiet and evenly lit"),
    ("beach", "hazy, under a pale sky"),
    ("station", "crowded and lit by neon tubes"),
    ("barn", "dusty, with light between the boards"),
)
_SCENE_SECONDS = 70
_NOTE = re.compile(r"^\[(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)s\]\s*(.*)$", re.MULTILINE)
_KIND = re.compile(r"^- ([A-Z][A-Za-z ]+?)( \(from facts\))?: ", re.MULTILINE)
_FACT = re.compile(r"^(F\d+) \(([^)]+)\): to be asked: (.*?) The answer: (.*)$", re.MULTILINE)
_OPTION = re.compile(r"^([A-Z])\. (.*)$", re.MULTILINE)
_LONG = "two or more moments"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request as the model sees it, and the unit that its header names."""

    schema: Mapping[str, Any]
    text: str
    unit: str

    @property
    def digest(self) -> str:
        """Return what answers are drawn from: the words alone, so that a plan can foretell them."""
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class _Note:
    key: str
    start: float
    text: str


def answer(asked: Asked) -> str:
    """Return the JSON text of an answer in the request's schema; equal requests, equal text."""
    title = str(asked.schema.get("title", ""))
    properties: Mapping[str, Any] = asked.schema.get("properties", {})
    if "Temporality" in properties:
        value: Any = _caption(asked)
    elif title == "EventSplit":
        value = _events(_notes(asked.text))
    elif "Event-Level Description" in properties:
        value = {"Event-Level Description": _tell_event(asked.text)}
    elif "Global-Level Description" in properties:
        value = {"Global-Level Description": _tell_video(_notes(asked.text))}
    elif title == "QAReply":
        value = _questions(asked)
    elif "entailed" in properties:
        value = {"entailed": _entailed(asked.text), "why": "The notes say so."}
    elif set(properties) == {"answer"}:
        value = {"answer": _guess(asked)}
    else:
        value = fill_schema(asked.schema, asked.schema.get("$defs", {}), Random(asked.digest))
    return json.dumps(value, ensure_ascii=False)


def fill_schema(schema: Mapping[str, Any], defs: Mapping[str, Any], rng: Random) -> Any:
    """Return some value that fits a schema, for requests that are none of ours."""
    if "$ref" in schema:
        return fill_schema(defs[schema["$ref"].rpartition("/")[2]], defs, rng)
    if "enum" in schema:
        return rng.choice(schema["enum"])
    if "anyOf" in schema:
        return fill_schema(schema["anyOf"][0], defs, rng)
    kind = schema.get("type")
    if kind == "object":
        return {k: fill_schema(v, defs, rng) for k, v in schema.get("properties", {}).items()}
    if kind == "array":
        return [fill_schema(schema.get("items", {"type": "string"}), defs, rng) for _ in range(2)]
    plain: Mapping[str, Any] = {
        "integer": rng.randrange(10),
        "number": rng.randrange(10) / 2,
        "boolean": rng.random() < 0.5,
        "null": None,
    }
    return plain.get(str(kind), f"{rng.choice(_COLOURS)} {rng.choice(_THINGS)}")


def _caption(asked: Asked) -> Mapping[str, str]:
    """Describe a clip `<video>:<start_ms>-<end_ms>` of an invented story."""
    video, _, span = asked.unit.partition(":")
    times = re.match(r"(\d+)-\d+", span)
    second = int(times[1]) // 1000 if times else 0
    scene = Random(f"{video} {second // _SCENE_SECONDS}")
    place, light = scene.choice(_PLACES)
    person = scene.choice(_PEOPLE)
    clip = Random(f"{video} {second}")
    one, other = clip.sample(_THINGS, 2)
    colour, other_colour = clip.sample(_COLOURS, 2)
    (does, doing), (does_next, _) = clip.sample(_ACTIONS, 2)
    first, second_thing = f"{colour} {one}", f"{other_colour} {other}"
    return {
        "Temporality": f"First the {person} {does} the {first}; after that the {person} "
        f"{does_next} the {second_thing}.",
        "Spatiality": f"The {first} is to the left of the {second_thing}, in the {place}.",
        "Object": f"A {first} and a {second_thing} are beside the {person}.",
        "Action": f"The {person} is {doing} the {first}.",
        "Scene": f"The {place} is {light}; the {first} stands out.",
        "Summary": f"The {person} {does} the {first} in the {place}.",
    }


def _notes(text: str) -> list[_Note]:
    return [
        _Note(key=f"{m[1]}-{m[2]}s", start=float(m[1]), text=m[3].strip())
        for m in _NOTE.finditer(text)
    ]


def _events(notes: Sequence[_Note]) -> dict[str, str]:
    """Begin a new event where the notes' last word, the place, changes."""
    groups: list[list[_Note]] = []
    for note in notes:
        if not groups or _last_word(groups[-1][-1].text) != _last_word(note.text):
            groups.append([])
        groups[-1].append(note)
    if len(groups) < 3 <= len(notes):
        cut = -(-len(notes) // 3)
        groups = [list(notes[i : i + cut]) for i in range(0, len(notes), cut)]
    titles: dict[str, str] = {}
    for group in groups:
        key = f"{group[0].key.partition('-')[0]}-{group[-1].key.partition('-')[2]}"
        title = " ".join(group[0].text.rstrip(".").split()[:12])
        titles[key] = title if title not in titles.values() else f"{title} once more"
    return titles


def _last_word(text: str) -> str:
    return text.rstrip(". ").rpartition(" ")[2]


def _tell_event(text: str) -> str:
    notes = text.partition("Only for context")[0]
    told: list[str] = []
    for name in ("Summary", "Object"):
        told += [line.strip() for line in re.findall(rf"^\s+{name}: (.*)$", notes, re.MULTILINE)]
    return " ".join(dict.fromkeys(told)) or "Nothing is noted."


def _tell_video(notes: Sequence[_Note]) -> str:
    parts = [note.text.partition(": ")[0] for note in notes]
    return " ".join(f"{'Then' if i else 'First'}: {part}." for i, part in enumerate(parts))


def _questions(asked: Asked) -> dict[str, list[dict[str, Any]]]:
    text = asked.text
    is_choice = "multiple-choice" in text
    body = text.partition("Notes under the topic")[2]
    notes = _notes(body.partition("Events in the order of time, by their titles")[0])
    wanted = re.search(r"exactly (\d+) ", text)
    num_pairs = int(wanted[1]) if wanted else 3
    kinds = text.partition("The kinds of questions")[2].partition("Examples of their form")[0]
    facts = _FACT.findall(body)
    replies: dict[str, list[dict[str, Any]]] = {}
    for match in _KIND.finditer(kinds):
        name, is_fact = match[1], bool(match[2])
        line = kinds[match.start() :].partition("\n")[0]
        if is_fact:
            replies[name] = [
                {"question": question, "answer": said, "fact": key}
                for key, task, question, said in facts
                if task == name
            ][:num_pairs]
            continue
        rng = Random(f"{asked.digest} {name}")
        made = [_pair(name, notes, _LONG in line, is_choice, rng) for _ in range(num_pairs)]
        replies[name] = [pair for pair in made if pair is not None]
    return replies


def _pair(
    name: str, notes: Sequence[_Note], is_long: bool, is_choice: bool, rng: Random
) -> dict[str, Any] | None:
    """Ask for a part of one note (short) or of two notes that lie far apart (long)."""
    if len(notes) < (2 if is_long else 1):
        return None
    ordered = sorted(notes, key=lambda note: note.start)
    at = rng.randrange(len(ordered))
    cited = [ordered[at]]
    if is_long:
        far = [n for n in ordered if abs(n.start - cited[0].start) >= 60] or [ordered[at - 1]]
        cited = sorted([cited[0], rng.choice(far)], key=lambda note: note.start)
    asked_of, parts = zip(*(_split(note.text) for note in cited), strict=True)
    said = ", and later ".join(dict.fromkeys(parts))
    pair: dict[str, Any] = {
        "question": _QUESTIONS.get(name, "What can be seen of {}?").format(
            " and of ".join(asked_of)
        ),
        "answer": said,
        "evidence": [{"clip": note.key, "quote": note.text} for note in cited],
    }
    if is_choice:
        others = {_split(note.text)[1] for note in ordered} - set(parts)
        wrong = rng.sample(sorted(others), min(3, len(others)))
        if len(wrong) < 3:
            return None
        if is_long:
            wrong = [f"{one}, and later {parts[0]}" for one in wrong]
        options = rng.sample([*wrong, said], 4)
        pair["options"] = dict(zip("ABCD", options, strict=True))
        pair["answer"] = "ABCD"[options.index(said)]
    return pair


_QUESTIONS: Mapping[str, str] = {
    "Temporal Perception": "What happens around {}?",
    "Spatial Perception": "Where is {}?",
    "Object Recognition": "What can be seen together with {}?",
    "Action Recognition": "What is done by {}?",
    "Scene Recognition": "What is the place like where {} can be seen?",
}


def _split(text: str) -> tuple[str, str]:
    """Cut a note into what it speaks of and what it says of that."""
    sentence = re.split(r"[;.]", text.removeprefix("First "))[0].strip()
    match = re.match(
        r"((?:The|the|A|a) [\w ]+?) (is|and|are|lifts|cleans|carries|\w+s) (.*)", sentence
    )
    if match is None:
        words = sentence.split()
        half = max(1, len(words) // 2)
        return " ".join(words[:half]).lower(), " ".join(words[half:]) or sentence
    subject = match[1][0].lower() + match[1][1:]
    said = match[3] if match[2] in ("is", "and", "are") else f"{match[2]} {match[3]}"
    return subject, said


def _entailed(text: str) -> list[str]:
    """Name the options whose words all stand in the notes."""
    notes, _, rest = text.partition("Question:")
    words = set(re.findall(r"\w+", notes.casefold()))
    options = _OPTION.findall(rest)
    shares = [
        (
            sum(w in words for w in re.findall(r"\w+", said.casefold()))
            / max(1, len(said.split())),
            k,
        )
        for k, said in options
    ]
    best = max(shares, default=(0.0, "A"))
    return [best[1]]


def _guess(asked: Asked) -> str:
    letters = [letter for letter, _ in _OPTION.findall(asked.text)] or ["A"]
    return letters[int(asked.digest[:8], 16) % len(letters)]
