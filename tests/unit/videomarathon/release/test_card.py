"""The card's front matter is the hub's, and its words are counted, not claimed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import yaml

from hour_llava.videomarathon.release.card import plain, write_card
from hour_llava.videomarathon.release.media import allows_copies
from hour_llava.videomarathon.release.parquet import count_rows
from hour_llava.videomarathon.release.seal import card_facts, make_drafts

Make = Callable[..., Any]


def _card(build: Any, kind: str = "training") -> tuple[dict[str, Any], str]:
    draft = make_drafts(build)[kind]
    text = write_card(card_facts(draft, count_rows(draft.videos_by_split)))
    _, front, body = text.split("---\n", 2)
    return yaml.safe_load(front), body


def test_front_matter_names_what_the_hub_needs(make_memory_build: Make) -> None:
    front, _ = _card(make_memory_build("truth"))

    assert front["license"] == "cc-by-4.0"
    assert front["language"] == ["en"]
    assert front["size_categories"] == ["n<1K"]
    assert "video-text-to-text" in front["task_categories"]
    configs = {item["config_name"]: item["data_files"] for item in front["configs"]}
    assert list(configs) == ["default", "videos", "events", "clip_captions"]
    assert configs["default"] == [{"split": "train", "path": "data/train-*.parquet"}]


@pytest.mark.parametrize(
    ("licence", "expected", "name"),
    [
        ("CC0-1.0", "cc0-1.0", None),
        (None, "unknown", None),
        ("Ego4D: see\nterms", "other", "Ego4D: see terms"),
    ],
)
def test_licences_keep_the_hubs_names(
    make_memory_build: Make, licence: str | None, expected: str, name: str | None
) -> None:
    front, body = _card(make_memory_build("truth", licence=licence))

    assert (front["license"], front.get("license_name")) == (expected, name)
    assert (licence or "not stated").replace("\n", " ") in body


def test_the_body_says_who_made_it_and_how_much(make_memory_build: Make) -> None:
    _, body = _card(make_memory_build("truth", "endpoint"))

    assert "84 questions (42 open-ended, 42 multiple-choice)" in body
    assert "`truth` (videos: 1)" in body and "`endpoint` (videos: 1)" in body
    assert "| VideoMarathon | 9,700 | 20.9 |" in body
    assert "| kites | 0.10 | 3.0 |" in body
    assert "| no\\_video | 1 |" in body or "| no_video | 1 |" in body
    assert "| blind | a model without the video does not find the answer" in body
    assert "DEMONSTRATION" not in body


def test_a_demonstrations_card_warns_on_top_and_in_its_tags(make_memory_build: Make) -> None:
    front, body = _card(make_memory_build("embedded"), "demonstration")

    assert "demonstration-not-training-data" in front["tags"]
    assert body.split("\n\n")[1].startswith("> **DEMONSTRATION")
    assert "Do not train on it" in body


def test_words_of_a_source_cannot_break_the_tables() -> None:
    assert plain("a|b\n<c> `d`") == "a\\|b \\<c\\> \\`d\\`"


@pytest.mark.parametrize(
    "licence", ["CC0-1.0", "cc-by-4.0", "CC-BY-NC-SA-4.0", "public domain", "MIT"]
)
def test_open_licences_allow_copies(licence: str) -> None:
    assert allows_copies(licence)


@pytest.mark.parametrize(
    "licence", [None, "", "youtube", "unknown", "CC-BY-4.0 (some)", "proprietary"]
)
def test_other_licences_do_not(licence: str | None) -> None:
    assert not allows_copies(licence)
