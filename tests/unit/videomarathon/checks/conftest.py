"""Synthetic videos in words, and clean rows about them: the ground on which faults are planted.

Nothing of hour_llava.videomarathon.checks is imported here: what a rule calls right must not come
from the rule. Wordings vary, and every row is right by the facts that the tables were made from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import pytest

from hour_llava.videomarathon.records import (
    Aspects,
    Claim,
    ClaimItem,
    ClipCaption,
    Event,
    Evidence,
    GlobalCaption,
    Provenance,
    QAPair,
    Span,
    Video,
    clip_id,
    event_id,
    qa_id,
)

WINDOW, STRIDE = 30_000, 20_000

PLACES = (
    "kitchen", "garage", "garden", "library", "beach", "market hall", "stadium", "classroom",
    "workshop", "hotel lobby", "barn", "museum", "train station", "bakery", "harbour", "laboratory",
)  # fmt: skip
SUBJECTS = (
    "a man in a denim jacket", "a woman with a braid", "a teenager in a hoodie", "an old fisherman",
    "a chef in an apron", "a nurse in scrubs", "a farmer in boots", "a young carpenter",
    "a tall dancer", "a bearded monk", "a postman", "a girl in a raincoat",
)  # fmt: skip
ACTIONS = (
    ("slicing", "slices", "an onion"), ("painting", "paints", "a fence"),
    ("repairing", "repairs", "a bicycle"), ("folding", "folds", "a blanket"),
    ("kneading", "kneads", "dough"), ("watering", "waters", "tomato plants"),
    ("pouring", "pours", "coffee"), ("hammering", "hammers", "a nail"),
    ("washing", "washes", "a window"), ("reading", "reads", "a newspaper"),
    ("tying", "ties", "a rope"), ("feeding", "feeds", "a goat"),
    ("throwing", "throws", "a frisbee"), ("dragging", "drags", "a sledge"),
    ("stirring", "stirs", "a soup"), ("knitting", "knits", "a scarf"),
    ("polishing", "polishes", "a trumpet"), ("digging", "digs", "a trench"),
    ("measuring", "measures", "a plank"), ("assembling", "assembles", "a tent"),
)  # fmt: skip
NOUNS = (
    "kettle", "suitcase", "violin", "helmet", "barrel", "clock", "mirror", "basket", "globe",
    "typewriter", "cactus", "wheelbarrow", "accordion", "kite", "anchor", "toaster", "chessboard",
    "telescope", "hydrant", "vase", "pillow", "drum",
)  # fmt: skip
RARE = ("umbrella", "unicycle", "parrot", "saxophone", "snowboard", "lighthouse", "hourglass")
NEVER = ("giraffe", "submarine", "cello", "bulldozer", "penguin", "pyramid", "sombrero", "canoe")
COLOURS = ("red", "blue", "green", "yellow", "orange", "purple", "black", "white", "brown", "pink")
SIZES = ("large", "small", "tall", "narrow")
RELATIONS = (
    ("to the left of", "to the right of"), ("to the right of", "to the left of"),
    ("above", "below"), ("below", "above"), ("in front of", "behind"), ("behind", "in front of"),
    ("inside", "outside"),
)  # fmt: skip
CHANGES = (
    ("smoke", "rises", "sinks"), ("balloon", "grows", "shrinks"), ("gate", "opens", "closes"),
    ("daylight", "brightens", "darkens"), ("shutter", "closes", "opens"),
    ("elevator", "moves up", "moves down"), ("fan", "turns faster", "turns slower"),
    ("queue", "increases", "decreases"), ("tank", "fills", "empties"),
    ("tram", "moves forward", "moves backward"),
)  # fmt: skip
SOURCE = Provenance(stage="qa", stage_version=1, backend="endpoint", model="m")


@dataclass(frozen=True, kw_only=True)
class Part:
    """What goes on in one event."""

    place: str
    subject: str
    action: tuple[str, str, str]
    span: Span
    title: str
    event: Event


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What is to be seen in one clip."""

    part: Part
    nouns: tuple[str, str]
    colours: tuple[str, str]
    size: str
    relation: tuple[str, str]
    change: tuple[str, str, str]
    caption: ClipCaption


@dataclass
class Footage:
    """A video in words: its tables, the facts behind them, and rows about it."""

    rng: Random
    video: Video
    parts: list[Part]
    scenes: list[Scene]
    rare: str
    rare_clips: tuple[int, int]
    summary: GlobalCaption = field(init=False)

    def row(self, task: str, fmt: str = "oe") -> QAPair:
        """Make one clean row of a task."""
        return getattr(self, task)(fmt)

    def made(
        self,
        task: str,
        fmt: str,
        question: str,
        answer: str,
        wrong: list[str] | tuple[str, ...],
        evidence: list[Evidence],
        *,
        form: str = "long",
        claim: Claim | None = None,
    ) -> QAPair:
        options = None
        if fmt == "mc":
            options = [answer, *wrong]
            self.rng.shuffle(options)
        return QAPair.model_validate(
            {
                "id": qa_id(self.video.id, task, fmt, question),
                "video_id": self.video.id,
                "task": task,
                "format": fmt,
                "form": form,
                "question": question,
                "answer": answer,
                "options": options,
                "evidence": evidence,
                "claim": claim,
                "provenance": SOURCE,
            }
        )

    def cite(self, scene: Scene, aspect: str, containing: str = "") -> Evidence:
        text = str(getattr(scene.caption.aspects, aspect))
        sentences = [s.strip(" .") for s in text.split(". ")]
        fitting = [s for s in sentences if containing.lower() in s.lower()] or [text]
        return Evidence(
            span=scene.caption.span,
            quote=self.rng.choice([fitting[0], text]),
            clip_id=scene.caption.clip_id,
            aspect=self.rng.choice([aspect, None]),
        )

    def cite_event(self, part: Part) -> Evidence:
        quote = self.rng.choice([part.title, part.event.narrative])
        return Evidence(span=part.span, quote=quote, event_id=part.event.id)

    def any_scene(self) -> Scene:
        return self.rng.choice(self.scenes)

    def scene_of(self, part: Part) -> Scene:
        return self.rng.choice([s for s in self.scenes if s.part is part])

    def others(self, pool: tuple[str, ...], *not_these: str) -> list[str]:
        return self.rng.sample([word for word in pool if word not in not_these], 3)

    def two_far(self) -> tuple[Scene, Scene]:
        """Choose two moments that are far apart."""
        third = len(self.scenes) // 3
        return self.rng.choice(self.scenes[:third]), self.rng.choice(self.scenes[2 * third :])

    # --- short-form tasks

    def temporal_perception(self, fmt: str) -> QAPair:
        scene = self.any_scene()
        thing, change, opposite = scene.change
        question = self.rng.choice(
            [f"What does the {thing} do?", f"How does the {thing} change at this moment?"]
        )
        answer = self.rng.choice([f"It slowly {change}", f"The {thing} {change}."])
        wrong = [f"It slowly {c}" for c in self.others(tuple(c[1] for c in CHANGES), change)]
        return self.made(
            "temporal_perception", fmt, question, answer, [*wrong[:2], f"It suddenly {opposite}"],
            [self.cite(scene, "temporality", thing)], form="short",
        )  # fmt: skip

    def spatial_perception(self, fmt: str) -> QAPair:
        scene = self.any_scene()
        one, other = scene.nouns
        relation, inverse = scene.relation
        question = self.rng.choice(
            [
                f"Where is the {one} in relation to the {other}?",
                f"How are {one} and {other} placed?",
            ]
        )
        answer = self.rng.choice(
            [f"The {one} is {relation} the {other}", f"It stands {relation} the {other}."]
        )
        wrong = [f"It is {inverse} the {other}", "They are in different rooms", "They touch"]
        return self.made(
            "spatial_perception", fmt, question, answer, wrong,
            [self.cite(scene, "spatiality", one)], form="short",
        )  # fmt: skip

    def object_recognition(self, fmt: str) -> QAPair:
        scene = self.any_scene()
        one, other = scene.nouns
        question = self.rng.choice(
            [f"Which object can be seen beside the {other}?", f"What stands near the {other}?"]
        )
        answer = self.rng.choice([f"a {one}", f"A {one}.", one])
        wrong = [f"a {noun}" for noun in self.others(NOUNS, one, other)]
        return self.made(
            "object_recognition", fmt, question, answer, wrong,
            [self.cite(scene, "object", one)], form="short",
        )  # fmt: skip

    def object_attribute(self, fmt: str) -> QAPair:
        scene = self.any_scene()
        one, colour = scene.nouns[0], scene.colours[0]
        question = self.rng.choice(
            [f"What colour is the {one}?", f"Which colour does the {one} have?"]
        )
        answer = self.rng.choice([colour, colour.capitalize(), f"The {one} is {colour}."])
        wrong = self.others(COLOURS, colour)
        return self.made(
            "object_attribute", fmt, question, answer, wrong,
            [self.cite(scene, "object", one)], form="short",
        )  # fmt: skip

    def object_interaction(self, fmt: str) -> QAPair:
        scene = self.any_scene()
        doing, does, thing = scene.part.action
        bare = thing.split()[-1]
        question = self.rng.choice(
            [
                f"What is being done to the {bare}?",
                f"How does {scene.part.subject} treat the {bare}?",
            ]
        )
        answer = self.rng.choice([f"Somebody is {doing} it", f"{scene.part.subject} {does} it"])
        wrong = [f"Somebody is {a[0]} it" for a in self.rng.sample(ACTIONS, 5) if a[0] != doing]
        return self.made(
            "object_interaction", fmt, question, answer, wrong[:3],
            [self.cite(scene, "action", thing)], form="short",
        )  # fmt: skip

    def action_recognition(self, fmt: str) -> QAPair:
        scene = self.any_scene()
        doing, does, thing = scene.part.action
        question = self.rng.choice(
            [f"What is {scene.part.subject} doing?", "Which activity is performed at this moment?"]
        )
        answer = self.rng.choice([f"{doing} {thing}", f"{does.capitalize()} {thing}."])
        wrong = [f"{a[0]} {a[2]}" for a in self.rng.sample(ACTIONS, 5) if a[0] != doing]
        return self.made(
            "action_recognition", fmt, question, answer, wrong[:3],
            [self.cite(scene, "action", thing)], form="short",
        )  # fmt: skip

    def scene_recognition(self, fmt: str) -> QAPair:
        scene = self.any_scene()
        place = scene.part.place
        question = self.rng.choice(
            [f"Where does {scene.part.subject} work?", "In what kind of place is this filmed?"]
        )
        answer = self.rng.choice([f"in a {place}", f"A {place}.", place])
        wrong = [f"in a {other}" for other in self.others(PLACES, place)]
        return self.made(
            "scene_recognition", fmt, question, answer, wrong,
            [self.cite(scene, "scene", place)], form="short",
        )  # fmt: skip

    # --- computed tasks

    def item(self, part: Part) -> ClaimItem:
        return ClaimItem(label=part.title, span=part.span, event_id=part.event.id)

    def length(self, ms: int) -> str:
        seconds = round(ms / 1000)
        minutes, rest = divmod(seconds, 60)
        ways = [f"{seconds} seconds", f"About {seconds} seconds."]
        if minutes:
            tail = f" {rest} seconds" if rest else ""
            ways += [f"{minutes} minute{'s' if minutes > 1 else ''}{tail}"]
            ways += [f"Roughly {minutes} min {rest} s"] if rest else []
        return self.rng.choice(ways)

    def lengths(self, ms: int) -> list[str]:
        factors = self.rng.choice([(2, 3.5, 6), (0.5, 1.6, 2.6), (0.4, 0.65, 1.5)])
        return [self.length(round(ms * factor)) for factor in factors]

    def duration_perception(self, fmt: str) -> QAPair:
        part = self.rng.choice(self.parts)
        ms = part.span.duration_ms
        question = self.rng.choice(
            [f'How long does "{part.title}" last?', f"How much time does this take: {part.title}?"]
        )
        claim = Claim(claim="duration", value=str(ms), items=(self.item(part),))
        return self.made(
            "duration_perception", fmt, question, self.length(ms), self.lengths(ms),
            [self.cite_event(part)], claim=claim,
        )  # fmt: skip

    def temporal_gap_estimation(self, fmt: str) -> QAPair:
        first, second = self.parts[0], self.parts[self.rng.randrange(2, len(self.parts))]
        ms = second.span.start_ms - first.span.end_ms
        question = self.rng.choice(
            [
                f'How much time passes between the end of "{first.title}" and the start of '
                f'"{second.title}"?',
                f"After this ends: {first.title}, how long until this begins: {second.title}?",
            ]
        )
        claim = Claim(claim="gap", value=str(ms), items=(self.item(first), self.item(second)))
        return self.made(
            "temporal_gap_estimation", fmt, question, self.length(ms), self.lengths(ms),
            [self.cite_event(first), self.cite_event(second)], claim=claim,
        )  # fmt: skip

    def _order(self, parts: list[Part]) -> Claim:
        shuffled = self.rng.sample(parts, len(parts))
        value = " > ".join(part.title for part in parts)
        return Claim(claim="order", value=value, items=tuple(map(self.item, shuffled)))

    def temporal_order(self, fmt: str) -> QAPair:
        first, second = self.parts[0], self.parts[self.rng.randrange(2, len(self.parts))]
        one, other = self.rng.sample([first, second], 2)
        asked, answer = self.rng.choice(
            [
                (f"Which comes first: {one.title}, or {other.title}?", first),
                (f'Which happens later, "{one.title}" or "{other.title}"?', second),
                (f"What takes place before {second.title}?", first),
                (f"What is seen after {first.title}?", second),
            ]
        )
        wrong_part = second if answer is first else first
        wrong = [wrong_part.title, "They take place at once", "Neither takes place"]
        claim = self._order([first, second])
        return self.made(
            "temporal_order", fmt, asked, answer.title, wrong,
            [self.cite_event(first), self.cite_event(second)], claim=claim,
        )  # fmt: skip

    def _sequence(self, task: str, fmt: str, number: int) -> QAPair:
        parts = sorted(self.rng.sample(self.parts, number), key=lambda p: p.span.start_ms)
        titles = [part.title for part in parts]
        join = self.rng.choice([", then ", " > ", "; "])
        asked = self.rng.sample(titles, number)
        question = self.rng.choice(
            ["In which order do these take place: ", "Put these into the order of time: "]
        ) + "; ".join(asked)
        wrong = [join.join(titles[::-1]), join.join([*titles[1:], titles[0]])]
        return self.made(
            task, fmt, question, join.join(titles), wrong[: 2 if number > 2 else 1],
            [self.cite_event(part) for part in parts], claim=self._order(parts),
        )  # fmt: skip

    def action_sequence(self, fmt: str) -> QAPair:
        return self._sequence("action_sequence", fmt, 3)

    def event_sequence(self, fmt: str) -> QAPair:
        return self._sequence("event_sequence", fmt, 3)

    def clock(self, ms: int) -> str:
        return f"{ms // 60000:02d}:{ms // 1000 % 60:02d}"

    def said_span(self, span: Span) -> str:
        start, end = self.clock(span.start_ms), self.clock(span.end_ms)
        return self.rng.choice(
            [f"from {start} to {end}", f"{start}-{end}", f"Between {start} and {end}."]
        )

    def action_localization(self, fmt: str) -> QAPair:
        part = self.rng.choice(self.parts)
        term = f"{part.action[0]} {part.action[2]}"
        own = [s for s in self.scenes if s.part is part]
        span = Span(start_ms=own[0].caption.span.start_ms, end_ms=own[-1].caption.span.end_ms)
        shift = span.duration_ms
        wrong = [
            Span(start_ms=span.start_ms + k * shift, end_ms=span.end_ms + k * shift)
            for k in (1, 2, 3)
        ]
        item = ClaimItem(label=term, span=span, clip_id=own[0].caption.clip_id)
        value = f"{span.start_ms}-{span.end_ms}"
        claim = Claim(claim="localization", value=value, items=(item,), term=term)
        question = self.rng.choice(
            [f'When is "{term}" to be seen?', f"At which time is someone {term}?"]
        )
        return self.made(
            "action_localization", fmt, question, self.said_span(span),
            [self.said_span(each) for each in wrong],
            [self.cite(own[0], "action", term), self.cite(own[-1], "action", term)], claim=claim,
        )  # fmt: skip

    def object_existence(self, fmt: str) -> QAPair:
        scene = self.any_scene()
        is_there = self.rng.random() < 0.5
        thing = scene.nouns[0] if is_there else self.rng.choice(NEVER)
        question = self.rng.choice(
            [f"Does a {thing} appear anywhere in the video?", f"Is there any {thing} to be seen?"]
        )
        answer = "Yes" if is_there else "No"
        if fmt == "oe":
            answer = self.rng.choice([answer, f"{answer}."])
        claim = Claim(claim="existence", value="yes" if is_there else "no", term=thing)
        evidence = [self.cite(scene, "object", thing)] if is_there else []
        return self.made(
            "object_existence", fmt, question, answer, ["No" if is_there else "Yes"], evidence,
            claim=claim,
        )  # fmt: skip

    # --- long-form tasks

    def object_permanence(self, fmt: str) -> QAPair:
        first, last = (self.scenes[i] for i in self.rare_clips)
        question = self.rng.choice(
            [f"What becomes of the {self.rare}?", f"Is the {self.rare} gone for good?"]
        )
        answer = self.rng.choice(["It comes back later", f"No, the {self.rare} turns up again"])
        wrong = ["It is never seen again", "It breaks", "Someone takes it away"]
        return self.made(
            "object_permanence", fmt, question, answer, wrong,
            [self.cite(first, "object", self.rare), self.cite(last, "object", self.rare)],
        )  # fmt: skip

    def scene_transition(self, fmt: str) -> QAPair:
        index = self.rng.randrange(len(self.parts) - 1)
        one, other = self.parts[index], self.parts[index + 1]
        before = [s for s in self.scenes if s.part is one][-1]
        after = next(s for s in self.scenes if s.part is other)
        question, answer = self.rng.choice(
            [
                (f"Which place follows the {one.place}?", f"a {other.place}"),
                (f"Into what does the {one.place} change next?", f"It becomes a {other.place}."),
                (f"Which setting comes before the {other.place}?", f"the {one.place}"),
            ]
        )
        wrong = [f"a {p}" for p in self.others(PLACES, *(part.place for part in self.parts))]
        return self.made(
            "scene_transition", fmt, question, answer, wrong,
            [self.cite(before, "scene", one.place), self.cite(after, "scene", other.place)],
        )  # fmt: skip

    def _reasoning(self, task: str, fmt: str, aspect: str, question: str) -> QAPair:
        first, last = self.two_far()
        answer = self.rng.choice(
            ["It prepares what comes later", "The two belong to one task", "One leads to the other"]
        )
        wrong = ["It is a coincidence", "It hinders the work", "It repeats an earlier mistake"]
        return self.made(
            task, fmt, question, answer, wrong, [self.cite(first, aspect), self.cite(last, aspect)]
        )

    def temporal_reasoning(self, fmt: str) -> QAPair:
        first, second = self.parts[0], self.parts[self.rng.randrange(2, len(self.parts))]
        question = self.rng.choice(
            [
                f"Why does {first.title} come before {second.title}?",
                f"What explains that {second.title} happens after {first.title}?",
                f"After {first.title}, why does the video show {second.title}?",
            ]
        )
        return self._reasoning("temporal_reasoning", fmt, "temporality", question)

    def spatial_reasoning(self, fmt: str) -> QAPair:
        return self._reasoning(
            "spatial_reasoning", fmt, "spatiality", "How do the two arrangements compare?"
        )

    def object_reasoning(self, fmt: str) -> QAPair:
        return self._reasoning(
            "object_reasoning", fmt, "object", "What are the first and the last things used for?"
        )

    def action_reasoning(self, fmt: str) -> QAPair:
        return self._reasoning(
            "action_reasoning", fmt, "action", "Why is the work at the beginning done at all?"
        )

    def key_event_extraction(self, fmt: str) -> QAPair:
        part = self.rng.choice(self.parts)
        answer = self.rng.choice([part.title, f"{part.title}.", f"The moment when {part.title}"])
        wrong = [f"{s} {a[1]} {a[2]}" for s, a in zip(SUBJECTS[:3], ACTIONS[-3:], strict=True)]
        question = self.rng.choice(
            [f"Which event fits the {part.place} best?", "Which of the events matters most?"]
        )
        whole = Span(start_ms=0, end_ms=self.video.duration_ms)
        evidence = [self.cite_event(part), Evidence(span=whole, quote=self.summary.text[:40])]
        return self.made("key_event_extraction", fmt, question, answer, wrong, evidence)

    def overall_summarization(self, fmt: str) -> QAPair:
        whole = Span(start_ms=0, end_ms=self.video.duration_ms)
        evidence = [Evidence(span=whole, quote=self.summary.text)]
        question = self.rng.choice(["What happens in the video?", "Summarise the whole video."])
        return self.made("overall_summarization", "oe", question, self.summary.text, [], evidence)


def _part(
    rng: Random, video: str, index: int, span: Span, what: tuple[str, str, tuple[str, str, str]]
) -> Part:
    place, subject, action = what
    doing, does, thing = action
    title = rng.choice(
        [f"{subject} {does} {thing}", f"{subject} is {doing} {thing} in the {place}"]
    )
    narrative = rng.choice(
        [
            f"In the {place}, {subject} {does} {thing}. It goes on for a while.",
            f"{subject.capitalize()} stays in the {place} and is {doing} {thing} with care.",
        ]
    )
    event = Event(
        id=event_id(video, index), video_id=video, index=index, span=span, title=title,
        clip_ids=(), narrative=narrative, provenance=SOURCE,
    )  # fmt: skip
    return Part(place=place, subject=subject, action=action, span=span, title=title, event=event)


def _scene(rng: Random, video: str, span: Span, part: Part, rare: str | None) -> Scene:
    one, other = rng.sample(NOUNS, 2)
    colour, second = rng.sample(COLOURS, 2)
    size, relation, change = rng.choice(SIZES), rng.choice(RELATIONS), rng.choice(CHANGES)
    doing, _, thing = part.action
    objects = rng.choice(
        [
            f"A {size} {colour} {one} and a {second} {other} can be seen.",
            f"There is a {size} {colour} {one}. Nearby lies a {second} {other}.",
            f"The {one} is {colour} and {size}, the {other} is {second}.",
        ]
    )
    if rare is not None:
        objects += rng.choice([f" A striped {rare} leans there.", f" There is also a {rare}."])
    aspects = Aspects(
        temporality=rng.choice(
            [
                f"The {change[0]} slowly {change[1]} while the work goes on.",
                f"At first nothing moves. Then the {change[0]} {change[1]}.",
            ]
        ),
        spatiality=rng.choice(
            [
                f"The {one} stands {relation[0]} the {other}.",
                f"In this view, the {one} is {relation[0]} the {other}.",
            ]
        ),
        object=objects,
        action=rng.choice(
            [
                f"{part.subject.capitalize()} is {doing} {thing}.",
                f"{part.subject.capitalize()} is {doing} {thing} without a pause.",
            ]
        ),
        scene=rng.choice([f"The place is a {part.place}.", f"It takes place in a {part.place}."]),
        summary=f"{part.subject.capitalize()} is {doing} {thing} in a {part.place}.",
    )
    caption = ClipCaption(
        clip_id=clip_id(video, span), video_id=video, span=span, aspects=aspects, provenance=SOURCE
    )
    return Scene(
        part=part, nouns=(one, other), colours=(colour, second), size=size, relation=relation,
        change=change, caption=caption,
    )  # fmt: skip


def build_footage(seed: int) -> Footage:
    """Make up one video of 6 to 15 minutes with 4 to 6 events."""
    rng = Random(seed)
    video_id = f"v{seed:04d}"
    num_parts = rng.randint(4, 6)
    places, subjects, actions = (
        rng.sample(pool, num_parts) for pool in (PLACES, SUBJECTS, ACTIONS)
    )
    parts: list[Part] = []
    start = 0
    for index, what in enumerate(zip(places, subjects, actions, strict=True)):
        end = start + STRIDE * rng.randint(5, 8)
        parts.append(_part(rng, video_id, index, Span(start_ms=start, end_ms=end), what))
        start = end
    duration = start + 10_000
    spans = [
        Span(start_ms=at, end_ms=at + WINDOW) for at in range(0, duration - WINDOW + 1, STRIDE)
    ]
    first = rng.randrange(2, len(spans) // 3)
    rare_clips = (first, rng.randrange(first + 5, len(spans) - 1))
    rare = rng.choice(RARE)
    scenes: list[Scene] = []
    for index, span in enumerate(spans):
        part = next(p for p in parts if p.span.start_ms <= span.start_ms < p.span.end_ms)
        scenes.append(_scene(rng, video_id, span, part, rare if index in rare_clips else None))
    video = Video(
        id=video_id, path="v.mp4", duration_ms=duration, width=320, height=180, average_fps=25,
        has_audio=False, content_digest=video_id, backend="endpoint",
    )  # fmt: skip
    footage = Footage(
        rng=rng, video=video, parts=parts, scenes=scenes, rare=rare, rare_clips=rare_clips
    )
    joins = rng.choice([("First, ", "Then ", "After that, "), ("", "Later, ", "Next, ")])
    told = [
        joins[0 if i == 0 else 1 + i % 2] + rng.choice([p.title, f"in the {p.place} {p.title}"])
        for i, p in enumerate(parts)
    ]
    footage.summary = GlobalCaption(
        video_id=video_id, text=". ".join(told) + ".", event_ids=(), provenance=SOURCE
    )
    return footage


@pytest.fixture(scope="session")
def footages() -> list[Footage]:
    """Forty videos in words."""
    return [build_footage(seed) for seed in range(40)]


@pytest.fixture(scope="session")
def make_footage() -> Callable[[int], Footage]:
    return build_footage
