"""A run with adapters: it resumes to the bit, and what it leaves merges into a plain model."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hour_llava.cli import main
from hour_llava.model.checkpoints import load_pretrained
from hour_llava.recipes import RECIPES
from hour_llava.train.config import LoraConfig
from hour_llava.train.lora import is_adapter
from hour_llava.train.run import train


def losses(out: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if line["kind"] == "step"}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_with_adapters_resumes_to_the_bit_and_its_model_merges(tmp_path: Path) -> None:
    recipe, whole, again = RECIPES["debug_stage3"], tmp_path / "whole", tmp_path / "again"
    config = recipe.prepared(recipe.config(), whole)
    config = replace(
        config,
        model=replace(config.model, lora=LoraConfig(rank=2)),
        batch=replace(config.batch, max_steps=4),
        checkpoints=replace(config.checkpoints, every_steps=2),
        watch=replace(config.watch, reports=(), progress=False),
    )
    adapter = train(config, whole)
    first = sorted((whole / "checkpoints").iterdir())[0]
    shutil.copytree(first, again / "checkpoints" / first.name)
    train(config, again, resume=True)
    assert losses(again) == {n: loss for n, loss in losses(whole).items() if n > 2}
    weights = load_file(adapter / "adapter_model.safetensors")
    same = load_file(again / "model" / "adapter_model.safetensors")
    assert weights.keys() == same.keys()
    assert all(torch.equal(value, same[name]) for name, value in weights.items())
    moved = [value for name, value in weights.items() if "lora_B" in name]
    assert moved
    assert all(value.any() for value in moved)

    assert main(["merge", str(adapter), "--out", str(tmp_path / "merged")]) == 0
    merged, _ = load_pretrained(tmp_path / "merged")
    start, _ = load_pretrained(config.model.start)
    changed = {
        name
        for name, value in merged.state_dict().items()
        if not torch.equal(value, start.state_dict()[name])
    }
    assert not any(is_adapter(name) for name in merged.state_dict())
    assert any("memaug" in name for name in changed)
    assert any("language_model.layers" in name for name in changed)
    assert not any("vision_tower" in name or "embed_tokens" in name for name in changed)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_adapters_trained_on_shards_are_those_of_one_process(tmp_path: Path) -> None:
    """Frozen and trained weights lie in one FSDP2 group; the adapter is gathered from both."""
    flags = ["--model.lora.rank", "2", "--batch.max-steps", "2", "--watch.reports"]
    flags += ["--batch.micro-batch-size", "1"]
    found = {}
    for sharding, start in (
        ("none", [sys.executable]),
        ("fsdp2", [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]),
    ):
        out = tmp_path / sharding
        command = [*start, "-m", "hour_llava.cli", "train", "debug_stage3", *flags]
        command += ["--hardware.sharding", sharding, "--out", str(out)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, done.stderr
        assert "hour-llava merge" in done.stderr
        found[sharding] = load_file(out / "model" / "adapter_model.safetensors")
    assert found["none"].keys() == found["fsdp2"].keys()
    for name, value in found["none"].items():
        torch.testing.assert_close(found["fsdp2"][name], value, rtol=1e-5, atol=1e-6)
