"""The released code's recorded forgetting: frames, cells and positions, integer for integer."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hour_llava import memory

GOLDEN = Path(os.environ["HOUR_LLAVA_GOLDEN"])
CASES = [
    path.parent
    for path in sorted(GOLDEN.glob("*/meta.json"))
    if json.loads(path.read_text()).get("kind") == "forgetting"
]


@pytest.mark.parametrize("folder", CASES, ids=lambda folder: folder.name)
def test_forgetting_equals_the_record(folder: Path) -> None:
    meta = json.loads((folder / "meta.json").read_text())
    recorded = {name: t.long() for name, t in load_file(folder / "io.safetensors").items()}
    unread = set(recorded)

    def check(name: str, ours: torch.Tensor) -> None:
        unread.discard(name)
        assert torch.equal(recorded[name], ours), name

    spatial = meta["spatial_sampling_type"]
    num_cells = meta["tokens_per_frame_kv"] - 1
    side = round(num_cells**0.5)
    source = memory.repeat_frame_index(meta["T"])
    check("frame_source_index", source)
    assert memory.count_memory_frames(meta["T"]) == meta["memory_frames"] == len(source)
    assert meta["kv_tokens"] == len(source) * meta["tokens_per_frame_kv"]

    num_kept = memory.count_kept_frames(len(source))
    assert num_kept == meta["n_sampled"]
    frames = memory.uniform_frames(len(source), num_kept)
    check("sampled_frames", frames)

    if spatial == "random":
        torch.manual_seed(meta["torch_manual_seed"])
        drawn = memory.random_cells(len(source), num_cells)
        check("spatial_indices", drawn)
        cells = drawn[frames]
    else:
        cells = memory.uniform_cells(side, side)
        if "spatial_indices" in recorded:
            check("spatial_indices", cells.expand(len(source), -1))
    own = memory.kept_token_index(frames, cells, num_cells=num_cells)
    check("q_position_ids", own)
    counted = memory.count_kept_tokens(meta["T"], grid_side=side, spatial=spatial)
    assert counted == len(own) == meta["q_tokens"] == meta["llm_visual_tokens"]
    assert len(own) == num_kept * meta["tokens_per_frame_q"]

    placed = memory.query_positions([meta["text_before"], own, meta["text_after"]])
    assert len(placed) == meta["memaug_q_tokens"]
    if "q_position_ids_in_memaug" in recorded:
        check("q_position_ids_in_memaug", placed)
    assert not unread, f"unread tensors: {sorted(unread)}"
