"""The paper's six training runs: 3B and 7B, three stages each.

    stage 1   image-language            MemAug alone learns, on single images
    stage 2   video-language            everything learns: images, texts, short videos
    stage 3   video instructions        all but the vision tower learns, also on hour-long videos

Each begins with the published weights of the stage before; `--model.start` names your own. Data is
yours to name: `--data.manifest`, one manifest a stream of the mixture, `hour-llava data group`
makes them.
Source: arXiv 2506.05332, table 8; batches from one stream each as in the released code.
"""

from __future__ import annotations

from typing import Literal

from hour_llava.train.config import (
    BatchConfig,
    DataConfig,
    HardwareConfig,
    ModelConfig,
    OptimConfig,
    TrainConfig,
)

Size = Literal["3b", "7b"]

_START = {
    "3b": "jylins/llava-onevision-qwen25-3b-si",
    "7b": "lmms-lab/llava-onevision-qwen2-7b-si",
}
_RELEASED = {"3b": "jylins/hourllava-qwen25-3b-s{}", "7b": "jylins/hourllava-qwen2-7b-s{}"}
LONG_WINDOW = 4096
"""Samples among which stage 3 shuffles: those of one video come close together."""


def hour_llava_3b_stage1() -> TrainConfig:
    """Align MemAug with images."""
    return _stage1("3b")


def hour_llava_3b_stage2() -> TrainConfig:
    """Adapt all parts to videos."""
    return _stage2("3b")


def hour_llava_3b_stage3() -> TrainConfig:
    """Tune on instructions about videos of up to hours."""
    return _stage3("3b")


def hour_llava_7b_stage1() -> TrainConfig:
    """Align MemAug with images."""
    return _stage1("7b")


def hour_llava_7b_stage2() -> TrainConfig:
    """Adapt all parts to videos; the language model learns more slowly than the 3B's."""
    return _stage2("7b")


def hour_llava_7b_stage3() -> TrainConfig:
    """Tune on instructions about videos of up to hours, in batches twice the 3B's."""
    return _stage3("7b")


def _stage1(size: Size) -> TrainConfig:
    return TrainConfig(
        name=f"hour_llava_{size}_stage1",
        stage=1,
        model=ModelConfig(start=_START[size]),
        optim=OptimConfig(lr_memaug=1e-4),
        batch=BatchConfig(global_batch_size=128, micro_batch_size=4),
    )


def _stage2(size: Size) -> TrainConfig:
    language_model = {"3b": 2e-5, "7b": 1e-5}[size]
    return TrainConfig(
        name=f"hour_llava_{size}_stage2",
        stage=2,
        model=ModelConfig(start=_RELEASED[size].format(1)),
        optim=OptimConfig(
            lr_vision=5e-6, lr_projector=1e-4, lr_memaug=1e-4, lr_language_model=language_model
        ),
        batch=BatchConfig(global_batch_size=128, micro_batch_size=1),
    )


def _stage3(size: Size) -> TrainConfig:
    return TrainConfig(
        name=f"hour_llava_{size}_stage3",
        stage=3,
        model=ModelConfig(start=_RELEASED[size].format(2)),
        data=DataConfig(window=LONG_WINDOW),
        optim=OptimConfig(lr_projector=1e-4, lr_memaug=1e-4, lr_language_model=2e-5),
        batch=BatchConfig(global_batch_size={"3b": 128, "7b": 256}[size], micro_batch_size=1),
        hardware=HardwareConfig(loss_chunk_size=1024),
    )
