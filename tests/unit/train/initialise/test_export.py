"""What a run leaves loads anywhere, converts to the released layout and back, and appears whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from hour_llava.errors import ResourceError
from hour_llava.model.checkpoints import convert, load_pretrained, read_checkpoint
from hour_llava.train.config import ModelConfig
from hour_llava.train.export import export
from hour_llava.train.initialise import initialise

GOLDEN = Path(__file__).parents[3] / "golden" / "checkpoint_A"


def learn_a_little(model: Any, inputs: Any) -> None:
    """Two steps of the optimiser on everything."""
    model.train()
    labels = inputs["input_ids"].masked_fill(model.model.is_visual(inputs["input_ids"]), -100)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(2):
        model(**inputs, labels=labels).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    model.eval()


@pytest.mark.parametrize("tied", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_trained_model_goes_to_our_layout_to_the_released_one_and_back(
    llava: Any, as_released: Any, ask: Callable[..., Any], tied: bool, tmp_path: Path
) -> None:
    folder = as_released(llava(tied=tied)[1])
    model, processor = initialise(ModelConfig(start=str(folder)), seed=0)
    inputs = ask(processor)
    before = model.model.memaug.layers[0].mlp.fc1.weight.clone()
    learn_a_little(model, inputs)
    assert not torch.equal(before, model.model.memaug.layers[0].mlp.fc1.weight)
    export(model, processor, tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "released", to="released")
    convert(tmp_path / "released", tmp_path / "back")
    with torch.no_grad():
        wanted = model(**inputs).logits
        for name in ("ours", "released", "back"):
            same, own_processor = load_pretrained(tmp_path / name)
            assert torch.equal(same(**ask(own_processor)).logits, wanted), name
    names = set(load_file(tmp_path / "released" / "model.safetensors"))
    extra = {name for name in names if "vision_resampler" in name}
    assert names - extra == set(load_file(folder / "model.safetensors"))
    assert ("lm_head.weight" in names) != tied
    again, _ = initialise(ModelConfig(start=str(tmp_path / "released")), seed=1)
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in model.state_dict().items())


def test_auto_classes_load_an_exported_model(llava: Any, tmp_path: Path) -> None:
    model, processor = initialise(ModelConfig(start=str(llava()[1])), seed=0)
    export(model, processor, tmp_path / "ours", dtype=torch.bfloat16)
    same = AutoModelForImageTextToText.from_pretrained(tmp_path / "ours", dtype="auto")
    assert {p.dtype for p in same.parameters()} == {torch.bfloat16}
    assert same.generation_config.eos_token_id == [2]
    assert AutoProcessor.from_pretrained(tmp_path / "ours").tile_size == 28
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_weights_that_were_gathered_elsewhere_are_written(tmp_path: Path) -> None:
    model, processor = initialise(ModelConfig(start=str(GOLDEN)), seed=0)
    gathered = {name: value + 1 for name, value in model.state_dict().items()}
    meta, _ = initialise(ModelConfig(start=str(GOLDEN)), seed=0, device="meta")
    export(meta, processor, tmp_path / "ours", state_dict=gathered)
    same, _ = load_pretrained(tmp_path / "ours")
    assert all(torch.equal(v, gathered[k]) for k, v in same.state_dict().items())


def test_an_earlier_model_is_replaced_only_by_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, processor = initialise(ModelConfig(start=str(GOLDEN)), seed=0)
    export(model, processor, tmp_path / "ours")
    before = {p.name: p.read_bytes() for p in (tmp_path / "ours").iterdir()}

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("hour_llava.train.export.save_torch_state_dict", full)
        with pytest.raises(ResourceError, match="ours cannot be written: No space left") as caught:
            export(model, processor, tmp_path / "ours")
    assert "\n" not in str(caught.value)
    assert {p.name: p.read_bytes() for p in (tmp_path / "ours").iterdir()} == before
    with torch.no_grad():
        model.model.memory_maker.newline.zero_()
    export(model, processor, tmp_path / "ours")
    newline = read_checkpoint(tmp_path / "ours").entries["model.memory_maker.newline"].read()
    assert not newline.any()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ours"]
