"""Training starts from each layout with the very numbers of its tower and language model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import hour_llava
from hour_llava.data.features import tower_digest
from hour_llava.errors import CheckpointError, ConfigError, ModelNotFoundError
from hour_llava.model.checkpoints import convert, load_pretrained
from hour_llava.train.config import ModelConfig
from hour_llava.train.export import export
from hour_llava.train.initialise import initialise
from hour_llava.train.own_features import start_tower_digest
from hour_llava.train.start import read_start, start_config

GOLDEN = Path(__file__).parents[3] / "golden" / "checkpoint_A"
IDS = torch.tensor([[1, 9, 30, 77, 2]])


def tower_states(tower: Any, pixels: torch.Tensor, *, layers: int) -> torch.Tensor:
    """What leaves a layer of SigLIP, by transformers' own model."""
    tower = getattr(tower, "vision_model", tower)
    return tower(pixels, output_hidden_states=True).hidden_states[layers]


@torch.no_grad()
def check_same_model(model: Any, theirs: Any) -> None:
    pixels = torch.randn(3, 3, 28, 28)
    tower = theirs.model.vision_tower
    assert torch.equal(model.model.tower_features(pixels), tower_states(tower, pixels, layers=2))
    assert torch.equal(model(input_ids=IDS).logits, theirs(input_ids=IDS).logits)
    features = torch.randn(5, 16)
    ours, own = model.model.memory_maker, theirs.model
    assert torch.equal(ours.projector(features), own.multi_modal_projector(features))
    assert torch.equal(ours.newline, own.image_newline)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("layout", ["hf", "newer hf", "released", "released llava_qwen"])
def test_llava_onevision_keeps_its_tower_projector_and_language_model(
    llava: Any, as_released: Any, tied: bool, layout: str, tmp_path: Path
) -> None:
    theirs, folder = llava(tied=tied)
    if layout == "released":
        folder = as_released(folder)
    elif layout == "released llava_qwen":
        folder = as_released(folder, model_type="llava_qwen")
    elif layout == "newer hf":
        folder = shutil.copytree(folder, tmp_path / "newer")
        save_file(
            {
                key: value
                for key, value in theirs.state_dict().items()
                if not (tied and key == "lm_head.weight")
            },
            folder / "model.safetensors",
            metadata={"format": "pt"},
        )
    model, processor = initialise(ModelConfig(start=str(folder)), seed=0)
    assert start_tower_digest(read_start(ModelConfig(start=str(folder)))) == tower_digest(model)
    check_same_model(model, theirs)
    assert model.config.tie_word_embeddings is tied
    assert processor.tile_size == 28
    assert processor.image_grid_pinpoints == theirs.config.image_grid_pinpoints
    assert set(read_start(ModelConfig(start=str(folder))).new) == {
        name for name, _ in model.named_parameters() if name.startswith("model.memaug.")
    }


@torch.no_grad()
def test_qwen_and_siglip_are_joined_by_a_new_projector(
    qwen: Any, siglip: Any, ask: Callable[..., Any]
) -> None:
    (language, language_folder), (tower, tower_folder) = qwen, siglip
    config = ModelConfig(start=str(language_folder), vision_tower=str(tower_folder))
    model, processor = initialise(config, seed=0)
    pixels = torch.randn(2, 3, 28, 28)
    assert model.config.vision_config.num_hidden_layers == 2  # the last is not read
    ours = model.model.tower_features(pixels)
    assert torch.equal(ours, tower_states(tower, pixels, layers=2))
    assert torch.equal(model(input_ids=IDS).logits, language(input_ids=IDS).logits)
    assert model(**ask(processor)).logits.isfinite().all()
    start = read_start(config)
    assert start_tower_digest(start) == tower_digest(model)
    assert all(name.startswith(("model.memaug.", "model.memory_maker.")) for name in start.new)
    assert any("head." in name for name in start.unused)
    assert any("layers.2." in name for name in start.unused)
    halves = {"language_model": str(language_folder), "vision_tower": str(tower_folder)}
    for named in (
        ModelConfig(start=str(tower_folder), language_model=str(language_folder)),
        ModelConfig(start="jylins/llava-onevision-qwen25-3b-si", **halves),
    ):
        weights = initialise(named, seed=0)[0].state_dict()
        assert all(torch.equal(weights[n], value) for n, value in model.state_dict().items())
        assert start_config(named).text_config.hidden_size == 32


@pytest.mark.parametrize("siglip", ["pair"], indirect=True)
def test_new_weights_follow_from_the_seed_alone(llava: Any, qwen: Any, siglip: Any) -> None:
    folder = llava()[1]
    first, _ = initialise(ModelConfig(start=str(folder)), seed=1)
    torch.rand(7)
    again, _ = initialise(ModelConfig(start=str(folder)), seed=1)
    other, _ = initialise(ModelConfig(start=str(folder)), seed=2)
    joined, _ = initialise(ModelConfig(start=str(qwen[1]), vision_tower=str(siglip[1])), seed=1)
    for name, value in first.model.memaug.state_dict().items():
        assert torch.equal(value, again.model.memaug.state_dict()[name])
        assert torch.equal(value, joined.model.memaug.state_dict()[name])
        if name.endswith("proj.weight"):
            assert not torch.equal(value, other.model.memaug.state_dict()[name])
            assert value.std() == pytest.approx(0.02, rel=0.2)
        elif name.endswith("bias"):
            assert not value.any()
        elif "norm" in name:
            assert (value == 1).all()
    assert joined.model.memory_maker.newline.norm().item() == pytest.approx(1, rel=0.5)


@torch.no_grad()
def test_hour_llava_folders_of_both_layouts_start_with_all_their_weights(
    tmp_path: Path,
) -> None:
    convert(GOLDEN, tmp_path / "ours")
    whole, _ = load_pretrained(GOLDEN)
    for folder in (GOLDEN, tmp_path / "ours"):
        model, processor = initialise(
            ModelConfig(start=str(folder), spatial_forgetting="uniform"), seed=0
        )
        weights = model.state_dict()
        assert all(torch.equal(weights[n], value) for n, value in whole.state_dict().items())
        assert model.config.spatial_forgetting == processor.spatial_forgetting == "uniform"
        assert read_start(ModelConfig(start=str(folder))).new == ()


def test_a_start_that_is_forgotten_otherwise_than_it_was_trained_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    initialise(ModelConfig(start=str(GOLDEN)), seed=0)
    assert capsys.readouterr().err == ""
    asked = ModelConfig(start=str(GOLDEN), temporal_forgetting="keyframe")
    model, processor = initialise(asked, seed=0)
    said = f"temporal_forgetting: uniform in {GOLDEN}, trained with keyframe"
    assert said in capsys.readouterr().err
    export(model, processor, tmp_path / "trained")
    initialise(replace(asked, start=str(tmp_path / "trained")), seed=0)
    assert capsys.readouterr().err == ""


def test_a_model_with_a_template_of_its_own_is_not_trained_on_another() -> None:
    nano = Path(hour_llava.__file__).parent / "builtin/nano"
    with pytest.raises(CheckpointError, match=r"chat template of its own.*make nano"):
        read_start(ModelConfig(start=str(nano)))


def test_answers_end_with_their_turn_and_sampling_settings_stay_behind(
    llava: Any, tmp_path: Path
) -> None:
    folder = shutil.copytree(llava()[1], tmp_path / "chatty")
    settings = {"eos_token_id": [0], "do_sample": True, "temperature": 0.7, "pad_token_id": 0}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    model, _ = initialise(ModelConfig(start=str(folder)), seed=0)
    generation = model.generation_config
    assert generation is not None
    assert generation.eos_token_id == [2, 0]
    assert generation.pad_token_id == 0
    assert not generation.do_sample
    assert generation.temperature is None


def test_shapes_alone_come_on_the_meta_device(llava: Any) -> None:
    folder = llava()[1]
    model, _ = initialise(ModelConfig(start=str(folder)), seed=0, device="meta")
    real, _ = initialise(ModelConfig(start=str(folder)), seed=0)
    assert all(parameter.is_meta for parameter in model.parameters())
    assert {n: p.shape for n, p in model.named_parameters()} == {
        n: p.shape for n, p in real.named_parameters()
    }


def test_dtype_attention_and_forgetting_are_as_asked(llava: Any) -> None:
    config = ModelConfig(start=str(llava()[1]), attention="eager", temporal_forgetting="question")
    model, processor = initialise(config, seed=0, dtype=torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert model.model.language_model.config._attn_implementation == "eager"
    assert model.config.temporal_forgetting == processor.temporal_forgetting == "question"


@pytest.mark.parametrize(
    ("start", "billions"),
    [
        ("jylins/llava-onevision-qwen25-3b-si", 3.09),
        ("jylins/hourllava-qwen25-3b-s2", 3.09),
        ("lmms-lab/llava-onevision-qwen2-7b-si", 7.62),
        ("jylins/hourllava-qwen2-7b-s2", 7.62),
    ],
)
def test_the_published_starts_have_their_sizes_without_a_network(
    start: str, billions: float
) -> None:
    from hour_llava.model.modeling_hour_llava import HourLlavaForConditionalGeneration

    config = start_config(ModelConfig(start=start, temporal_forgetting="random"))
    with torch.device("meta"):
        model = HourLlavaForConditionalGeneration(config)
    assert config.temporal_forgetting == "random"
    memaug = sum(p.numel() for p in model.model.memaug.parameters())
    assert memaug / 1e6 == pytest.approx(209.8 if "3b" in start else 646.1, abs=0.1)
    head = [] if config.tie_word_embeddings else [model.lm_head.weight]
    language = [*model.model.language_model.parameters(), *head]
    assert sum(p.numel() for p in language) / 1e9 == pytest.approx(billions, abs=0.01)


# ------------------------------------------------------------------- what is refused


def edited(folder: Path, to: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> Path:
    copy = shutil.copytree(folder, to)
    weights = load_file(copy / "model.safetensors")
    change(weights)
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    return copy


def refusal(config: ModelConfig, kind: type[Exception] = CheckpointError) -> str:
    with pytest.raises(kind) as caught:
        read_start(config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_missing_extra_and_misshapen_tensors_are_named(llava: Any, tmp_path: Path) -> None:
    def spoil(weights: dict[str, torch.Tensor]) -> None:
        del weights["language_model.model.norm.weight"]
        weights["mm_mask_decoder.weight"] = torch.zeros(3)
        weights["image_newline"] = torch.zeros(7)

    text = refusal(ModelConfig(start=str(edited(llava()[1], tmp_path / "x", spoil))))
    assert "is missing model.language_model.norm.weight" in text
    assert "has extra mm_mask_decoder.weight" in text
    assert "image_newline (7,), not (32,)" in text


def test_numbers_that_are_none_are_refused_by_their_own_name(llava: Any, tmp_path: Path) -> None:
    folder = edited(
        llava()[1], tmp_path / "x", lambda weights: weights["image_newline"].fill_(float("nan"))
    )
    with pytest.raises(CheckpointError, match="NaN or infinite numbers in image_newline"):
        initialise(ModelConfig(start=str(folder)), seed=0)


@pytest.mark.parametrize("siglip", ["pair"], indirect=True)
def test_other_models_adapters_and_lone_halves_are_refused(
    llava: Any, qwen: Any, siglip: Any, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "qwen2_5_vl"}')
    assert "holds a 'qwen2_5_vl' model" in refusal(ModelConfig(start=str(other)))
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    assert "hour-llava merge" in refusal(ModelConfig(start=str(adapter)))
    assert "--model.vision-tower" in refusal(ModelConfig(start=str(qwen[1])), ConfigError)
    assert "--model.language-model" in refusal(ModelConfig(start=str(siglip[1])), ConfigError)
    whole = ModelConfig(start=str(llava()[1]), vision_tower=str(siglip[1]))
    assert "leave --model.vision-tower out" in refusal(whole, ConfigError)
    crossed = ModelConfig(start=str(qwen[1]), vision_tower=str(qwen[1]))
    assert "the vision tower is a SigLIP" in refusal(crossed)
    assert "--model.start is empty" in refusal(ModelConfig(start=""), ConfigError)
    assert "no model is called nowhere" in refusal(ModelConfig(start="nowhere"), ModelNotFoundError)


def test_converting_llava_onevision_says_what_to_do_with_it(
    llava: Any, as_released: Any, tmp_path: Path
) -> None:
    folder = llava()[1]
    for source in (folder, as_released(folder)):
        with pytest.raises(CheckpointError, match=r"training starts from it: --model\.start"):
            convert(source, tmp_path / "x")


def test_a_layout_that_is_forced_wrongly_ends_in_one_line(llava: Any, qwen: Any) -> None:
    for layout in ("hour_llava", "llava_onevision", "llava_onevision_hf"):
        refusal(ModelConfig(start=str(qwen[1]), layout=layout))
    refusal(ModelConfig(start=str(llava()[1]), layout="llava_onevision"))
    refusal(ModelConfig(start=str(llava()[1]), layout="hour_llava"))


def test_a_tokenizer_with_more_words_than_the_embedding_is_refused(
    llava: Any, tmp_path: Path
) -> None:
    folder = shutil.copytree(llava()[1], tmp_path / "x")
    from transformers import AutoTokenizer, Qwen2Config

    tokenizer = AutoTokenizer.from_pretrained(folder, config=Qwen2Config())
    tokenizer.add_tokens([f"new{i}" for i in range(9)])
    tokenizer.save_pretrained(folder)
    text = refusal(ModelConfig(start=str(folder)))
    assert "the tokenizer has 268 words, the embedding 264 rows" in text
