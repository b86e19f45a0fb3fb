"""The tower, the pooling and the projector against the released code's record."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from hour_llava.model.checkpoints import load_pretrained

GOLDEN = Path(os.environ["HOUR_LLAVA_GOLDEN"])
CASES = [
    path.parent
    for path in sorted(GOLDEN.glob("*/meta.json"))
    if json.loads(path.read_text()).get("kind") == "vision"
]


@pytest.mark.parametrize("folder", CASES, ids=lambda folder: folder.name)
@torch.no_grad()
def test_tower_pooling_and_projector_equal_the_record(folder: Path) -> None:
    meta = json.loads((folder / "meta.json").read_text())
    tensors = load_file(folder / "io.safetensors")
    model, _ = load_pretrained(GOLDEN / meta["checkpoint"])
    pixels = tensors.pop("pixels_u8").float() / 127.5 - 1
    ours: dict[str, Tensor] = {"tower_features": model.model.tower_features(pixels)}
    ours["pooled"] = model.encode_video(pixels)
    ours["projected"] = model.model.memory_maker.projector(ours["pooled"])
    assert set(tensors) == set(ours)
    for name, expected in tensors.items():
        torch.testing.assert_close(ours[name], expected, rtol=0, atol=meta["atol"], msg=name)
