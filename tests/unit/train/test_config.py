"""Settings are checked where they are made, and come back from JSON as they were."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from hour_llava.errors import ConfigError
from hour_llava.recipes import RECIPES
from hour_llava.train.config import (
    EXAM_SECONDS,
    BatchConfig,
    DataConfig,
    HardwareConfig,
    LoraConfig,
    ModelConfig,
    OptimConfig,
    TrainConfig,
    WatchConfig,
    differences,
)
from hour_llava.world import timeline

CONFIG = TrainConfig(
    name="x",
    stage=3,
    model=ModelConfig(start="somewhere"),
    data=DataConfig(manifest=(Path("a.jsonl"), Path("b.jsonl")), weights=(1.0, 0.5)),
    optim=OptimConfig(lr_memaug=1e-4),
)


@pytest.mark.parametrize("config", [CONFIG, *(r.config() for r in RECIPES.values())])
def test_settings_come_back_from_json(config: TrainConfig) -> None:
    assert TrainConfig.from_dict(json.loads(json.dumps(config.as_dict()))) == config


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"optim": {"lr_x": 1}}, "optim.lr_x: no such setting"),
        ({"steps": 3}, "steps: no such setting"),
    ],
)
def test_an_unknown_setting_is_named(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        TrainConfig.from_dict(CONFIG.as_dict() | change)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"optim": OptimConfig()}, "nothing would be trained"),
        ({"optim": OptimConfig(lr_memaug=-1)}, "--optim.lr-memaug -1: a rate is 0"),
        ({"optim": OptimConfig(lr_memaug=1, eps=-1)}, "--optim.eps -1: more than 0"),
        ({"batch": BatchConfig(max_steps=10**20)}, "--batch.max-steps 1(0{20}): at most 1,000,000"),
        ({"seed": 10**22}, "--seed 1(0{22}): at most 4,294,967,295"),
        ({"hardware": HardwareConfig(device="tpu")}, "--hardware.device tpu: training runs on cpu"),
        (
            {"hardware": HardwareConfig(device="cuda:1")},
            "cuda:1: .* take cuda, and choose the GPU with CUDA_VISIBLE_DEVICES=1$",
        ),
        ({"hardware": HardwareConfig(device="mps")}, "mps: training runs on cpu or cuda; Apple's"),
        ({"watch": WatchConfig(exam_videos=0)}, "--watch.exam-videos 0: at least 1"),
        ({"watch": WatchConfig(exam_questions=-1)}, "--watch.exam-questions -1: at least 1"),
        (
            {"model": ModelConfig(start="x", lora=LoraConfig(alpha=-1))},
            "--model.lora.alpha -1: more than 0",
        ),
        ({"data": DataConfig(workers=100_000)}, "--data.workers 100000: at most 1,024"),
        ({"optim": OptimConfig(lr_memaug=float("nan"))}, "--optim.lr-memaug nan"),
        ({"optim": OptimConfig(lr_memaug=1, warm_up=1.5)}, "--optim.warm-up 1.5"),
        ({"batch": BatchConfig(global_batch_size=0)}, "--batch.global-batch-size 0"),
        ({"batch": BatchConfig(global_batch_size=6, micro_batch_size=4)}, "6 is no multiple"),
        ({"batch": BatchConfig(epochs=0)}, "--batch.epochs 0"),
        ({"batch": BatchConfig(max_steps=0)}, "--batch.max-steps 0"),
        ({"data": DataConfig(weights=(1.0,))}, "1 --data.weights for 0 --data.manifest"),
        (
            {"data": DataConfig(manifest=(Path("m"),), weights=(float("nan"),))},
            "--data.weights nan: a weight is more than 0",
        ),
        ({"data": DataConfig(manifest=(Path("m"),), weights=(0,))}, "--data.weights 0: a weight"),
        ({"data": DataConfig(workers=-1)}, "--data.workers -1"),
        (
            {
                "data": DataConfig(features=Path("features")),
                "optim": OptimConfig(lr_vision=1e-6, lr_memaug=1e-4),
            },
            "--data.features features holds what the tower made before training",
        ),
        ({"data": DataConfig(fps=0)}, "--data.fps 0: more than 0"),
        ({"data": DataConfig(fps=float("inf"))}, "--data.fps inf"),
        ({"seed": -1}, "--seed -1: at least 0"),
        ({"optim": OptimConfig(lr_memaug=1, betas=(0.9, 1.0))}, "--optim.betas 0.9 1.0: 1.0 is"),
        ({"optim": OptimConfig(lr_memaug=1, betas=(-0.1, 0.9))}, "betas -0.1 0.9: -0.1 is"),
        ({"model": ModelConfig(start="x", lora=LoraConfig(dropout=1.0))}, "lora.dropout 1.0"),
        ({"model": ModelConfig(start="x", lora=LoraConfig(rank=4))}, "nobody would train these"),
        ({"model": ModelConfig(start="x", lora=LoraConfig(alpha=64))}, "without --model.lora.rank"),
        ({"data": DataConfig(cache_gigabytes=10)}, "--data.cache-gigabytes 10 without --data"),
        ({"model": ModelConfig(start="x", attention="fast")}, "--model.attention fast: known are"),
        ({"watch": WatchConfig(validate_every_steps=5)}, "steps 5 without --data.validation"),
        ({"watch": WatchConfig(exam_seconds=13)}, "--watch.exam-seconds 13: .* 14 to 86400"),
        ({"watch": WatchConfig(exam_seconds=86_401)}, "--watch.exam-seconds 86401"),
    ],
)
def test_values_that_no_run_can_have_are_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        replace(CONFIG, **change)


def test_an_attention_whose_package_is_not_there_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="needs the package flash_attn, which is not installed"):
        replace(CONFIG, model=ModelConfig(start="x", attention="flash_attention_2"))
    assert replace(CONFIG, model=ModelConfig(start="x", attention="eager")).model.attention


def test_an_exam_s_videos_are_as_long_as_the_world_makes_them() -> None:
    assert EXAM_SECONDS == (timeline.MIN_SECONDS, timeline.MAX_SECONDS)


def test_a_resumption_may_change_the_layout_of_the_work_and_not_what_is_learned() -> None:
    saved = CONFIG.as_dict()
    free = replace(
        CONFIG,
        hardware=replace(CONFIG.hardware, sharding="ddp", gradient_checkpointing=False),
        watch=replace(CONFIG.watch, progress=False),
        data=replace(CONFIG.data, workers=0, cache=Path("/tmp")),
        batch=replace(CONFIG.batch, micro_batch_size=4),
    )
    assert differences(saved, free) == []
    precise = replace(CONFIG, hardware=replace(CONFIG.hardware, precision="fp32"))
    assert differences(saved, precise) == ["hardware.precision: bf16, now fp32"]
    other = replace(CONFIG, seed=1, optim=replace(CONFIG.optim, lr_memaug=2e-4))
    assert differences(saved, other) == ["optim.lr_memaug: 0.0001, now 0.0002", "seed: 0, now 1"]


def test_a_setting_that_an_older_version_had_not_is_what_it_is_by_default() -> None:
    saved = CONFIG.as_dict()
    del saved["optim"]["eps"], saved["model"]["lora"]
    assert differences(saved, CONFIG) == []
    other = replace(CONFIG, optim=replace(CONFIG.optim, eps=1e-6))
    assert differences(saved, other) == [f"optim.eps: {CONFIG.optim.eps}, now 1e-06"]


def test_every_field_is_documented() -> None:
    source = Path(sys.modules[TrainConfig.__module__].__file__ or "").read_text()

    def check(kind: Any) -> None:
        hints = get_type_hints(kind)
        for field in fields(kind):
            hint = hints[field.name]
            if is_dataclass(hint):
                check(hint)
                continue
            behind = source.partition(f"class {kind.__name__}:")[2]
            behind = behind.partition(f"\n    {field.name}: ")[2]
            lines = behind.splitlines()[1:]
            end = next(i for i, line in enumerate(lines) if line.startswith('    """'))
            assert not any(line[4:5].isalpha() for line in lines[:end]), field.name

    check(TrainConfig)


def test_settings_and_recipes_are_light_to_import() -> None:
    code = "import sys; from hour_llava.recipes import RECIPES; [r.config() for r in "
    code += "RECIPES.values()]; print(*{'torch', 'transformers', 'av', 'tyro'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("", "")
