"""MemAug against the recorded outputs of the released code's blocks and stack."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from hour_llava.memory import MemAug, MemoryTokens

GOLDEN = Path(os.environ["HOUR_LLAVA_GOLDEN"])
KINDS = ("memaug", "memaug_scaled", "memaug_bf16")
CASES = [
    path.parent
    for path in sorted(GOLDEN.glob("*/meta.json"))
    if json.loads(path.read_text()).get("kind") in KINDS
]
RENAMED = (
    ("attn.Wqkv.", "attn.qkv_proj."),
    ("attn.Wq.", "attn.q_proj."),
    ("attn.Wkv.", "attn.kv_proj."),
    ("attn.Wo.", "attn.o_proj."),
    ("mlp.0.", "mlp.fc1."),
    ("mlp.2.", "mlp.fc2."),
)
HALFWAY = {
    "after_self_attn": "self_attn",
    "after_norm1": "norm1",
    "after_cross_attn": "cross_attn",
    "after_norm2": "norm2",
}


def read_case(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a case, with the state and inputs of the case that it borrows them from."""
    meta = json.loads((folder / "meta.json").read_text())
    tensors = load_file(folder / "io.safetensors")
    if "inputs_from" in meta:
        base_meta, base = read_case(GOLDEN / meta["inputs_from"])
        borrowed = {k: v for k, v in base.items() if k not in HALFWAY and k != "output"}
        meta, tensors = base_meta | meta, borrowed | tensors
    return meta, tensors


def build(meta: dict[str, Any], tensors: dict[str, Tensor], dtype: torch.dtype) -> MemAug:
    config = meta["config"]
    memaug = MemAug(
        hidden_size=config["hidden_size"],
        num_heads=config["num_attention_heads"],
        num_key_value_heads=config["num_key_value_heads"],
        num_layers=config["memaug_depth"],
        rope_theta=config["rope_theta"],
    )
    state: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if not name.startswith("state."):
            continue
        name = name.removeprefix("state.")
        for official, ours in RENAMED:
            name = name.replace(official, ours)
        state[name if name.startswith("layers.") else f"layers.0.{name}"] = tensor
    memaug.load_state_dict(state, strict=True)
    return memaug.to(dtype)


def assert_near(ours: Tensor, recorded: Tensor, meta: dict[str, Any], what: str) -> None:
    difference = (ours.float() - recorded.float()).abs()
    assert difference.max() <= meta["atol"], f"{what}: {difference.max():.2e} > {meta['atol']}"
    if "mean_atol" in meta:
        assert difference.mean() <= meta["mean_atol"], what


@pytest.mark.parametrize("chunk_tokens", [1_000_000, 29], ids=["whole", "chunked"])
@pytest.mark.parametrize("folder", CASES, ids=lambda folder: folder.name)
def test_memaug_equals_the_record(folder: Path, chunk_tokens: int) -> None:
    meta, tensors = read_case(folder)
    dtype = torch.bfloat16 if meta["kind"] == "memaug_bf16" else torch.float32
    memaug = build(meta, tensors, dtype)
    scale = meta.get("input_scale", 1.0)
    seen: dict[str, Tensor] = {}
    for name, module in HALFWAY.items():
        if name in tensors:
            memaug.layers[0].get_submodule(module).register_forward_hook(
                lambda _m, _i, out, name=name: seen.__setitem__(name, out)
            )
    queries = (tensors["x_q"] * scale).to(dtype)
    memory = MemoryTokens(
        tokens_MD=(tensors["x_kv"] * scale).to(dtype), positions_M=tensors["k_position_ids"]
    )
    with torch.no_grad():
        output = memaug(
            queries,
            lengths=[len(queries)],
            positions_N=tensors["q_position_ids"],
            memories=[memory],
            memory_index=[0],
            chunk_tokens=chunk_tokens,
        )
    assert_near(output, tensors["output"], meta, "output")
    for name, value in seen.items():
        assert_near(value, tensors[name], meta, name)
    read = {"x_q", "x_kv", "q_position_ids", "k_position_ids", "output", *HALFWAY}
    unread = {name for name in tensors if not name.startswith("state.")} - read
    assert not unread, f"unread tensors: {sorted(unread)}"
