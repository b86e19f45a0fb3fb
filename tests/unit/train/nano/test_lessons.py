from __future__ import annotations

import json
from random import Random

import pytest
import torch

from hour_llava.errors import CheckpointError
from hour_llava.model.modeling_hour_llava import HourLlavaForConditionalGeneration
from hour_llava.recipes.nano import FAMILIES, NanoSettings, make_config, make_tokenizer
from hour_llava.train.nano.bank import training_timeline
from hour_llava.train.nano.batches import Composer
from hour_llava.train.nano.lessons import LoopSettings, Stage, StepSampler, VideoLessons
from hour_llava.train.nano.loop import train_on_features
from hour_llava.train.nano.objective import Heads, Weights
from hour_llava.train.nano.scratch import start_from_scratch
from hour_llava.train.nano.splice import VideoSample
from hour_llava.train.nano.team import Team
from hour_llava.train.nano.tower import attribute_classes
from hour_llava.world.labels import attributes_per_second

NANO = NanoSettings(width=32, layers=1, language_layers=1, tower_width=32, tower_layers=1)
LOOP = LoopSettings(
    stages=(Stage(num_steps=4, seconds=(20, 40)), Stage(num_steps=4, seconds=(40, 60))),
    num_videos=2,
    num_rows=8,
    weights=Weights(evidence_heads=1),
    warm_up_steps=2,
    log_every=1,
    save_every=3,
)


def whole_clips(
    seconds: int, count: int, rng: Random, *, num_frames: int | None = None
) -> list[VideoSample]:
    """Videos of one kind of noise each; splicing has tests of its own."""
    timelines = [training_timeline(seconds, rng.randrange(1000)) for _ in range(count)]
    return [
        VideoSample(
            features_FPD=torch.full((seconds, 4, 32), timeline.seed / 1000),
            classes_FPA=attribute_classes(attributes_per_second(timeline)).to(torch.uint8),
            timeline=timeline,
            seconds_F=torch.arange(seconds),
        )
        for timeline in timelines
    ]


def train(out, lines: list[str], *, stop_at: int | None = None) -> dict[str, torch.Tensor]:
    tokenizer = make_tokenizer()
    torch.manual_seed(0)
    model = HourLlavaForConditionalGeneration(make_config(NANO, tokenizer))
    start_from_scratch(model, 0)
    composer = Composer(model.config, tokenizer, FAMILIES)
    heads = Heads(NANO.width, len(composer.answers), NANO.tube_size)

    def log(line: str) -> None:
        lines.append(line.split(" min ")[1])
        if stop_at is not None and f"step {stop_at} " in line:
            raise InterruptedError

    train_on_features(
        model, heads, composer, whole_clips, LOOP, out=out, noise=0.1, team=Team(), log=log
    )
    return model.state_dict()


def test_a_stopped_stage_goes_on_to_the_last_bit(tmp_path) -> None:
    whole, parts = list[str](), list[str]()
    weights = train(tmp_path / "whole", whole)
    with pytest.raises(InterruptedError):
        train(tmp_path / "parts", parts, stop_at=5)
    again = train(tmp_path / "parts", parts)
    assert len(whole) == 8
    assert parts == [*whole[:5], *whole[3:]]  # it was saved behind the third step
    assert all(torch.equal(weight, again[name]) for name, weight in weights.items())
    lines = [json.loads(line) for line in (tmp_path / "parts/log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["kind"] == "step"] == [*range(1, 9)]


def test_a_batch_depends_on_seed_step_and_rank_alone() -> None:
    tokenizer = make_tokenizer()
    composer = Composer(make_config(NANO, tokenizer), tokenizer, FAMILIES)
    lessons = VideoLessons(
        composer=composer, videos=whole_clips, settings=LOOP, noise=0.1, team_size=2
    )
    first, again, other = lessons[3, 0], lessons[3, 0], lessons[3, 1]
    assert torch.equal(first["input_ids"], again["input_ids"])
    assert torch.equal(first["video_features"][0], again["video_features"][0])
    assert len(first["video_features"][0]) == len(other["video_features"][0])
    assert not torch.equal(first["video_features"][0], other["video_features"][0])


def test_another_order_is_refused() -> None:
    sampler = StepSampler(5, 0, "one")
    sampler.load_state_dict({"num_consumed": 3, "order": "one"})
    assert list(sampler) == [[(3, 0)], [(4, 0)]]
    with pytest.raises(CheckpointError, match="other settings"):
        sampler.load_state_dict({"num_consumed": 3, "order": "two"})
