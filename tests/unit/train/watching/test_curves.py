"""The picture of a run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hour_llava.train.watching.curves import draw_curves, smooth


def test_smoothing_begins_at_the_first_value_and_keeps_a_constant() -> None:
    falling = np.linspace(4.0, 2.0, 1000)
    assert smooth(falling)[0] == pytest.approx(4.0)
    assert np.all(smooth(falling)[1:] > falling[1:])
    assert np.allclose(smooth(np.full(500, 3.0)), 3.0)


@pytest.mark.parametrize("num_steps", [0, 1, 30])
def test_curves_are_drawn_of_any_log(num_steps: int, tmp_path: Path) -> None:
    lines = [{"kind": "run", "step": 0, "name": "toy", "num_steps": 30}]
    for step in range(1, num_steps + 1):
        lines.append({"kind": "step", "step": step, "samples": step, "loss": 1 / step})
    lines.append({"kind": "exam", "step": num_steps, "oe": 0.5, "chance/oe": 0.2, "oe/order": 1.0})
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"torn')
    with Image.open(draw_curves(log, tmp_path / "curves.png")) as image:
        assert image.size == (1430, 792)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.png", "log.jsonl"]
