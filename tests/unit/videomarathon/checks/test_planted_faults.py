"""Each automatic rule finds 95 % of 200 planted faults and flags at most 2 % of 200 clean rows.

A breaker takes a clean row and breaks the one thing that its rule is about, in several ways. Rows
and tables come from conftest.py, which knows nothing of the rules.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable
from dataclasses import replace as replace_part
from random import Random
from typing import Any

import pytest

from hour_llava.tasks import TASKS
from hour_llava.videomarathon.checks.rule import Rule
from hour_llava.videomarathon.checks.table import RULES, check_row
from hour_llava.videomarathon.checks.tables import Tables
from hour_llava.videomarathon.records import Claim, Evidence, QAPair, Span

NUM_CASES, MIN_FOUND, MAX_FLAGGED = 200, 0.95, 0.02
Footage = Any
Broken = QAPair | tuple[QAPair, Tables]
Breaker = Callable[[QAPair, Footage, Random], Broken]

RULE_NAMED = {rule.name: rule for rule in RULES}
NOT_FAR_APART = ("scene_transition", "key_event_extraction")  # right, but short-form by nature


def tables_of(footage: Footage) -> Tables:
    return Tables(
        video=footage.video,
        captions=tuple(scene.caption for scene in footage.scenes),
        events=tuple(part.event for part in footage.parts),
        global_caption=footage.summary,
        stride_ms=20_000,
    )


def put(row: QAPair, **changes: Any) -> QAPair:
    return row.model_copy(update=changes)


def put_answer(row: QAPair, answer: str) -> QAPair:
    """Change the answer, and the option that it is."""
    if row.options is None:
        return put(row, answer=answer)
    options = tuple(answer if option == row.answer else option for option in row.options)
    return put(row, answer=answer, options=options)


def put_wrong(row: QAPair, option: str, place: int = 0) -> QAPair:
    """Replace one of the wrong options."""
    assert row.options is not None
    wrong = [each for each in row.options if each != row.answer]
    wrong[place % len(wrong)] = option
    return put(row, options=(row.answer, *wrong))


def put_evidence(row: QAPair, index: int, **changes: Any) -> QAPair:
    evidence = list(row.evidence)
    evidence[index] = evidence[index].model_copy(update=changes)
    return put(row, evidence=tuple(evidence))


def scene_cited(row: QAPair, footage: Footage) -> Any:
    cited = row.evidence[0].clip_id
    return next(scene for scene in footage.scenes if scene.caption.clip_id == cited)


# --- wording


def malformed(row: QAPair, footage: Footage, rng: Random) -> Broken:
    way = rng.randrange(4)
    if way == 0:
        return put(row, question=rng.choice(["Why?", "", "?!", "What"]))
    if way == 1:
        return put_answer(row, rng.choice(["", "...", " - ", "?"]))
    if way == 2:
        return put(row, question=" ".join([row.question] * 40))
    return put(row, question="And " * rng.randint(121, 300) + row.question)


ARTEFACTS = (
    "In this clip, {q}", "According to the caption, {q}", "{q} Look at frame 12.",
    "As the text says, {q}", "{q} (as stated in the description)", "In clips 3 and 4, {q}",
    "Based on the captions, {q}", "What is mentioned in the transcript? {q}",
    "In the second video clip, {q}", "The description states something. {q}",
    "In the first frame, {q}", "As described, {q}", "By the event table, {q}",
    "According to the provided summary, {q}", "In the given narrative, {q}",
    "Answer with JSON. {q}", "{q} Use fact F3.", "In the captioned part, {q}",
    "{q} See the timestamps.", "From the text, {q}",
)  # fmt: skip


def with_artefact(row: QAPair, footage: Footage, rng: Random) -> Broken:
    frame = rng.choice(ARTEFACTS)
    if rng.random() < 0.3:
        return put_answer(row, frame.format(q=row.answer))
    return put(row, question=frame.format(q=row.question))


def leaking(row: QAPair, footage: Footage, rng: Random) -> Broken:
    answer = row.answer.rstrip(".")
    frames = ("Given {a}, {q}", "{q} Is it not {a}?", "{q} Hint: {a}", "Look at {a}. {q}")
    return put(row, question=rng.choice(frames).format(a=answer, q=row.question))


# --- options


def without_one_right(row: QAPair, footage: Footage, rng: Random) -> Broken:
    way = rng.randrange(4)
    options = row.options or ()
    if way == 0:
        return put(row, options=tuple(o for o in options if o != row.answer))
    if way == 1:
        return put(row, options=(*options, row.answer))
    if way == 2:
        return put(row, answer=f"{row.answer} indeed")
    return put_wrong(row, rng.choice([row.answer.upper(), f"{row.answer}.", f"the {row.answer}"]))


def with_twins(row: QAPair, footage: Footage, rng: Random) -> Broken:
    options = list(row.options or ())
    one = rng.choice(options)
    twin = rng.choice([one, one.upper(), f"{one}.", f" {one} ", f"B) {one}"])
    if not one.lower().startswith(("a ", "an ", "the ")) and rng.random() < 0.2:
        twin = f"The {one}"
    if rng.random() < 0.1:
        twin = " "
    return put(row, options=(*options, twin))


ALL_OF_THE_ABOVE = (
    "All of the above", "None of the above", "Both A and B", "all of these", "Neither A nor B",
    "Both (a) and (c)", "None of these options", "It cannot be determined", "Either of them",
    "All options", "Some of the above.", "Not enough information", "both of the above",
    "None of them", "Options A and C",
)  # fmt: skip


def eating_others(row: QAPair, footage: Footage, rng: Random) -> Broken:
    return put_wrong(row, rng.choice(ALL_OF_THE_ABOVE))


def milliseconds(row: QAPair) -> int:
    assert row.claim is not None
    return int(row.claim.value)


def crowded(row: QAPair, footage: Footage, rng: Random) -> Broken:
    ms = milliseconds(row) * rng.uniform(1.03, 1.2)
    if rng.random() < 0.2:
        return put_wrong(row, "quite long")
    seconds = round(ms / 1000)
    near = rng.choice([f"{seconds} seconds", f"{seconds // 60} minutes {seconds % 60} seconds"])
    return put_wrong(row, near, rng.randrange(3))


def crowded_in_time(row: QAPair, footage: Footage, rng: Random) -> Broken:
    assert row.claim is not None
    start, end = map(int, row.claim.value.split("-"))
    shift = round((end - start) * rng.uniform(-0.3, 0.3) / 1000) * 1000
    start, end = max(0, start + shift), end + shift
    said = f"{start // 60000}:{start // 1000 % 60:02d} to {end // 60000}:{end // 1000 % 60:02d}"
    return put_wrong(row, f"from {said}")


# --- evidence


def uncited(row: QAPair, footage: Footage, rng: Random) -> Broken:
    way = rng.randrange(3)
    if way == 0 or not row.evidence:
        return put(row, evidence=(), claim=None)
    if way == 1:
        return put_evidence(row, -1, clip_id=f"{row.video_id}:1-2", event_id=None)
    return put_evidence(row, 0, event_id=f"{row.video_id}:e099", clip_id=None)


def misquoted(row: QAPair, footage: Footage, rng: Random) -> Broken:
    words = row.evidence[0].quote.split(" ")
    way = rng.randrange(4)
    if way == 0:
        words.insert(rng.randrange(len(words) + 1), rng.choice(["really", "gently", "zebra"]))
    elif way == 1:
        words[rng.randrange(len(words))] = "giraffe"
    elif way == 2:
        words = words[::-1] if len(set(words)) > 1 else ["other"]
    else:
        return put_evidence(row, 0, quote=rng.choice(["", "  ", "Something else happens."]))
    return put_evidence(row, 0, quote=" ".join(words))


def outside(row: QAPair, footage: Footage, rng: Random) -> Broken:
    end, index = footage.video.duration_ms, rng.randrange(len(row.evidence))
    beyond = rng.choice([1, 500, 60_000])
    if rng.random() < 0.5:
        return put_evidence(row, index, span=Span(start_ms=end - 1000, end_ms=end + beyond))
    span = row.evidence[index].span
    if span.start_ms >= 10_000:
        return put_evidence(row, index, span=Span(start_ms=0, end_ms=rng.randint(1, 10) * 1000))
    return put_evidence(row, index, span=Span(start_ms=end + 1, end_ms=end + 1 + beyond))


def in_one_place(row: QAPair, footage: Footage, rng: Random) -> Broken:
    one = rng.choice(row.evidence)
    return put(row, evidence=rng.choice([(one,), (one, one), ()]))


def too_near(row: QAPair, footage: Footage, rng: Random) -> Broken:
    if rng.random() < 0.3:
        scene = footage.any_scene()
        return put(row, claim=None, evidence=(footage.cite(scene, "summary"),))
    index = rng.randrange(len(footage.scenes) - 2)
    pair = (footage.scenes[index], footage.scenes[index + rng.choice([1, 2])])
    return put(row, claim=None, evidence=tuple(footage.cite(s, "summary") for s in pair))


# --- computed answers


def miscomputed(row: QAPair, footage: Footage, rng: Random) -> Broken:
    claim = row.claim
    assert claim is not None
    if rng.random() < 0.1:
        return put(row, claim=None)
    return put(row, claim=_MISCOMPUTED[claim.claim](claim, footage, rng))


def _moved(claim: Claim, footage: Footage, rng: Random) -> Claim:
    """Put an item elsewhere than the tables have it."""
    items = list(claim.items)
    index = rng.randrange(len(items))
    span, shift = items[index].span, rng.choice([30_000, 45_000])
    elsewhere = Span(start_ms=span.start_ms + shift, end_ms=span.end_ms + shift)
    items[index] = items[index].model_copy(update={"span": elsewhere})
    return claim.model_copy(update={"items": tuple(items)})


def _other_ms(claim: Claim, footage: Footage, rng: Random) -> Claim:
    if rng.random() < 0.3:
        return _moved(claim, footage, rng)
    off = rng.choice([-1, 1]) * rng.randint(20_001, 90_000)
    value = int(claim.value) + off
    return claim.model_copy(update={"value": str(value if value > 0 else int(claim.value) - off)})


def _other_gap(claim: Claim, footage: Footage, rng: Random) -> Claim:
    if rng.random() < 0.2:
        return claim.model_copy(update={"items": claim.items[::-1]})
    return _other_ms(claim, footage, rng)


def _other_order(claim: Claim, footage: Footage, rng: Random) -> Claim:
    labels = claim.value.split(" > ")
    way = rng.randrange(4)
    if way == 0:
        return claim.model_copy(update={"items": claim.items[:1]})
    if way == 1:
        twin = claim.items[0]
        return claim.model_copy(update={"items": (*claim.items, twin)})
    others = [list(p) for p in itertools.permutations(labels) if list(p) != labels]
    return claim.model_copy(update={"value": " > ".join(rng.choice(others))})


def _other_place(claim: Claim, footage: Footage, rng: Random) -> Claim:
    if rng.random() < 0.3:
        other = rng.choice([p for p in footage.parts if claim.term not in p.event.narrative])
        term = f"{other.action[0]} {other.action[2]}"
        return claim.model_copy(update={"term": term if term != claim.term else "juggling"})
    start, end = map(int, claim.value.split("-"))
    shift = rng.choice([40_000, 70_000])
    return claim.model_copy(update={"value": f"{start + shift}-{end + shift}"})


def _other_existence(claim: Claim, footage: Footage, rng: Random) -> Claim:
    if rng.random() < 0.2:
        return claim.model_copy(update={"term": rng.choice([None, "", "harpsichord"])})
    return claim.model_copy(update={"value": "no" if claim.value == "yes" else "yes"})


_MISCOMPUTED: dict[str, Callable[[Claim, Footage, Random], Claim]] = {
    "duration": _other_ms,
    "gap": _other_gap,
    "order": _other_order,
    "localization": _other_place,
    "existence": _other_existence,
}


def missaid(row: QAPair, footage: Footage, rng: Random) -> Broken:
    claim = row.claim
    assert claim is not None
    if claim.claim in ("duration", "gap"):
        off = rng.choice([25, 40, 75, 300])
        seconds = round(int(claim.value) / 1000) + off
        said = [f"{seconds} seconds", f"{seconds // 60} min {seconds % 60} s", "a long while"]
        return put_answer(row, rng.choice(said))
    if claim.claim == "existence":
        return put_answer(row, rng.choice(["No" if claim.value == "yes" else "Yes", "Perhaps"]))
    if claim.claim == "localization":
        return put_answer(row, rng.choice([*_other_spans(claim), "at the end"]))
    labels = claim.value.split(" > ")
    if row.task == "temporal_order":
        said = row.answer.rstrip(".")
        other = next(label for label in labels if label != said)
        return put_answer(row, rng.choice([other, f"{other}.", "something else"]))
    wrong = rng.choice([list(p) for p in itertools.permutations(labels) if list(p) != labels])
    return put_answer(row, rng.choice([", then ", "; "]).join(wrong))


def _other_spans(claim: Claim) -> list[str]:
    start, end = (int(part) // 1000 for part in claim.value.split("-"))
    length = end - start
    return [f"from {s // 60}:{s % 60:02d} to {(s + length) // 60}:{(s + length) % 60:02d}"
            for s in (start + length, start + 2 * length)]  # fmt: skip


# --- answers found in captions


def not_found(row: QAPair, footage: Footage, rng: Random) -> Broken:
    strange = {
        "temporal_perception": ["It explodes", "It slowly evaporates", "The crowd applauds"],
        "spatial_perception": ["It hangs from the ceiling", "It floats on a lake"],
        "object_recognition": ["a giraffe", "a cello", "A submarine.", "a sombrero"],
        "object_attribute": ["turquoise", "transparent", "It is made of marble"],
        "object_interaction": ["Somebody is burning it", "Somebody is selling it"],
        "action_recognition": ["juggling torches", "Parachuting.", "arm wrestling"],
        "scene_recognition": ["on a volcano", "in a submarine", "A casino."],
    }
    return put_answer(row, rng.choice(strange[row.task]))


def not_together(row: QAPair, footage: Footage, rng: Random) -> Broken:
    scene = scene_cited(row, footage)
    if row.task == "object_attribute":
        own = scene.colours[0]
        other = rng.choice([scene.colours[1], "turquoise", rng.choice(["gold", "silver", "navy"])])
        return put_answer(row, row.answer.replace(own, other).replace(own.capitalize(), other))
    return put_answer(row, f"Somebody is {rng.choice(['burning', 'selling', 'hiding'])} it")


def with_true_distractor(row: QAPair, footage: Footage, rng: Random) -> Broken:
    scene = scene_cited(row, footage)
    true = {
        "object_recognition": [f"a {scene.colours[0]} thing", f"something {scene.size}"],
        "object_interaction": [f"{scene.part.subject} does something"],
        "action_recognition": [f"the work of {scene.part.subject}"],
        "scene_recognition": [f"at a {scene.part.place}"],
    }
    if row.task == "object_recognition" and len(row.question) % 2:
        beside = scene.nouns[1]
        question = "Which object can be seen?"
        return put_wrong(put(row, question=question), f"a {beside}")
    if row.task == "scene_recognition":
        answer = "somewhere under a roof"
        return put_wrong(put_answer(row, answer), true[row.task][0])
    if row.task in ("action_recognition", "object_interaction"):
        doing, _, thing = scene.part.action
        changed = put(put_answer(row, "something with the hands"), question="What is done here?")
        return put_wrong(changed, f"{doing} {thing}")
    return put_wrong(row, rng.choice(true[row.task]))


def with_other_attribute(row: QAPair, footage: Footage, rng: Random) -> Broken:
    scene = scene_cited(row, footage)
    return put_wrong(row, rng.choice([scene.size, f"{scene.size}.", f"It is {scene.size}"]))


def turned_round(row: QAPair, footage: Footage, rng: Random) -> Broken:
    scene = scene_cited(row, footage)
    relation, inverse = scene.relation
    return put_answer(row, row.answer.replace(relation, inverse))


def opposite(row: QAPair, footage: Footage, rng: Random) -> Broken:
    scene = scene_cited(row, footage)
    _, change, other = scene.change
    return put_answer(row, row.answer.replace(change, other))


# --- the course of the video


def false_premise(row: QAPair, footage: Footage, rng: Random) -> Broken:
    first, second = footage.parts[0], footage.parts[rng.randrange(2, len(footage.parts))]
    questions = [
        f"Why does {second.title} come before {first.title}?",
        f"What explains that {first.title} happens after {second.title}?",
        f"After {second.title}, why does the video show {first.title}?",
        f"Before {first.title}, why is it that {second.title}?",
    ]
    return put(row, question=rng.choice(questions))


def never_gone(row: QAPair, footage: Footage, rng: Random) -> Broken:
    first, last = (footage.scenes[i] for i in footage.rare_clips)
    way = rng.randrange(3)
    if way == 0:
        return put(row, evidence=(footage.cite(first, "object", footage.rare),))
    if way == 1:
        strange = next(s for s in footage.scenes if s not in (first, last))
        return put(row, evidence=(row.evidence[0], footage.cite(strange, "action")))
    tables = tables_of(footage)
    seen = tuple(
        c.model_copy(
            update={
                "aspects": c.aspects.model_copy(
                    update={"object": f"{c.aspects.object} The {footage.rare} is still there."}
                )
            }
        )
        for c in tables.captions
    )
    return row, replace_part(tables, captions=seen)


def no_transition(row: QAPair, footage: Footage, rng: Random) -> Broken:
    way = rng.randrange(4)
    if way == 0:
        return put(row, evidence=row.evidence[::-1])
    if way == 1:
        part = footage.parts[0]
        same = [s for s in footage.scenes if s.part is part][:2]
        cited = tuple(
            Evidence(span=s.caption.span, quote=part.place, clip_id=s.caption.clip_id) for s in same
        )
        return put(row, evidence=cited)
    if way == 2:
        far = footage.cite(footage.scenes[-1], "scene")
        return put(row, evidence=(footage.cite(footage.scenes[0], "scene"), far))
    return put(row, answer=rng.choice(["a volcano", "It becomes a casino.", "the submarine"]))


def no_single_event(row: QAPair, footage: Footage, rng: Random) -> Broken:
    way = rng.randrange(3)
    one, other = rng.sample(footage.parts, 2)
    if way == 0:
        return put_answer(row, f"{one.title}, and {other.title}")
    if way == 1:
        strange = ["A rocket is launched", "the wedding", "Everybody dances"]
        return put_answer(row, rng.choice(strange))
    silent = footage.summary.model_copy(update={"text": "People are busy in several places."})
    return row, replace_part(tables_of(footage), global_caption=silent)


def forgetful(row: QAPair, footage: Footage, rng: Random) -> Broken:
    sentences = row.answer.rstrip(".").split(". ")
    keep = max(1, int(len(sentences) * rng.uniform(0.2, 0.75)))
    while keep / len(sentences) >= 0.8:
        keep -= 1
    return put(row, answer=". ".join(rng.sample(sentences, keep)) + ".")


STRANGERS = (
    "A giraffe walks by.", "Suddenly a helicopter lands on the roof.", "Then Maria arrives.",
    "A golden submarine surfaces.", "They are watched by an astronaut.", "It costs 45 in the end.",
    "An elephant drinks.", "At last a wedding is celebrated.", "Two pirates laugh.",
    "The guests meet in Venice.", "Another spaceship takes off.", "His grandmother sings.",
)  # fmt: skip


def with_stranger(row: QAPair, footage: Footage, rng: Random) -> Broken:
    sentences = row.answer.rstrip(".").split(". ")
    at = rng.randrange(len(sentences) + 1)
    stranger = rng.choice(STRANGERS).rstrip(".")
    return put(row, answer=". ".join([*sentences[:at], stranger, *sentences[at:]]) + ".")


BREAKERS: dict[str, Breaker] = {
    "well_formed": malformed,
    "no_artefacts": with_artefact,
    "no_leak": leaking,
    "one_right_option": without_one_right,
    "options_differ": with_twins,
    "no_all_of_the_above": eating_others,
    "options_spread": crowded,
    "options_apart_in_time": crowded_in_time,
    "evidence_cited": uncited,
    "quote_found": misquoted,
    "span_inside": outside,
    "two_places": in_one_place,
    "long_form": too_near,
    "claim_recomputed": miscomputed,
    "answer_says_claim": missaid,
    "answer_found": not_found,
    "found_together": not_together,
    "distractors_absent": with_true_distractor,
    "other_attributes_absent": with_other_attribute,
    "inverse_absent": turned_round,
    "not_contradicted": opposite,
    "premise_order": false_premise,
    "out_of_sight": never_gone,
    "scene_changes": no_transition,
    "one_key_event": no_single_event,
    "event_recall": forgetful,
    "no_unknown_thing": with_stranger,
}
ONLY_TASKS = {
    "options_spread": ("duration_perception", "temporal_gap_estimation"),
    "no_leak": ("object_recognition", "object_attribute", "action_recognition"),
    "quote_found": ("object_recognition", "temporal_reasoning", "event_sequence"),
    "span_inside": ("object_recognition", "temporal_reasoning", "event_sequence"),
    "long_form": tuple(
        task.slug
        for task in TASKS
        if task.is_long
        and not task.is_computed
        and task.slug not in (*NOT_FAR_APART, "overall_summarization")
    ),
}  # fmt: skip
"""Where a rule is for all tasks but its faults can be planted in some only."""


def kinds_of(rule: Rule) -> list[tuple[str, str]]:
    """List the tasks and formats that a rule is tried on."""
    slugs = ONLY_TASKS.get(rule.name) or rule.tasks or [task.slug for task in TASKS]
    return [
        (task.slug, fmt)
        for task in TASKS
        for fmt in task.formats
        if task.slug in slugs and fmt in rule.formats
    ]


def outcomes(rule: Rule, footages: list[Footage], breaker: Breaker | None) -> list[tuple[str, str]]:
    rng = Random(zlib.crc32(rule.name.encode()))
    kinds = itertools.cycle(kinds_of(rule))
    found: list[tuple[str, str]] = []
    for number in range(NUM_CASES):
        footage, (task, fmt) = footages[number % len(footages)], next(kinds)
        row, tables = footage.row(task, fmt), tables_of(footage)
        broken = row if breaker is None else breaker(row, footage, rng)
        row, tables = broken if isinstance(broken, tuple) else (broken, tables)
        verdict = rule.verdict(row, tables)
        what = f"{row.task}: {row.question} | {row.answer} | {verdict.detail}"
        found.append((verdict.outcome, what))
    return found


def test_every_automatic_rule_has_planted_faults() -> None:
    assert set(BREAKERS) == set(RULE_NAMED)


@pytest.mark.parametrize("name", BREAKERS)
def test_a_rule_finds_planted_faults(name: str, footages: list[Footage]) -> None:
    said = outcomes(RULE_NAMED[name], footages, BREAKERS[name])
    missed = [text for outcome, text in said if outcome != "fail"]
    assert len(said) == NUM_CASES
    assert 1 - len(missed) / NUM_CASES >= MIN_FOUND, missed[:8]


@pytest.mark.parametrize("name", BREAKERS)
def test_a_rule_leaves_clean_rows_alone(name: str, footages: list[Footage]) -> None:
    said = outcomes(RULE_NAMED[name], footages, None)
    flagged = [text for outcome, text in said if outcome == "fail"]
    decided = sum(outcome == "pass" for outcome, _ in said)
    assert len(flagged) / NUM_CASES <= MAX_FLAGGED, flagged[:8]
    assert decided >= NUM_CASES / 10, "the rule skips nearly everything"


def test_clean_rows_of_all_tasks_pass_all_rules(footages: list[Footage]) -> None:
    kinds = [(task.slug, fmt) for task in TASKS for fmt in task.formats]
    assert len(kinds) == 43
    rows = [(footage, footage.row(*kind)) for footage in footages[:5] for kind in kinds]
    faulty = [
        (row.task, verdict.rule, verdict.detail)
        for footage, row in rows
        for verdict in check_row(row, tables_of(footage))
        if verdict.outcome == "fail"
        and not (verdict.rule == "long_form" and row.task in NOT_FAR_APART)
    ]
    assert len(faulty) / len(rows) <= MAX_FLAGGED, faulty[:8]


@pytest.mark.parametrize(
    ("question", "answer", "is_right"),
    [
        ("Which landscape turns into the {after}?", "{before}", True),
        ("What does the {before} turn into?", "{after}", True),
        ("Which place does the {after} follow?", "{before}", True),
        ("Which place follows here?", "{before}", False),
        ("Which place comes before?", "{after}", False),
        ("Where are we next?", "{after}", True),
    ],
)
def test_the_side_of_a_change_of_scene_is_understood(
    footages: list[Footage], question: str, answer: str, is_right: bool
) -> None:
    footage = footages[0]
    places = {"before": footage.parts[0].place, "after": footage.parts[1].place}
    before = [s for s in footage.scenes if s.part is footage.parts[0]][-1]
    after = next(s for s in footage.scenes if s.part is footage.parts[1])
    row = put(
        footage.row("scene_transition"),
        question=question.format(**places),
        answer=answer.format(**places),
        evidence=(footage.cite(before, "scene"), footage.cite(after, "scene")),
    )
    outcome = RULE_NAMED["scene_changes"].verdict(row, tables_of(footage)).outcome
    assert (outcome == "pass") == is_right
