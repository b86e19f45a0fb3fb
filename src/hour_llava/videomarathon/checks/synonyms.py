"""Words that name the same thing, for the rule that a "no" needs no hit in any caption.

A small table of everyday things, people, places and moves, as captions of ordinary footage use
them. It errs towards calling words the same: that costs a row, a wrong "no" costs trust.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

GROUPS: tuple[str, ...] = (
    "sofa couch settee loveseat",
    "television tv telly",
    "bicycle bike cycle",
    "motorcycle motorbike moped scooter",
    "car automobile sedan suv",
    "truck lorry pickup",
    "plane airplane aeroplane aircraft jet",
    "boat ship vessel",
    "phone telephone cellphone smartphone mobile",
    "laptop notebook computer pc",
    "dog puppy hound pup",
    "cat kitten kitty feline",
    "horse pony mare stallion",
    "rabbit bunny hare",
    "child kid toddler youngster",
    "baby infant newborn",
    "man guy gentleman male fellow",
    "woman lady female",
    "boy lad",
    "girl lass",
    "person human individual somebody",
    "cup mug",
    "glass tumbler goblet",
    "pan skillet frypan",
    "pot saucepan cauldron",
    "stove cooker hob stovetop cooktop",
    "fridge refrigerator",
    "cupboard cabinet wardrobe closet",
    "bin trashcan wastebasket dustbin",
    "tap faucet",
    "rug carpet mat",
    "curtain drape",
    "lamp light lantern",
    "picture photo photograph image",
    "bag handbag purse sack",
    "backpack rucksack knapsack",
    "hat cap beanie",
    "trousers pants slacks",
    "sweater jumper pullover",
    "spectacles eyeglasses",
    "shoe sneaker trainer footwear",
    "road street",
    "path trail footpath",
    "forest woods woodland",
    "sea ocean",
    "hill hillside",
    "stone rock boulder",
    "shop store",
    "house home",
    "garden yard backyard",
    "gun pistol rifle firearm",
    "cookie biscuit",
    "eggplant aubergine",
    "zucchini courgette",
    "shrimp prawn",
    "candy sweet sweets",
    "color colour",
    "gray grey",
    "violet purple",
    "large big huge",
    "small little tiny",
    "fast quick rapid",
    "quickly rapidly",
    "begin start commence",
    "end finish stop",
    "cut chop slice dice",
    "throw toss hurl",
    "grab grasp seize",
    "run sprint jog",
    "walk stroll",
    "speak talk chat",
    "look gaze stare",
    "build construct assemble",
    "repair fix mend",
    "clean wipe wash",
)
"""Each line is a group; its first word stands for all of them."""

IRREGULAR: tuple[str, ...] = (
    "tie tying ties", "lie lying", "die dying", "hold held", "throw threw thrown",
    "take took taken", "give gave given", "go went gone goes", "come came", "run ran",
    "eat ate eaten", "drink drank drunk", "see saw seen", "sit sat sitting", "stand stood",
    "write wrote written", "ride rode ridden riding", "drive drove driven driving",
    "catch caught", "bring brought", "buy bought", "build built", "break broke broken",
    "cut cutting", "put putting", "fall fell fallen", "rise rose risen rising", "fly flew flown",
    "swim swam swum swimming", "wear wore worn", "feed fed", "speak spoke spoken",
    "make made making", "find found", "say said", "tell told", "begin began begun",
    "draw drew drawn", "grow grew grown", "shrink shrank shrunk", "sing sang sung",
    "swing swung", "dig dug digging", "shake shook shaken", "sweep swept", "man men",
    "woman women", "child children", "foot feet", "tooth teeth", "mouse mice", "goose geese",
    "person people persons",
)  # fmt: skip
"""Each line is one word in forms that no rule of endings gives. Not "left": it is a side too."""


def _table(groups: tuple[str, ...]) -> Mapping[str, str]:
    table: dict[str, str] = {}
    for group in groups:
        first, *others = group.split()
        for word in (first, *others):
            table[word] = first
    return MappingProxyType(table)


SYNONYM_OF: Mapping[str, str] = _table(GROUPS)
"""Word -> the first of its group."""

BASE_OF: Mapping[str, str] = _table(IRREGULAR)
"""Irregular form -> its base."""
