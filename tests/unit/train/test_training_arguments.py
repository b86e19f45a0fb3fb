"""What the trainer tells transformers."""

from __future__ import annotations

from pathlib import Path

import pytest

from hour_llava.train.trainer import training_arguments


@pytest.mark.parametrize(
    ("num_steps", "warm_up", "warm_up_steps"),
    [(1, 0.03, 0), (30, 0.03, 1), (100, 0.03, 3), (50, 100, 49), (1, 40, 0)],
)
def test_a_run_is_never_all_warm_up(
    num_steps: int, warm_up: float, warm_up_steps: int, tmp_path: Path
) -> None:
    arguments = training_arguments(
        out=tmp_path,
        num_steps=num_steps,
        accumulation_steps=1,
        schedule="cosine",
        warm_up=warm_up,
        max_grad_norm=1.0,
        autocast=False,
        save_every_steps=None,
        seed=0,
        device="cpu",
        more={},
    )
    assert arguments.get_warmup_steps(num_steps) == warm_up_steps
