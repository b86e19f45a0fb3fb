"""A plan has the paper's numbers, and refuses what cannot fit with both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from hour_llava.data.features import FeaturesHeader, write_features
from hour_llava.data.manifest import Sample, write_manifest
from hour_llava.data.mixture import GlobalOrder
from hour_llava.errors import ConfigError
from hour_llava.recipes import RECIPES
from hour_llava.recipes.debug import shape
from hour_llava.train.config import BatchConfig, LoraConfig, TrainConfig
from hour_llava.train.estimate import Plan, make_plan, plan_lines
from hour_llava.train.machines import Machine, named_machine, this_machine
from hour_llava.train.sizes import (
    SampleSize,
    StreamSize,
    count_tokens_of,
    manifest_streams,
    paper_streams,
)
from hour_llava.train.start import start_config
from hour_llava.train.work import forward_work, work_of

HOUR = SampleSize(question_tokens=100, answer_tokens=0, num_frames=3600)
SMALL = Machine(name="small", count=1, memory_bytes=10**8, flops=1e12)


def recipe(name: str) -> TrainConfig:
    return RECIPES[name].config()


def plan_of(name: str, machine: Machine, config: TrainConfig | None = None) -> Plan:
    config = config or recipe(name)
    return make_plan(config, start_config(config.model), paper_streams(config.stage), machine)


def debug_plan(config: TrainConfig, machine: Machine = SMALL) -> Plan:
    size = SampleSize(question_tokens=300, answer_tokens=100, num_frames=300)
    stream = StreamSize(name="long", num_samples=10, typical=(size,), largest=size)
    return make_plan(config, shape(), [stream], machine)


def test_an_hour_is_234_000_memory_tokens_of_which_8_704_are_kept() -> None:
    counts = count_tokens_of(HOUR, start_config(recipe("hour_llava_3b_stage3").model))
    assert (counts.memory, counts.kept, counts.tower_inputs) == (234_000, 8_704, 0)


@pytest.mark.parametrize(("size", "tera"), [("3b", 134), ("7b", 265)])
def test_a_question_about_an_hour_costs_what_the_paper_s_arithmetic_says(
    size: str, tera: float
) -> None:
    config = start_config(recipe(f"hour_llava_{size}_stage3").model)
    forward = forward_work(count_tokens_of(HOUR, config), config)
    assert sum(forward.values()) / 1e12 == pytest.approx(tera, rel=0.06)


def test_the_tower_costs_2_310_tflop_an_hour() -> None:
    config = start_config(recipe("hour_llava_3b_stage3").model)
    counts = count_tokens_of(replace(HOUR, as_pixels=True), config)
    assert forward_work(counts, config)["vision"] / 1e12 == pytest.approx(2310, rel=0.05)


def test_a_stage_3_plan_agrees_with_the_paper() -> None:
    plan = plan_of("hour_llava_3b_stage3", named_machine("h200x8"))
    assert plan.samples_per_epoch == 4_450_000
    assert plan.num_steps == 34_769  # each stream's last batch is filled up
    assert plan.parameters["memaug"] == (209_842_176, 209_842_176)
    assert plan.parameters["vision"][1] == 0
    assert plan.parameters["language_model"][1] == pytest.approx(3.086e9, rel=1e-3)
    assert plan.accumulation == 16
    assert plan.sharding == "fsdp2"
    assert 15e9 < plan.memory_bytes < 25e9  # by the design's arithmetic 20 to 25 GB
    text = "\n".join(plan_lines(plan))
    for words in ("34,769 steps", "memory of 234,000", "8,704 of them visual", "209.8 M", "fits"):
        assert words in text


def test_half_an_epoch_is_as_many_steps_as_the_run_takes() -> None:
    config = recipe("hour_llava_3b_stage3")
    halved = replace(config, batch=replace(config.batch, epochs=0.5))
    planned = plan_of("hour_llava_3b_stage3", named_machine("h200x8"), halved)
    sizes = [stream.num_samples or 0 for stream in planned.streams]
    order = GlobalOrder(sizes, global_batch_size=128, mode="per_stream")
    assert planned.num_steps == order.num_batches(0.5)


def test_a_7b_takes_35_to_45_gb_on_eight_gpus() -> None:
    plan = plan_of("hour_llava_7b_stage3", named_machine("h200x8"))
    assert 30e9 < plan.memory_bytes < 45e9
    assert plan.fits


def test_stage_1_trains_memaug_alone_and_does_not_know_its_samples() -> None:
    plan = plan_of("hour_llava_7b_stage1", named_machine("h200x8"))
    trained = {part: numbers[1] for part, numbers in plan.parameters.items()}
    assert {part for part, number in trained.items() if number} == {"memaug"}
    assert (plan.num_steps, plan.hours) == (None, None)
    assert "? steps" in "\n".join(plan_lines(plan))


def test_what_does_not_fit_is_refused_with_both_numbers_and_a_remedy() -> None:
    with pytest.raises(
        ConfigError, match=r"needs \d+\.\d GB on each 4090, which has 25\.0 GB"
    ) as e:
        plan_of("hour_llava_7b_stage3", named_machine("4090x8")).require_fit()
    assert "--model.lora.rank" in str(e.value)
    one = plan_of("hour_llava_7b_stage3", named_machine("a100"))
    assert not one.fits
    assert one.fitting is not None
    assert plan_of("hour_llava_7b_stage3", named_machine(f"a100x{one.fitting}")).fits


def test_a_batch_that_cannot_be_dealt_is_refused_with_its_numbers() -> None:
    with pytest.raises(ConfigError, match="128 cannot be dealt to 3 devices"):
        plan_of("hour_llava_3b_stage3", named_machine("h200x3"))


def test_frozen_parts_and_adapters_take_less() -> None:
    config = recipe("hour_llava_7b_stage3")
    lora = replace(config, model=replace(config.model, lora=LoraConfig(rank=64)))
    machine = named_machine("h200x8")
    whole, adapters = plan_of("", machine, config), plan_of("", machine, lora)
    assert adapters.memory_bytes < whole.memory_bytes
    assert adapters.parameters["language_model"][1] == 28 * 64 * (
        2 * (3584 + 3584) + 2 * (3584 + 512) + 3 * (3584 + 18_944)
    )


def test_more_in_a_micro_batch_and_no_checkpointing_take_more() -> None:
    config = recipe("debug_stage3")
    more = replace(config, batch=BatchConfig(global_batch_size=4, micro_batch_size=4))
    kept = replace(config, hardware=replace(config.hardware, gradient_checkpointing=False))
    base = debug_plan(config).memory_bytes
    assert debug_plan(more).memory_bytes > base
    assert debug_plan(kept).memory_bytes > base


def test_a_trained_part_costs_three_forwards_and_four_with_checkpointing() -> None:
    config = shape()
    counts = count_tokens_of(HOUR, config)
    forward = forward_work(counts, config)
    whole = work_of(counts, config, {"language_model"}, checkpointing=False)
    assert whole.useful == whole.done
    behind = sum(forward.values()) - forward["language_model"]
    assert whole.useful == pytest.approx(behind + 3 * forward["language_model"])
    again = work_of(counts, config, {"memaug"}, checkpointing=True)
    assert again.done == pytest.approx(
        forward["projector"] + 4 * forward["memaug"] + 3 * forward["language_model"]
    )


def test_adapters_cost_no_gradient_of_the_weights_that_they_stand_beside() -> None:
    config = shape()
    counts = count_tokens_of(HOUR, config)
    forward = forward_work(counts, config)
    parts = {"language_model", "memaug"}
    whole = work_of(counts, config, parts, checkpointing=True)
    adapted = work_of(counts, config, parts, checkpointing=True, by_adapters=True)
    assert whole.done - adapted.done == pytest.approx(forward["language_model"])


def test_manifests_are_looked_at_by_their_rows(tmp_path: Path) -> None:
    Image.new("RGB", (64, 32)).save(tmp_path / "a.png")
    turns = ({"from": "human", "value": "x" * 40}, {"from": "gpt", "value": "y" * 8})
    rows = [Sample(id=str(i), conversations=turns, images=("a.png",)) for i in range(5)]
    rows.append(Sample(id="lost", conversations=turns, images=("b.png",)))
    rows.append(Sample(id="unanswered", conversations=turns[:1], images=("a.png",)))
    write_manifest(tmp_path / "m.jsonl", rows)
    (stream,) = manifest_streams(
        [tmp_path / "m.jsonl"], [0.5], root=None, features=None, fps=1.0, count_tokens=None
    )
    assert (stream.name, stream.num_samples) == ("m", 4)
    assert stream.note == "7 of 7 rows looked at"
    assert stream.unusable.startswith("2 of 7 rows cannot be read or are too long, the first: ")
    assert "b.png" in stream.unusable
    assert stream.largest.images_wh == ((64, 32),)
    assert stream.largest.answer_tokens == 2 + 5


def test_a_plan_names_videos_that_are_too_long_to_be_read_as_pixels(
    tmp_path: Path, black_video: Callable[[Path, int], None]
) -> None:
    turns = ({"from": "human", "value": "what"}, {"from": "gpt", "value": "a cat"})
    for num_frames in (30, 1025):
        black_video(tmp_path / f"{num_frames}.mp4", num_frames)
    names = ("30.mp4", "1025.mp4")
    rows = [Sample(id=name, conversations=turns, video=name) for name in names]
    write_manifest(tmp_path / "m.jsonl", rows)
    (stream,) = manifest_streams(
        [tmp_path / "m.jsonl"], [], root=None, features=None, fps=1.0, count_tokens=None
    )
    assert stream.unusable.startswith("1 of 2 rows cannot be read or are too long, the first: ")
    assert "1025.mp4 has 1,025 frames, at most 1,024 are read as pixels" in stream.unusable
    assert stream.largest.num_frames == 30


def test_rows_that_are_all_over_the_limit_are_counted_and_told_to_teach_nothing(
    tmp_path: Path,
) -> None:
    turns = ({"from": "human", "value": "x"}, {"from": "gpt", "value": "y"})
    write_manifest(tmp_path / "m.jsonl", [Sample(id=name, conversations=turns) for name in "ab"])
    options = {"root": None, "features": None, "fps": 1.0, "count_tokens": None}
    (stream,) = manifest_streams(
        [tmp_path / "m.jsonl"], [], **options, max_length=5, model_config=shape()
    )
    assert stream.unusable.startswith(
        "2 of 2 rows cannot be read or are too long (all of them: nothing would be learned"
    )


def test_rows_over_the_limit_are_named_and_set_no_largest_sample(tmp_path: Path) -> None:
    answers = ("y" * 8, "y" * 80_000, "y" * 40_000)
    rows = [
        Sample(
            id=a[:3], conversations=({"from": "human", "value": "x"}, {"from": "gpt", "value": a})
        )
        for a in answers
    ]
    write_manifest(tmp_path / "m.jsonl", rows)
    config = shape()
    streams = manifest_streams(
        [tmp_path / "m.jsonl"],
        [],
        root=None,
        features=None,
        fps=1.0,
        count_tokens=None,
        max_length=1000,
        model_config=config,
    )
    assert streams[0].largest.answer_tokens == 2 + 5
    text = "\n".join(plan_lines(make_plan(recipe("debug_stage3"), config, streams, SMALL)))
    assert f"m: 2 of 3 rows cannot be read or are too long, the first: {tmp_path}/m.jsonl:2" in text
    assert "tokens, the limit is 1,000; run `hour-llava data check`" in text


def test_a_row_an_answer_takes_so_many_rows_of_visual_tokens_of_one_memory(tmp_path: Path) -> None:
    turns = tuple({"from": who, "value": "x" * 40} for who in ("human", "gpt") * 5)
    header = FeaturesHeader(tower_digest="t", duration_seconds=300)
    write_features(tmp_path / "v", torch.zeros(300, 4, 32), torch.arange(300), header)
    write_manifest(tmp_path / "m.jsonl", [Sample(id="a", conversations=turns, features="v")])
    options: dict[str, Any] = {"root": None, "features": None, "fps": 1.0, "count_tokens": None}
    config, plans = recipe("debug_stage3"), dict[str, Plan]()
    for scope in ("conversation", "turn"):
        streams = manifest_streams([tmp_path / "m.jsonl"], [], **options, question_scope=scope)
        plans[scope] = make_plan(config, shape(), streams, SMALL)
    one, five = plans["conversation"], plans["turn"]
    (stream,), (by_turn,) = one.streams, five.streams
    for name in ("row_tokens", "visual_tokens"):
        assert getattr(by_turn, name) == 5 * getattr(stream, name)
    for name in ("memory_tokens", "learned_tokens", "num_samples"):
        assert getattr(by_turn, name) == getattr(stream, name)
    assert 3 * stream.done_flops < by_turn.done_flops < 5 * stream.done_flops
    assert one.num_steps == five.num_steps
    (counts,) = (count_tokens_of(s.largest, shape()) for s in streams)
    alone = forward_work(replace(counts, rows=1), shape())
    work = forward_work(counts, shape())
    assert work["projector"] == alone["projector"]
    assert alone["memaug"] < work["memaug"] < 5 * alone["memaug"]
    assert 2 * one.memory["kept"] < five.memory["kept"] < 5 * one.memory["kept"]
    assert f"largest sample     5 rows of {by_turn.largest.row:,} tokens" in "\n".join(
        plan_lines(five)
    )


def test_a_row_an_answer_has_its_own_images() -> None:
    one = SampleSize(question_tokens=20, answer_tokens=10, images_wh=((96, 64),))
    counts = count_tokens_of(one, shape())
    three = count_tokens_of(replace(one, num_rows=3), shape())
    for name in ("tower_inputs", "cells", "rows", "memories"):
        assert getattr(three, name) == 3 * getattr(counts, name)
    assert (three.row, three.memory) == (counts.row, counts.memory)


@pytest.mark.parametrize("text", ["h999x8", "h200x0", "", "x8"])
def test_an_unknown_machine_lists_the_known_ones(text: str) -> None:
    with pytest.raises(ConfigError, match="b200, h200, h100"):
        named_machine(text)


def test_this_machine_is_measured_where_it_is_a_cpu() -> None:
    machine = this_machine("cpu")
    assert machine.is_measured
    assert machine.flops > 0
    assert machine.memory_bytes > 0
