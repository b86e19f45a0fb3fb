"""Caption rules find 95 % of 200 planted faults and flag at most 2 % of 200 clean captions."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from hour_llava.videomarathon.checks.captions import CAPTION_RULES, check_caption
from hour_llava.videomarathon.records import Aspects, ClipCaption

NUM_CASES, MIN_FOUND, MAX_FLAGGED = 200, 0.95, 0.02
Footage = Any
ASPECTS = tuple(Aspects.model_fields)

REFUSALS = (
    "I'm sorry, but I cannot help with that.", "I am unable to view the images.",
    "As an AI language model, I have no eyes.", "I can't describe people in pictures.",
    "I cannot identify the person shown here.", "Sorry, I'm not able to see the video.",
    "No images were provided.", "I can’t assist with that request.",
    "This goes against my guidelines.", "I won't describe this scene.",
    "As a large model I do not watch.", "Without frames provided, nothing can be said.",
    "I could not access the pictures.", "I'm afraid there is nothing to see.",
)  # fmt: skip
CHATTER = (
    "Sure, here is the caption you asked for.", "Certainly! The scene is a kitchen.",
    "Here is a detailed description of it.", "I hope this helps!", "```json", "{a JSON object}",
    "Let me know if you need more.", "Based on the provided frames, a man works.",
    "Of course. A man works.", "Here's the summary in JSON format.", "[insert description here]",
    "Feel free to ask more.", "In the given image, a man works.", "Lorem ipsum dolor sit amet.",
    "As requested, a man works.", "Please note that details are small.",
)  # fmt: skip
FOREIGN = (
    "Der Mann schneidet die Zwiebel, während das Licht langsam heller wird und die Tür aufgeht.",
    "La femme lave les fenêtres de la maison et un chien est couché sur le tapis dans le salon.",
    "El hombre corta la cebolla en la cocina y una mujer lee el periódico en el sofá con el perro.",
    "Il cane è nel giardino e una donna legge il giornale mentre il sole splende sulla casa.",
    "O homem corta a cebola na cozinha e uma mulher lê um livro no sofá enquanto o cão dorme.",
    "De man snijdt de ui in de keuken terwijl een vrouw op de bank de krant leest met het hondje.",
    "一个男人在厨房里切洋葱，光线慢慢变亮。",
    "男性が台所で玉ねぎを切っていて、光がゆっくり明るくなる。",
    "Мужчина режет лук на кухне, пока свет становится ярче.",
    "رجل يقطع البصل في المطبخ بينما يضيء الضوء.",
    "남자가 부엌에서 양파를 썰고 있고 빛이 밝아진다.",
)  # fmt: skip


def with_aspects(caption: ClipCaption, **texts: str) -> ClipCaption:
    return caption.model_copy(update={"aspects": caption.aspects.model_copy(update=texts)})


def refusing(caption: ClipCaption, _: ClipCaption, rng: Random) -> ClipCaption:
    return with_aspects(caption, **{rng.choice(ASPECTS): rng.choice(REFUSALS)})


def chattering(caption: ClipCaption, _: ClipCaption, rng: Random) -> ClipCaption:
    name, chat = rng.choice(ASPECTS), rng.choice(CHATTER)
    if rng.random() < 0.3 and "```" not in chat and chat[0].isupper():
        return with_aspects(caption, **{name: f"{chat}\n{getattr(caption.aspects, name)}"})
    return with_aspects(caption, **{name: chat})


def short(caption: ClipCaption, _: ClipCaption, rng: Random) -> ClipCaption:
    way = rng.randrange(3)
    if way == 0:
        return with_aspects(caption, **{rng.choice(ASPECTS): rng.choice(["", " ", "...", "-"])})
    if way == 1:
        return with_aspects(caption, summary=rng.choice(["Work.", "A man", "Nothing happens."]))
    return with_aspects(caption, **dict.fromkeys(ASPECTS[:5], "A man."), summary="A man at work.")


def looping(caption: ClipCaption, _: ClipCaption, rng: Random) -> ClipCaption:
    unit = rng.choice(
        ["the man walks ", "very ", "and then the door opens and ", "left right ", "no no "]
    )
    text = unit * rng.randint(5, 60)
    if rng.random() < 0.4:
        text = f"{getattr(caption.aspects, 'scene')} {text}"  # noqa: B009
    return with_aspects(caption, **{rng.choice(ASPECTS): text})


def copied(caption: ClipCaption, previous: ClipCaption, rng: Random) -> ClipCaption:
    aspects = previous.aspects
    if rng.random() < 0.3:
        aspects = aspects.model_copy(update={"summary": aspects.summary.upper()})
    return caption.model_copy(update={"aspects": aspects})


def foreign(caption: ClipCaption, _: ClipCaption, rng: Random) -> ClipCaption:
    text = rng.choice(FOREIGN)
    return with_aspects(caption, **dict.fromkeys(ASPECTS, text))


BREAKERS: dict[str, Callable[[ClipCaption, ClipCaption, Random], ClipCaption]] = {
    "refusal": refusing,
    "boilerplate": chattering,
    "too_short": short,
    "loop": looping,
    "copied_neighbour": copied,
    "wrong_language": foreign,
}


def pairs(footages: list[Footage]) -> list[tuple[ClipCaption, ClipCaption]]:
    """List 200 captions with the one before each."""
    all_pairs = [
        (after.caption, before.caption)
        for footage in footages
        for before, after in zip(footage.scenes, footage.scenes[1:], strict=False)
    ]
    return Random(0).sample(all_pairs, NUM_CASES)


def outcome_of(name: str, caption: ClipCaption, previous: ClipCaption) -> str:
    verdicts = {v.rule: v for v in check_caption(caption, previous, language="en")}
    return verdicts[name].outcome


def test_every_caption_rule_has_planted_faults() -> None:
    assert set(BREAKERS) == {rule.name for rule in CAPTION_RULES}


@pytest.mark.parametrize("name", BREAKERS)
def test_a_caption_rule_finds_planted_faults(name: str, footages: list[Footage]) -> None:
    rng = Random(zlib.crc32(name.encode()))
    broken = [(BREAKERS[name](c, p, rng), p) for c, p in pairs(footages)]
    missed = [c.aspects for c, p in broken if outcome_of(name, c, p) != "fail"]
    assert 1 - len(missed) / NUM_CASES >= MIN_FOUND, missed[:3]


@pytest.mark.parametrize("name", BREAKERS)
def test_a_caption_rule_leaves_clean_captions_alone(name: str, footages: list[Footage]) -> None:
    flagged = [c.aspects for c, p in pairs(footages) if outcome_of(name, c, p) == "fail"]
    assert len(flagged) / NUM_CASES <= MAX_FLAGGED, flagged[:3]


@pytest.mark.parametrize("language", ["de", "fr", "es", "it", "pt", "nl", "zh", "ja", "ru", "ar"])
def test_a_caption_in_the_language_asked_for_is_fine(
    language: str, footages: list[Footage]
) -> None:
    order = ("de", "fr", "es", "it", "pt", "nl", "zh", "ja", "ru", "ar")
    text = FOREIGN[order.index(language)]
    caption = with_aspects(footages[0].scenes[0].caption, **dict.fromkeys(ASPECTS, text))
    verdicts = {v.rule: v for v in check_caption(caption, None, language=language)}
    assert verdicts["wrong_language"].outcome == "pass", verdicts["wrong_language"].detail


@pytest.mark.parametrize("backend", ["truth", "embedded"])
def test_captions_worded_from_a_table_are_not_looked_at(
    backend: str, footages: list[Footage]
) -> None:
    caption = footages[0].scenes[0].caption
    source = caption.provenance.model_copy(update={"backend": backend})
    templated = with_aspects(caption, object="").model_copy(update={"provenance": source})
    assert {v.outcome for v in check_caption(templated, templated)} == {"skip"}
