"""Actions found in captions: whole phrases that can be asked about."""

from __future__ import annotations

import pytest

from hour_llava.videomarathon.terms import _distinct, actions_in


@pytest.mark.parametrize(
    ("text", "actions"),
    [
        ("She is slicing an onion, then running.", ["slicing an onion", "running"]),
        ("He is painting a wall behind them.", ["painting a wall"]),
        ("A man is opening the door before leaving.", ["opening the door", "leaving"]),
        ("He is riding the old red bike.", ["riding the old red bike"]),
        ("The chef is pouring the hot soup into a pot.", ["pouring the hot soup"]),
        ("A boy is carrying some towards the house.", ["carrying"]),
        ("Wearing a hat, she is washing the dishes slowly.", ["washing the dishes"]),
        ("He is holding the red.", ["holding"]),
    ],
)
def test_an_action_ends_with_its_thing_never_with_a_word_that_links_on(
    text: str, actions: list[str]
) -> None:
    assert actions_in(text) == actions


def test_an_action_that_another_contains_is_not_asked_about_beside_it() -> None:
    labels = ["slicing", "slicing an onion", "slicing an Onion", "washing", "an onion ring"]
    assert _distinct(labels) == ["slicing an onion", "washing", "an onion ring"]
