from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

import hour_llava  # noqa: F401  (registers the Auto classes)
from hour_llava.recipes.nano import FAMILIES, NanoSettings, Phase, make_tokenizer, train_nano
from hour_llava.train.nano.loop import LoopSettings, Stage
from hour_llava.train.nano.tower import TowerSettings
from hour_llava.world.questions import ask
from hour_llava.world.timeline import make_timeline

SHARES = (0.5, 0.25, 0.25)
TINY = NanoSettings(
    image_size=32,
    patch_size=16,
    width=32,
    layers=1,
    tower_width=32,
    tower_layers=1,
    short=((14, 60),),
    long=((60, 12),),
    drills=(14, 1),
    held_out=((14, 1), (16, 1)),
    tower=(
        Phase(settings=TowerSettings(num_steps=2, batch_size=8), is_shared=False),
        Phase(settings=TowerSettings(num_steps=2, batch_size=8, shares=SHARES), is_shared=True),
    ),
    loops=tuple(
        LoopSettings(
            stages=(Stage(num_steps=2, seconds=(14, 30)),),
            num_videos=2,
            num_rows=8,
            evidence_heads=1,
            log_every=1,
            seed=seed,
        )
        for seed in (0, 1)
    ),
)


@pytest.mark.slow
def test_a_tiny_run_writes_a_model_that_loads_and_goes_on_where_it_was(tmp_path: Path) -> None:
    lines: list[str] = []
    train_nano(tmp_path, TINY, lines.append)
    assert sum("held out" in line for line in lines) == 4
    model = AutoModelForImageTextToText.from_pretrained(tmp_path)
    processor = AutoProcessor.from_pretrained(tmp_path)
    assert processor.tokenizer.chat_template == processor.chat_template
    first = {name: weight.clone() for name, weight in model.state_dict().items()}
    train_nano(tmp_path, TINY, lines.append)  # every part is there already
    again = AutoModelForImageTextToText.from_pretrained(tmp_path).state_dict()
    assert all(torch.allclose(again[name], weight, atol=1e-5) for name, weight in first.items())


def test_nano_knows_every_word_of_its_questions() -> None:
    from random import Random

    tokenizer, rng = make_tokenizer(), Random(0)
    timelines = [make_timeline(120, seed) for seed in range(6)]
    for family in FAMILIES:
        for timeline in timelines:
            for wordings in ("train", "unseen"):
                question = ask(timeline, family, rng, wordings=wordings)
                text = "" if question is None else f"{question.question} {question.answer}"
                assert tokenizer.unk_token_id not in tokenizer(text).input_ids, text
