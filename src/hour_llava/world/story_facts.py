"""What can be asked of the story and of two times at once, with answers and evidence.

Questions of two moments prefer moments far apart: a minute, or a fifth of a short video, between
the first one's end and the last one's start, wherever a video offers such a pair.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from hour_llava.schema import FrameSpan
from hour_llava.world.facts import Fact, eighth_of, shape_slots, span, spans_of
from hour_llava.world.families import BESIDE, RELATIONS, SIDES, rung_of
from hour_llava.world.timeline import (
    ACTIONS,
    CELLS,
    INTERACTION_SECONDS,
    PATIENTS,
    VERBS,
    Appearance,
    Scene,
    Timeline,
)

CLEARLY = 1.25
"""How many times longer a thing must last to be called longer."""


@dataclass(frozen=True, kw_only=True)
class Interaction:
    """Agent and patient of one interaction."""

    agent: Appearance
    patient: Appearance

    @property
    def slots(self) -> dict[str, str]:
        """What wordings may name."""
        assert self.agent.action is not None
        passive = PATIENTS[VERBS.index(self.agent.action)].removeprefix("is ")
        names = {"agent": str(self.agent.shape), "patient": str(self.patient.shape)}
        return names | {"verb": self.agent.action, "passive": passive}


def interactions_of(timeline: Timeline) -> tuple[Interaction, ...]:
    """List the interactions that are seen whole."""
    whole = {
        role: [
            a
            for a in timeline.with_role(role)
            if a.end_seconds - a.start_seconds == INTERACTION_SECONDS
        ]
        for role in ("agent", "patient")
    }
    return tuple(
        Interaction(agent=agent, patient=patient)
        for agent in whole["agent"]
        for patient in whole["patient"]
        if agent.start_seconds == patient.start_seconds
    )


def performances_of(timeline: Timeline) -> tuple[Appearance, ...]:
    """List the dotted shape's actions in order; none where one of them is not seen whole."""
    dotted = [a for a in timeline.appearances if a.pattern == "dotted"]
    return tuple(dotted) if all(a.role == "performer" for a in dotted) else ()


def visits_of(timeline: Timeline) -> tuple[tuple[Appearance, Appearance], ...]:
    """List the two visits of every striped shape that is seen twice."""
    visits: dict[str, list[Appearance]] = {}
    for appearance in timeline.with_role("visitor"):
        visits.setdefault(str(appearance.shape), []).append(appearance)
    return tuple((both[0], both[1]) for both in visits.values() if len(both) == 2)


def story_facts(timeline: Timeline, family: str) -> list[Fact]:
    """List all that one of `STORY_FAMILIES` can ask of a video."""
    facts = list(_MAKERS[family](timeline))
    spread = min(60.0, timeline.duration_seconds / 5)
    far = [fact for fact in facts if _gap(fact.evidence) >= spread]
    return far if far and family not in ("both", "colour_match") else facts


def _gap(evidence: Sequence[FrameSpan]) -> float:
    return evidence[-1].start_seconds - evidence[0].end_seconds if evidence else 0.0


def _named(timeline: Timeline) -> tuple[Appearance, ...]:
    """List the shapes that are shown once: flashes and actor."""
    return tuple(a for a in timeline.needles if a.role in ("flash", "actor"))


def _shapes(appearances: Sequence[Appearance]) -> tuple[str, ...]:
    return tuple(str(a.shape) for a in appearances)


def _edges(scene: Scene) -> tuple[FrameSpan, ...]:
    start, end = scene.start_seconds, scene.end_seconds
    if end - start < 4:
        return (span(start, end),)
    return span(start, start + 2), span(end - 2, end)


def _openings(*scenes: Scene) -> tuple[FrameSpan, ...]:
    ordered = sorted(scenes, key=lambda scene: scene.start_seconds)
    return tuple(span(s.start_seconds, s.start_seconds + 2) for s in ordered)


def _cut(scene: Scene) -> FrameSpan:
    return span(scene.start_seconds - 2, scene.start_seconds + 2)


def _alternate(yes: Sequence[Fact], no: Sequence[Fact]) -> Iterator[Fact]:
    """As many "no" as "yes", in turn; nothing where a video has but one of them."""
    if yes and no:
        for number in range(max(len(yes), len(no))):
            yield from (yes[number % len(yes)], no[number % len(no)])


def _scene_duration(timeline: Timeline) -> Iterator[Fact]:
    for scene in timeline.scenes:
        rung = rung_of(scene.end_seconds - scene.start_seconds)
        if rung is not None:
            yield Fact(slots={"scene": scene.name}, answer=rung, evidence=_edges(scene))


def _longer_scene(timeline: Timeline) -> Iterator[Fact]:
    for a, b in itertools.permutations(timeline.scenes, 2):
        longer, shorter = sorted((a, b), key=lambda s: s.start_seconds - s.end_seconds)
        ratio = (longer.end_seconds - longer.start_seconds) / (
            shorter.end_seconds - shorter.start_seconds
        )
        if ratio >= CLEARLY:
            edges = sorted((*_edges(a), *_edges(b)), key=lambda s: s.start_seconds)
            yield Fact(
                slots={"a": a.name, "b": b.name},
                answer=longer.name,
                evidence=tuple(edges),
                near=(shorter.name, *(s.name for s in timeline.scenes if s not in (a, b))),
            )


def _gap_between(timeline: Timeline) -> Iterator[Fact]:
    for first, later in itertools.combinations(_named(timeline), 2):
        seconds = later.start_seconds - first.end_seconds
        rung = rung_of(seconds) if seconds > 0 else None
        if rung is not None:
            slots = {"a": str(first.shape), "b": str(later.shape)}
            yield Fact(slots=slots, answer=rung, evidence=spans_of(first, later))


def _scene_order(timeline: Timeline) -> Iterator[Fact]:
    for a, b in itertools.permutations(timeline.scenes, 2):
        first, second = sorted((a, b), key=lambda s: s.start_seconds)
        yield Fact(
            slots={"a": a.name, "b": b.name},
            answer=first.name,
            evidence=_openings(a, b),
            near=(second.name, *(s.name for s in timeline.scenes if s not in (a, b))),
        )


def _side(timeline: Timeline) -> Iterator[Fact]:
    for one in interactions_of(timeline):
        side = SIDES[CELLS.index(one.agent.cell) % 2]
        yield Fact(slots=one.slots, answer=side, evidence=spans_of(one.agent))


def _relation(timeline: Timeline) -> Iterator[Fact]:
    for a, b in itertools.permutations(_named(timeline), 2):
        (row_a, column_a), (row_b, column_b) = (divmod(CELLS.index(x.cell), 2) for x in (a, b))
        number = 2 * (row_a != row_b) + (column_a != column_b)
        yield Fact(
            slots={"a": str(a.shape), "b": str(b.shape)},
            answer=RELATIONS[number],
            evidence=spans_of(a, b),
        )


def _patient(timeline: Timeline) -> Iterator[Fact]:
    all_of_them = interactions_of(timeline)
    near = _shapes([a for one in all_of_them for a in (one.patient, one.agent)])
    for one in all_of_them:
        yield Fact(
            slots=one.slots,
            answer=str(one.patient.shape),
            evidence=spans_of(one.agent),
            near=near,
            barred=(str(one.agent.shape),),
        )


def _agent(timeline: Timeline) -> Iterator[Fact]:
    all_of_them = interactions_of(timeline)
    near = _shapes([a for one in all_of_them for a in (one.patient, one.agent)])
    for one in all_of_them:
        yield Fact(
            slots=one.slots,
            answer=str(one.agent.shape),
            evidence=spans_of(one.agent),
            near=near,
            barred=(str(one.patient.shape),),
        )


def _verb(timeline: Timeline) -> Iterator[Fact]:
    """Ask of pairs that meet once only: what one does, the other may do in turn."""
    all_of_them = interactions_of(timeline)
    pairs = [{one.agent.shape, one.patient.shape} for one in all_of_them]
    for one, pair in zip(all_of_them, pairs, strict=True):
        if pairs.count(pair) > 1:
            continue
        yield Fact(slots=one.slots, answer=str(one.agent.action), evidence=spans_of(one.agent))


def _farthest(visits: Sequence[Appearance], other: Appearance) -> Appearance:
    return max(visits, key=lambda visit: abs(visit.start_seconds - other.start_seconds))


def _same_colour(timeline: Timeline) -> Iterator[Fact]:
    flashes = timeline.with_role("flash")
    for visits in visits_of(timeline):
        alike = [flash for flash in flashes if flash.colour == visits[0].colour]
        if len(alike) == 1 and len(flashes) == 3:
            names = _shapes(sorted(flashes, key=lambda flash: str(flash.shape)))
            yield Fact(
                slots={
                    **shape_slots(str(visits[0].shape)),
                    **dict(zip("abc", names, strict=True)),
                },
                answer=str(alike[0].shape),
                evidence=spans_of(_farthest(visits, alike[0]), alike[0]),
                near=names,
                barred=(str(visits[0].shape),),
            )


def _colour_match(timeline: Timeline) -> Iterator[Fact]:
    answers: dict[str, list[Fact]] = {"yes": [], "no": []}
    for visits in visits_of(timeline):
        for flash in timeline.with_role("flash"):
            answer = "yes" if flash.colour == visits[0].colour else "no"
            slots = {"shape": str(visits[0].shape), "a": str(flash.shape)}
            evidence = spans_of(_farthest(visits, flash), flash)
            answers[answer].append(Fact(slots=slots, answer=answer, evidence=evidence))
    yield from _alternate(answers["yes"], answers["no"])


def _both(timeline: Timeline) -> Iterator[Fact]:
    named, absent = _named(timeline), timeline.absent_shape

    def slots(a: str, b: str) -> dict[str, str]:
        return {"a": shape_slots(a)["a_shape"], "b": shape_slots(b)["a_shape"]}

    yes = [
        Fact(slots=slots(str(a.shape), str(b.shape)), answer="yes", evidence=spans_of(a, b))
        for a, b in itertools.permutations(named, 2)
    ]
    spread = min(60.0, timeline.duration_seconds / 5)
    yes = [fact for fact in yes if _gap(fact.evidence) >= spread] or yes
    no = [
        Fact(slots=slots(*pair), answer="no", evidence=spans_of(a))
        for a in named
        for pair in ((str(a.shape), absent), (absent, str(a.shape)))
    ]
    yield from _alternate(yes, no)


def _return_place(timeline: Timeline) -> Iterator[Fact]:
    for first, second in visits_of(timeline):
        slots = shape_slots(str(first.shape))
        yield Fact(slots=slots, answer=second.cell, evidence=spans_of(first, second))


def _return_stays(timeline: Timeline) -> Iterator[Fact]:
    for first, second in visits_of(timeline):
        answer = "yes" if first.cell == second.cell else "no"
        slots = shape_slots(str(first.shape))
        yield Fact(slots=slots, answer=answer, evidence=spans_of(first, second))


def _out_of_sight(timeline: Timeline) -> Iterator[Fact]:
    for first, second in visits_of(timeline):
        rung = rung_of(second.start_seconds - first.end_seconds)
        if rung is not None:
            slots = shape_slots(str(first.shape))
            yield Fact(slots=slots, answer=rung, evidence=spans_of(first, second))


def _act_slots(act: Appearance) -> dict[str, str]:
    return {"shape": str(act.shape), "action": str(act.action)}


def _action_when(timeline: Timeline) -> Iterator[Fact]:
    for act in performances_of(timeline):
        eighth = eighth_of(act.start_seconds, timeline.duration_seconds)
        yield Fact(slots=_act_slots(act), answer=eighth, evidence=spans_of(act))


def _action_beside(timeline: Timeline) -> Iterator[Fact]:
    for act in performances_of(timeline):
        for other in _named(timeline):
            if act.end_seconds <= other.start_seconds or other.end_seconds <= act.start_seconds:
                yield Fact(
                    slots={**_act_slots(act), "a": str(other.shape)},
                    answer=BESIDE[int(act.start_seconds > other.start_seconds)],
                    evidence=spans_of(act, other),
                )


def _action_order(timeline: Timeline) -> Iterator[Fact]:
    acts = performances_of(timeline)
    for a, b in itertools.permutations(acts, 2):
        first, second = sorted((a, b), key=lambda act: act.start_seconds)
        others = (str(act.action) for act in acts if act not in (a, b))
        yield Fact(
            slots={"shape": str(a.shape), "a": str(a.action), "b": str(b.action)},
            answer=str(first.action),
            evidence=spans_of(a, b),
            near=(str(second.action), *others),
        )


def _orders(names: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """Return the right order as an answer, and all others."""
    orders = [", ".join(order) for order in itertools.permutations(names)]
    return orders[0], tuple(orders[1:])


def _act_sequence(timeline: Timeline) -> Iterator[Fact]:
    for acts in itertools.combinations(performances_of(timeline), 3):
        answer, wrong = _orders([str(act.action) for act in acts])
        a, b, c = sorted((str(act.action) for act in acts), key=ACTIONS.index)
        slots = {"shape": str(acts[0].shape), "a": a, "b": b, "c": c}
        yield Fact(slots=slots, answer=answer, evidence=spans_of(*acts), near=wrong)


def _scene_sequence(timeline: Timeline) -> Iterator[Fact]:
    for scenes in itertools.combinations(timeline.scenes, 3):
        answer, wrong = _orders([scene.name for scene in scenes])
        slots = dict(zip("abc", sorted(scene.name for scene in scenes), strict=True))
        yield Fact(slots=slots, answer=answer, evidence=_openings(*scenes), near=wrong)


def _flash_sequence(timeline: Timeline) -> Iterator[Fact]:
    for shown in itertools.combinations(_named(timeline), 3):
        answer, wrong = _orders(_shapes(shown))
        slots = dict(zip("abc", sorted(_shapes(shown)), strict=True))
        yield Fact(slots=slots, answer=answer, evidence=spans_of(*shown), near=wrong)


def _effect(timeline: Timeline) -> Iterator[Fact]:
    acts = performances_of(timeline)
    for one in interactions_of(timeline):
        later = [act for act in acts if act.start_seconds >= one.agent.end_seconds]
        if later:
            yield Fact(
                slots={**one.slots, "shape": str(later[0].shape)},
                answer=str(later[0].action),
                evidence=spans_of(one.agent, later[0]),
                near=tuple(str(act.action) for act in acts),
            )


def _same_action(timeline: Timeline) -> Iterator[Fact]:
    acts = performances_of(timeline)
    for actor in timeline.with_role("actor") if acts else ():
        alike = [act for act in acts if act.action == actor.action]
        yield Fact(
            slots={"shape": str(acts[0].shape), "a": str(actor.shape)},
            answer="yes" if alike else "no",
            evidence=spans_of(actor, *(alike or acts)),
        )


def _previous_scene(timeline: Timeline) -> Iterator[Fact]:
    names = tuple(scene.name for scene in timeline.scenes)
    for before, after in itertools.pairwise(timeline.scenes):
        yield Fact(
            slots={"scene": after.name},
            answer=before.name,
            evidence=(_cut(after),),
            near=names,
            barred=(after.name,),
        )


def _between_scene(timeline: Timeline) -> Iterator[Fact]:
    scenes = timeline.scenes
    for before, middle, after in zip(scenes, scenes[1:], scenes[2:], strict=False):
        yield Fact(
            slots={"a": before.name, "b": after.name},
            answer=middle.name,
            evidence=(_cut(middle), _cut(after)),
            near=tuple(scene.name for scene in scenes),
            barred=(before.name, after.name),
        )


def _main_scene(timeline: Timeline) -> Iterator[Fact]:
    ordered = sorted(timeline.scenes, key=lambda s: s.start_seconds - s.end_seconds)
    lengths = [scene.end_seconds - scene.start_seconds for scene in ordered]
    if lengths[0] >= CLEARLY * max(lengths[1:], default=0):
        names = tuple(scene.name for scene in ordered)
        yield Fact(slots={}, answer=names[0], evidence=_edges(ordered[0]), near=names)


def _highlight(timeline: Timeline) -> Iterator[Fact]:
    for ringed in timeline.with_role("ringed"):
        scene = timeline.scene_at(ringed.start_seconds)
        names = tuple(s.name for s in timeline.scenes)
        yield Fact(slots={}, answer=scene.name, evidence=spans_of(ringed), near=names)


def _summary(timeline: Timeline) -> Iterator[Fact]:
    names = ", ".join(scene.name for scene in timeline.scenes)
    yield Fact(slots={}, answer=names, evidence=_openings(*timeline.scenes))


_MAKERS: MappingProxyType[str, Callable[[Timeline], Iterator[Fact]]] = MappingProxyType(
    {
        "scene_duration": _scene_duration,
        "longer_scene": _longer_scene,
        "gap": _gap_between,
        "scene_order": _scene_order,
        "side": _side,
        "relation": _relation,
        "patient": _patient,
        "agent": _agent,
        "verb": _verb,
        "same_colour": _same_colour,
        "colour_match": _colour_match,
        "both": _both,
        "return_place": _return_place,
        "return_stays": _return_stays,
        "out_of_sight": _out_of_sight,
        "action_when": _action_when,
        "action_beside": _action_beside,
        "action_order": _action_order,
        "act_sequence": _act_sequence,
        "effect": _effect,
        "same_action": _same_action,
        "previous_scene": _previous_scene,
        "between_scene": _between_scene,
        "scene_sequence": _scene_sequence,
        "flash_sequence": _flash_sequence,
        "main_scene": _main_scene,
        "highlight": _highlight,
        "summary": _summary,
    }
)
