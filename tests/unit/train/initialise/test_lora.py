"""Adapters sit on the language model alone, and are saved and merged without changing an answer."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from hour_llava.errors import CheckpointError, ConfigError, ModelNotFoundError
from hour_llava.model.checkpoints import load_pretrained
from hour_llava.train.config import LoraConfig, ModelConfig
from hour_llava.train.export import export, merge_adapter
from hour_llava.train.initialise import initialise
from hour_llava.train.lora import add_lora, has_adapters, is_adapter

LORA = LoraConfig(rank=4, alpha=8.0)


@pytest.fixture(scope="module")
def base(llava: Any) -> Path:
    return llava(tied=True)[1]


@pytest.fixture(scope="module")
def config(base: Path) -> ModelConfig:
    return ModelConfig(start=str(base), lora=LORA)


def trained(config: ModelConfig, *, seed: int = 0) -> tuple[Any, Any]:
    """A model whose trainable numbers have all moved."""
    model, processor = initialise(config, seed=seed)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if is_adapter(name) or name.startswith(("model.memaug.", "model.memory_maker.")):
                parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return model, processor


@pytest.fixture(scope="module")
def adapter(config: ModelConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model, processor = trained(config)
    folder = tmp_path_factory.mktemp("run") / "model"
    export(model, processor, folder, model_config=config)
    return folder


@torch.no_grad()
def test_adapters_change_nothing_at_first_and_only_they_train_in_the_language_model(
    config: ModelConfig, base: Path, ask: Callable[..., Any]
) -> None:
    plain, processor = initialise(ModelConfig(start=str(base)), seed=0)
    model, _ = initialise(config, seed=0)
    assert has_adapters(model)
    assert not has_adapters(plain)
    inputs = ask(processor)
    assert torch.equal(model(**inputs).logits, plain(**inputs).logits)
    adapted = {name for name, _ in model.named_parameters() if is_adapter(name)}
    assert len(adapted) == 2 * 7 * 2  # two layers, seven linears, a pair each
    assert all(name.startswith("model.language_model.layers.") for name in adapted)
    for name, parameter in model.named_parameters():
        is_language = name.startswith(("model.language_model.", "lm_head"))
        assert parameter.requires_grad == (name in adapted or not is_language), name
    again, _ = initialise(config, seed=0)
    other, _ = initialise(config, seed=1)
    name = "model.language_model.layers.0.self_attn.q_proj.lora_A.default.weight"
    own, same, different = (m.get_parameter(name) for m in (model, again, other))
    assert torch.equal(own, same)
    assert not torch.equal(own, different)


def test_adapters_leave_the_global_generator_alone(config: ModelConfig) -> None:
    torch.manual_seed(9)
    wanted = torch.rand(3)
    torch.manual_seed(9)
    initialise(config, seed=0)
    assert torch.equal(torch.rand(3), wanted)


def test_adapters_come_on_the_meta_device_too(config: ModelConfig) -> None:
    model, _ = initialise(config, seed=0, device="meta")
    assert has_adapters(model)
    assert all(parameter.is_meta for parameter in model.parameters())


@torch.no_grad()
def test_a_merged_model_answers_like_base_and_adapter_together(
    config: ModelConfig, adapter: Path, ask: Callable[..., Any], tmp_path: Path
) -> None:
    model, processor = trained(config)
    inputs = ask(processor)
    wanted = model.eval()(**inputs).logits
    merge_adapter(adapter, tmp_path / "merged")
    merged, own_processor = load_pretrained(tmp_path / "merged")
    assert not has_adapters(merged)
    torch.testing.assert_close(merged(**inputs).logits, wanted, rtol=1e-5, atol=1e-5)
    assert torch.equal(ask(own_processor)["input_ids"], inputs["input_ids"])
    plain, _ = initialise(ModelConfig(start=config.start), seed=0)
    assert not torch.allclose(plain(**inputs).logits, wanted, atol=1e-2)


@torch.no_grad()
def test_peft_reads_an_adapter_by_itself(
    config: ModelConfig, adapter: Path, ask: Callable[..., Any], recwarn: Any
) -> None:
    from peft import PeftModel

    model, processor = trained(config)
    inputs = ask(processor)
    plain, _ = initialise(ModelConfig(start=config.start), seed=0)
    by_peft = PeftModel.from_pretrained(plain, str(adapter)).eval()
    torch.testing.assert_close(by_peft(**inputs).logits, model(**inputs).logits)
    assert not [str(w.message) for w in recwarn if "missing" in str(w.message)]
    values = json.loads((adapter / "adapter_config.json").read_text())
    assert set(values["modules_to_save"]) == {"memory_maker", "memaug", "vision_tower"}
    assert values["base_model_name_or_path"] == config.start


def test_a_frozen_tower_is_not_saved_with_the_adapter(config: ModelConfig, tmp_path: Path) -> None:
    model, processor = trained(config)
    model.model.vision_tower.requires_grad_(False)
    export(model, processor, tmp_path / "model", model_config=config)
    names = load_file(tmp_path / "model" / "adapter_model.safetensors").keys()
    parts = {name.split(".")[3] for name in names}
    assert parts == {"memory_maker", "memaug", "language_model"}
    assert all(is_adapter(name) for name in names if "language_model" in name)


@torch.no_grad()
def test_a_base_in_bfloat16_stays_so_and_may_have_moved(
    base: Path, ask: Callable[..., Any], tmp_path: Path
) -> None:
    low = shutil.copytree(base, tmp_path / "low")
    weights = load_file(low / "model.safetensors")
    weights = {key: value.bfloat16() for key, value in weights.items()}
    save_file(weights, low / "model.safetensors", metadata={"format": "pt"})
    config = ModelConfig(start=str(low), lora=LORA)
    model, processor = trained(config)
    export(model, processor, tmp_path / "model", model_config=config)
    moved = low.rename(tmp_path / "moved")
    with pytest.raises(ModelNotFoundError):
        merge_adapter(tmp_path / "model", tmp_path / "merged")
    merge_adapter(tmp_path / "model", tmp_path / "merged", base=str(moved))
    merged, _ = load_pretrained(tmp_path / "merged")
    assert {p.dtype for p in merged.parameters()} == {torch.bfloat16}
    merge_adapter(tmp_path / "model", tmp_path / "high", base=str(moved), dtype=torch.float32)
    high, _ = load_pretrained(tmp_path / "high")
    inputs = ask(processor)
    torch.testing.assert_close(high(**inputs).logits, model(**inputs).logits, rtol=1e-5, atol=1e-5)


# ------------------------------------------------------------------- what is refused


def test_an_adapter_alone_is_no_model(adapter: Path) -> None:
    with pytest.raises(CheckpointError, match=f"hour-llava merge {adapter} --out"):
        load_pretrained(adapter)


def test_an_adapter_of_a_relative_start_is_merged_from_anywhere(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(base.parent)
    config = ModelConfig(start=base.name, lora=LORA)
    model, processor = initialise(config, seed=0)
    export(model, processor, tmp_path / "model", model_config=config)
    monkeypatch.chdir(tmp_path)
    merge_adapter(Path("model"), Path("merged"))
    assert (tmp_path / "merged" / "config.json").is_file()


@pytest.mark.parametrize("siglip", ["pair"], indirect=True)
@torch.no_grad()
def test_an_adapter_on_qwen_and_siglip_brings_the_parts_that_were_new(
    qwen: Any, siglip: Any, ask: Callable[..., Any], tmp_path: Path
) -> None:
    halves = {"language_model": str(qwen[1]), "vision_tower": str(siglip[1])}
    config = ModelConfig(start="", lora=LORA, **halves)
    model, processor = trained(config, seed=3)
    model.model.vision_tower.requires_grad_(False)
    export(model, processor, tmp_path / "model", model_config=config, seed=3)
    merge_adapter(tmp_path / "model", tmp_path / "merged")
    merged, _ = load_pretrained(tmp_path / "merged")
    inputs = ask(processor)
    torch.testing.assert_close(
        merged(**inputs).logits, model(**inputs).logits, rtol=1e-5, atol=1e-5
    )


def test_a_target_that_is_no_layer_is_named(config: ModelConfig, base: Path) -> None:
    lora = LoraConfig(rank=2, targets=("q_proj", "Wqkv"))
    with pytest.raises(ConfigError, match=r"Wqkv: .* it has .*down_proj"):
        initialise(ModelConfig(start=str(base), lora=lora), seed=0)


def test_without_peft_one_line_says_what_to_install(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = initialise(ModelConfig(start=str(base)), seed=0)
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ConfigError, match=r"pip install 'hour-llava\[train\]'"):
        add_lora(model, LORA, seed=0)


def test_an_adapter_of_another_base_and_broken_ones_are_refused(
    adapter: Path, tmp_path: Path
) -> None:
    def refused(folder: Path, match: str, base: str | None = None) -> None:
        with pytest.raises(CheckpointError, match=match) as caught:
            merge_adapter(folder, tmp_path / "merged", base=base)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "merged").exists()

    refused(tmp_path, "no adapter_config.json")
    lacking = shutil.copytree(adapter, tmp_path / "lacking")
    weights = load_file(lacking / "adapter_model.safetensors")
    gone = next(name for name in weights if "memaug" in name)
    del weights[gone]
    weights["base_model.model.model.other.weight"] = torch.zeros(1)
    save_file(weights, lacking / "adapter_model.safetensors")
    refused(lacking, r"is missing model\.memaug.*has extra model\.other\.weight")
    cut = shutil.copytree(adapter, tmp_path / "cut")
    whole = (cut / "adapter_model.safetensors").read_bytes()
    (cut / "adapter_model.safetensors").write_bytes(whole[:-9])
    refused(cut, "adapter_model.safetensors cannot be read")
    odd = shutil.copytree(adapter, tmp_path / "odd")
    (odd / "training_base.json").write_text("{}")
    refused(odd, "does not say what was trained")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    with pytest.raises(CheckpointError, match="exists"):
        merge_adapter(adapter, tmp_path / "taken")
