"""Pixels, conversations, prompts and tile geometry against the released code's record."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoTokenizer, Qwen2Config

from hour_llava.data.conversation import encode_conversation, place_pictures_first
from hour_llava.model.image_geometry import best_sheet_wh, merged_hw, sheet_tiles_wh
from hour_llava.model.image_processing_hour_llava import HourLlavaImageProcessor
from hour_llava.model.processing_hour_llava import HourLlavaProcessor
from hour_llava.model.prompts import question_prompt

GOLDEN = Path(os.environ["HOUR_LLAVA_GOLDEN"])
CASES = [
    path.parent
    for path in sorted(GOLDEN.glob("*/meta.json"))
    if json.loads(path.read_text()).get("kind") == "preprocess"
]
RELEASED_IMAGE = -200


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    folder = sorted(GOLDEN.glob("checkpoint_*"))[0]
    return AutoTokenizer.from_pretrained(folder, config=Qwen2Config())


def read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    return json.loads((folder / "meta.json").read_text()), load_file(folder / "io.safetensors")


def pinpoints(tile: int) -> list[list[int]]:
    return [[i * tile, j * tile] for i in range(1, 7) for j in range(1, 7)]


@pytest.mark.parametrize("folder", CASES, ids=lambda folder: folder.name)
def test_every_tensor_of_the_record_has_a_test(folder: Path) -> None:
    _, tensors = read(folder)
    rest = {n for n in tensors if not n.startswith(("conv.", "prompt."))}
    assert rest == {"frames_hwc_u8", "pixel_values"}


@pytest.mark.parametrize("folder", CASES, ids=lambda folder: folder.name)
def test_frames_become_the_recorded_pixels(folder: Path) -> None:
    meta, tensors = read(folder)
    processor = HourLlavaImageProcessor(meta["processor"]["size"][0], [])
    frames = tensors["frames_hwc_u8"].numpy()
    ours = torch.cat([processor.squeezed(frame) for frame in frames])
    torch.testing.assert_close(ours, tensors["pixel_values"], rtol=0, atol=meta["atol"])


@pytest.mark.parametrize("folder", CASES, ids=lambda folder: folder.name)
def test_conversations_become_the_recorded_ids_and_labels(folder: Path, tokenizer: Any) -> None:
    meta, tensors = read(folder)
    names = {n.split(".")[1] for n in tensors if n.startswith("conv.")}
    assert names == set(meta["conversations"])
    for name, recorded in meta["conversations"].items():
        messages = recorded["raw"]
        if recorded["has_image"]:
            messages = place_pictures_first(messages)
        assert messages == recorded["after_preprocess_multimodal"], name
        free = len(tokenizer)
        ours = encode_conversation(
            messages, tokenizer, image_token_id=free, video_token_id=free + 1
        )
        ids = ours.ids_L.masked_fill(ours.ids_L == free, RELEASED_IMAGE)
        assert torch.equal(ids, tensors[f"conv.{name}.input_ids"].long()), name
        labels = tensors[f"conv.{name}.labels"].long()
        assert torch.equal(ours.labels_L, labels), name
        assert torch.equal(ours.question_L, (labels == -100) & (ids != RELEASED_IMAGE)), name


@pytest.mark.parametrize("folder", CASES, ids=lambda folder: folder.name)
def test_questions_become_the_recorded_prompts(folder: Path, tokenizer: Any) -> None:
    meta, tensors = read(folder)
    names = {n.split(".")[1] for n in tensors if n.startswith("prompt.")}
    assert names == set(meta["prompts"])
    free = len(tokenizer)
    processor = HourLlavaProcessor(tokenizer, image_token_id=free, video_token_id=free + 1)
    for name, recorded in meta["prompts"].items():
        prompt = question_prompt(recorded["question"])
        assert prompt == recorded["prompt"]
        message = [{"role": "user", "content": recorded["question"]}]
        assert processor.apply_chat_template(message, add_generation_prompt=True) == prompt
        ids, _ = processor.encode(prompt, [1] * prompt.count("<image>"))
        ids = ids.masked_fill(ids == free, RELEASED_IMAGE)
        assert torch.equal(ids[None], tensors[f"prompt.{name}.input_ids"].long()), name


@pytest.mark.parametrize("folder", CASES, ids=lambda folder: folder.name)
def test_tiles_and_grids_have_the_recorded_geometry(folder: Path) -> None:
    found = sorted(path.name for path in folder.glob("*geometry.json"))
    assert found == ["anyres_geometry.json", "unpad_geometry.json"]
    record = json.loads((folder / "anyres_geometry.json").read_text())
    tile = record["tile"]
    for row in record["rows"]:
        size = tuple(row["image_size_wh"])
        assert list(best_sheet_wh(size, pinpoints(tile))) == row["best_resolution_wh"], size
        assert list(sheet_tiles_wh(size, pinpoints(tile), tile)) == row["tiles_wh"], size
    record = json.loads((folder / "unpad_geometry.json").read_text())
    tile, side = record["tile_px"], record["grid"]
    for row in record["rows"]:
        size = tuple(row["image_size_wh"])
        tiles = sheet_tiles_wh(size, pinpoints(tile), tile)
        assert list(tiles) == row["tiles_wh"], size
        assert [side * tiles[1], side * tiles[0]] == row["merged_before_unpad_hw"], size
        assert list(merged_hw(size, pinpoints(tile), tile, side)) == row["after_unpad_and_cap_hw"]
