"""Checkpoint folders: both layouts, whole or sharded, tied or not; and those that do not fit."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, AutoProcessor

import hour_llava
from hour_llava.errors import CheckpointError, ModelNotFoundError, ResourceError
from hour_llava.model.checkpoints import convert, expected_shapes, find_folder, load_pretrained
from hour_llava.model.released_layout import config_to_released, our_key, released_key

RELEASED = (
    "lm_head.weight",
    "model.embed_tokens.weight",
    "model.norm.weight",
    "model.image_newline",
    "model.layers.3.self_attn.q_proj.bias",
    "model.mm_projector.0.weight",
    "model.mm_projector.2.bias",
    "model.vision_resampler.layers.1.self_attn.Wqkv.weight",
    "model.vision_resampler.layers.1.cross_attn.Wkv.bias",
    "model.vision_resampler.layers.1.mlp.2.weight",
    "model.vision_resampler.layers.1.norm3.bias",
    "model.vision_tower.vision_tower.vision_model.encoder.layers.0.mlp.fc1.weight",
    "model.vision_tower.vision_tower.vision_model.post_layernorm.bias",
)


def test_names_are_a_bijection(make_config: Any) -> None:
    assert [released_key(our_key(name)) for name in RELEASED] == list(RELEASED)
    ours = expected_shapes(make_config())
    released = {released_key(name) for name in ours}
    assert len(released) == len(ours)
    assert {our_key(name) for name in released} == set(ours)


@pytest.fixture
def saved(model: Any, processor: Any, tmp_path: Path) -> Path:
    """A folder as `save_pretrained` writes it, in four shards."""
    folder = tmp_path / "ours"
    model.save_pretrained(folder, max_shard_size="60KB")
    processor.save_pretrained(folder)
    assert len(list(folder.glob("*.safetensors"))) > 1
    return folder


@pytest.fixture
def released_folder(make_model: Any, tokenizer: Any, tmp_path: Path) -> Any:
    def write(*, tied: bool, head: bool) -> tuple[Any, Path]:
        sizes = {"pool_size": 8, "min_memory_frames": 128}
        model = make_model(text={"tie_word_embeddings": tied}, vision_tower_name="tiny", **sizes)
        folder = tmp_path / f"released-{tied}-{head}"
        folder.mkdir()
        weights = {released_key(k): v.clone() for k, v in model.state_dict().items()}
        if not head:
            del weights["lm_head.weight"]
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        config = config_to_released(model.config)
        (folder / "config.json").write_text(json.dumps(config))
        vision = model.config.vision_config.to_dict()
        vision["num_hidden_layers_kept"] = vision["num_hidden_layers"]
        (folder / "vision_meta.json").write_text(json.dumps(vision))
        tokenizer.save_pretrained(folder)
        return model, folder

    return write


@pytest.mark.parametrize(("tied", "head"), [(True, False), (True, True), (False, True)])
@torch.no_grad()
def test_released_folders_convert_and_come_back(
    released_folder: Any, tmp_path: Path, tied: bool, head: bool
) -> None:
    model, folder = released_folder(tied=tied, head=head)
    ours, back = tmp_path / "ours", tmp_path / "back"
    convert(folder, ours)
    convert(ours, back, to="released")
    before = load_file(folder / "model.safetensors")
    after = load_file(back / "model.safetensors")
    assert set(after) == set(before) - ({"lm_head.weight"} if tied else set())
    assert all(torch.equal(before[name], after[name]) for name in after)
    first = json.loads((folder / "config.json").read_text())
    assert json.loads((back / "config.json").read_text()) == first
    ids = torch.arange(6)[None]
    for name in (folder, ours, back):
        loaded, _ = load_pretrained(name)
        assert torch.equal(loaded(input_ids=ids).logits, model(input_ids=ids).logits)
    assert not list(tmp_path.glob("*.partial"))


@torch.no_grad()
def test_saved_folders_load_by_auto_classes_and_by_us(
    saved: Path, model: Any, processor: Any, ask: Any, features: torch.Tensor
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        auto = AutoModelForImageTextToText.from_pretrained(saved).eval()
        auto_processor = AutoProcessor.from_pretrained(saved)
    ours, our_processor = load_pretrained(saved)
    assert isinstance(auto, hour_llava.HourLlavaForConditionalGeneration)
    assert isinstance(auto_processor, hour_llava.HourLlavaProcessor)
    inputs = processor(text=ask(), video_features=[features])
    expected = model(**inputs).logits
    for one, its_processor in ((auto, auto_processor), (ours, our_processor)):
        own = its_processor(text=ask(), video_features=[features])
        assert torch.equal(own["input_ids"], inputs["input_ids"])
        assert torch.equal(own["forgetting_seeds"], inputs["forgetting_seeds"])
        assert torch.equal(one(**own).logits, expected)
    assert our_processor.to_dict() == processor.to_dict()


@torch.no_grad()
def test_the_nano_options_survive_saving(
    make_model: Any, nano_options: dict[str, Any], tokenizer: Any, tmp_path: Path
) -> None:
    model = make_model(**nano_options, text={"tie_word_embeddings": True}, abstain_below=0.25)
    model.save_pretrained(tmp_path)
    hour_llava.HourLlavaProcessor.from_config(model.config, tokenizer).save_pretrained(tmp_path)
    loaded, _ = load_pretrained(tmp_path)
    assert loaded.config.abstain_below == 0.25
    for name, value in nano_options.items():
        assert getattr(loaded.config, name) == value
    weights = model.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in loaded.state_dict().items())
    with pytest.raises(CheckpointError, match="projector_layer_norm"):
        convert(tmp_path, tmp_path / "released", to="released")


def test_loading_casts_and_keeps_rotary_frequencies_exact(saved: Path, model: Any) -> None:
    low, _ = load_pretrained(saved, dtype="bfloat16", device="cpu")
    assert {p.dtype for p in low.parameters()} == {torch.bfloat16}
    rotary = low.model.language_model.rotary_emb.inv_freq
    assert torch.equal(rotary, model.model.language_model.rotary_emb.inv_freq)
    patches = low.model.vision_tower.embeddings.position_ids
    assert torch.equal(patches, torch.arange(16)[None])


@torch.no_grad()
def test_a_device_map_may_offload_tower_memaug_and_language_model(
    saved: Path, model: Any, processor: Any, ask: Any, features: torch.Tensor, tmp_path: Path
) -> None:
    places = {"model.vision_tower": "disk", "model.memory_maker": "cpu", "model.memaug": "disk"}
    places |= {"model.language_model": "disk", "lm_head": "cpu"}
    spread = AutoModelForImageTextToText.from_pretrained(
        saved, device_map=places, offload_folder=tmp_path / "offloaded"
    ).eval()
    inputs = processor(text=ask(), video_features=[features])
    torch.testing.assert_close(spread(**inputs).logits, model(**inputs).logits)
    pixels = torch.zeros(2, 3, 16, 16)
    torch.testing.assert_close(spread.encode_video(pixels), model.encode_video(pixels))


def edit(folder: Path, change: Any) -> None:
    """Change the tensors of a folder's only file."""
    path = folder / "model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path, metadata={"format": "pt"})


def test_missing_extra_and_misshapen_tensors_are_named(released_folder: Any) -> None:
    _, folder = released_folder(tied=False, head=True)

    def spoil(weights: dict[str, torch.Tensor]) -> None:
        del weights["model.norm.weight"]
        weights["model.mm_projector.4.weight"] = torch.zeros(2)
        weights["model.image_newline"] = torch.zeros(7)

    edit(folder, spoil)
    with pytest.raises(CheckpointError) as error:
        load_pretrained(folder)
    text = str(error.value)
    assert "is missing model.norm.weight" in text
    assert "has extra model.mm_projector.4.weight" in text
    assert "model.image_newline (7,), not (32,)" in text
    assert "\n" not in text


def test_a_head_that_is_tied_but_different_is_refused(released_folder: Any) -> None:
    _, folder = released_folder(tied=True, head=True)
    edit(folder, lambda weights: weights["lm_head.weight"].add_(1))
    with pytest.raises(CheckpointError, match=r"ties lm_head\.weight"):
        load_pretrained(folder)


def test_truncated_files_missing_shards_and_foreign_files_are_named(saved: Path) -> None:
    shard = sorted(saved.glob("*.safetensors"))[1]
    whole = shard.read_bytes()
    for content, message in (
        (whole[:-5], "should have"),
        (b"\x80\x04pickle" * 9, "not a readable"),
    ):
        shard.write_bytes(content)
        with pytest.raises(CheckpointError, match=message):
            load_pretrained(saved)
    shard.unlink()
    with pytest.raises(CheckpointError, match=shard.name):
        load_pretrained(saved)


def test_other_models_and_unknown_towers_are_refused(saved: Path, released_folder: Any) -> None:
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps(config | {"model_type": "llava"}))
    with pytest.raises(CheckpointError, match="'llava'"):
        load_pretrained(saved)
    (saved / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_pretrained(saved)
    _, folder = released_folder(tied=False, head=True)
    (folder / "vision_meta.json").unlink()
    with pytest.raises(CheckpointError, match=r"vision tower 'tiny'.*vision_meta.json"):
        load_pretrained(folder)


def test_converting_refuses_to_overwrite_or_to_do_nothing(
    saved: Path, released_folder: Any, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="layout already"):
        convert(saved, tmp_path / "x")
    _, folder = released_folder(tied=False, head=True)
    mine = saved.with_name(f"{saved.name}.partial")
    mine.mkdir()
    with pytest.raises(CheckpointError, match="exists"):
        convert(folder, saved)
    assert mine.is_dir()
    source = shutil.copytree(folder, tmp_path / "checkpoint.partial")
    with pytest.raises(CheckpointError, match="holds what is read"):
        convert(source, tmp_path / "checkpoint")
    assert list(source.glob("*.safetensors"))


@pytest.mark.parametrize("place", ["inside", "below a file", "too long"])
def test_converting_to_a_bad_place_is_told_in_one_line(
    released_folder: Any, tmp_path: Path, place: str
) -> None:
    _, folder = released_folder(tied=True, head=False)
    (tmp_path / "file").touch()
    destination = {
        "inside": folder / "deep" / "ours",
        "below a file": tmp_path / "file" / "ours",
        "too long": tmp_path / ("x" * 300),
    }[place]
    before = sorted(folder.rglob("*"))
    with pytest.raises((CheckpointError, ResourceError), match="name a folder elsewhere") as caught:
        convert(folder, destination)
    assert str(destination) in str(caught.value)
    assert "Errno" not in str(caught.value)
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_weights_that_are_no_numbers_are_refused(saved: Path, value: float) -> None:
    shard = sorted(saved.glob("*.safetensors"))[0]
    weights = load_file(shard)
    key = max(weights, key=lambda name: weights[name].numel())
    weights[key].view(-1)[3] = value
    save_file(weights, shard, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=rf"{saved} holds NaN or infinite numbers in {key}"):
        load_pretrained(saved)


def test_unknown_names_are_told_in_one_line(tmp_path: Path, monkeypatch: Any) -> None:
    with pytest.raises(ModelNotFoundError, match="no model is called nanno"):
        find_folder("nanno")
    file = tmp_path / "model.bin"
    file.write_bytes(b"")
    with pytest.raises(ModelNotFoundError, match="is a file"):
        find_folder(file)

    def away(*_: Any, **__: Any) -> None:
        raise OSError("no route\nto the hub")

    monkeypatch.setattr("huggingface_hub.snapshot_download", away)
    with pytest.raises(ModelNotFoundError, match="no route") as error:
        find_folder("jylins/hourllava-qwen25-3b-s3")
    assert "\n" not in str(error.value)


def test_a_failed_conversion_leaves_nothing(released_folder: Any, tmp_path: Path) -> None:
    _, folder = released_folder(tied=False, head=True)
    copied = tmp_path / "copy"
    shutil.copytree(folder, copied)
    (copied / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match="tokenizer"):
        convert(copied, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("name", ["processor_config.json", "chat_template.jinja"])
def test_a_folder_without_its_processor_is_refused(saved: Path, tmp_path: Path, name: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(saved, copy)
    (copy / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        load_pretrained(copy)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.safetensors.index.json", "{"),
        ("model.safetensors.index.json", "{}"),
        ("config.json", '{"model_type": "hour_llava", "text_config": "two"}'),
        ("config.json", '{"model_type": "hour_llava", "spatial_forgetting": "banana"}'),
        ("processor_config.json", "[1]"),
        ("generation_config.json", "{"),
    ],
)
def test_broken_files_are_told_with_the_folders_name(
    saved: Path, tmp_path: Path, name: str, content: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(saved, copy)
    (copy / name).write_text(content)
    with pytest.raises(CheckpointError, match=str(copy)):
        _, processor = load_pretrained(copy)
        processor.apply_chat_template([{"role": "user", "content": "?"}], tokenize=False)
