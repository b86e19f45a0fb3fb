"""The whole model against the released code, from embeddings to gradients and continuations."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from hour_llava.memory import random_cells, uniform_frames
from hour_llava.model.checkpoints import load_pretrained
from hour_llava.model.modeling_hour_llava import HourLlavaForConditionalGeneration
from hour_llava.model.processing_hour_llava import HourLlavaProcessor
from hour_llava.model.released_layout import our_key
from hour_llava.model.visual_plan import (
    CellDraws,
    VisualPlan,
    plan_images,
    plan_video,
    sheet_grid_hw,
    source_frames,
)

GOLDEN = Path(os.environ["HOUR_LLAVA_GOLDEN"])
CASES = [
    path.parent
    for path in sorted(GOLDEN.glob("*/meta.json"))
    if json.loads(path.read_text()).get("kind") == "full"
]
IMAGE = -200
RELATIVE = 1e-4


@cache
def loaded(checkpoint: str) -> tuple[HourLlavaForConditionalGeneration, HourLlavaProcessor]:
    return load_pretrained(GOLDEN / checkpoint)


@dataclass
class Visual:
    """One row's pictures: kind video, image or text; pixels, features, or images' tiles."""

    kind: str
    tensor: Tensor
    is_features: bool = False
    sizes_hw: list[tuple[int, int]] = field(default_factory=list)
    num_tiles: list[int] = field(default_factory=list)


@dataclass
class Case:
    folder: Path
    meta: dict[str, Any]
    tensors: dict[str, Tensor]
    unread: set[str]

    @classmethod
    def read(cls, folder: Path) -> Case:
        meta = json.loads((folder / "meta.json").read_text())
        tensors = load_file(folder / "io.safetensors")
        return cls(folder, meta, tensors, set(tensors))

    def __getitem__(self, name: str) -> Tensor:
        self.unread.discard(name)
        return self.tensors[name]

    def get(self, name: str) -> Tensor | None:
        return self[name] if name in self.tensors else None

    def other(self, name: str) -> Case:
        return Case.read(self.folder.parent / name)

    def close(self, name: str, ours: Tensor, atol: float, rtol: float = 0.0) -> None:
        expected = self[name].to(ours.dtype)
        torch.testing.assert_close(
            ours, expected, rtol=rtol, atol=atol, msg=lambda text: f"{name}: {text}"
        )

    def equal(self, name: str, ours: Tensor) -> None:
        assert torch.equal(self[name].long(), ours.long()), name


def visuals_of(case: Case, processor: HourLlavaProcessor) -> list[Visual]:
    """Give every row's pictures, following the references to other cases."""
    meta = case.meta
    if "images_from" in meta:
        rows: list[Visual] = []
        for name in meta["images_from"]:
            if name == "zeros":
                rows.append(zeros(processor))
            elif name in case.tensors:
                rows.append(video(case[name], name))
            else:
                rows += visuals_of(case.other(name), processor)
        return rows
    for reference in ("image_from", "video_pixels_from", "video_features_from"):
        if meta.get(reference):
            return visuals_of(case.other(meta[reference]), processor)
    for name in ("video_pixels_u8", "video_features_i8"):
        if name in case.tensors:
            return [video(case[name], name)]
    if "image_hwc_u8" in case.tensors:
        return [sheet(case, processor)]
    if "image_pixels_u8" in case.tensors:
        tile = case["image_pixels_u8"].float() / 127.5 - 1
        return [Visual("image", tile, sizes_hw=[tuple(tile.shape[2:])], num_tiles=[len(tile)])]
    if "image0_hwc_u8" in case.tensors:
        return [several(case, processor)]
    assert set(meta["modalities"]) == {"text"}, "a case without pictures must be text"
    return [zeros(processor)]


def video(tensor: Tensor, name: str) -> Visual:
    if name.endswith("_i8"):
        return Visual("video", tensor.float() / 32, is_features=True)
    return Visual("video", tensor.float() / 127.5 - 1)


def zeros(processor: HourLlavaProcessor) -> Visual:
    side = processor.tile_size
    return Visual("text", torch.zeros(1, 3, side, side), sizes_hw=[(side, side)], num_tiles=[1])


def sheet(case: Case, processor: HourLlavaProcessor) -> Visual:
    image = case["image_hwc_u8"].numpy()
    tiles = processor.image_processing.tiles(image)
    assert list(tiles.shape) == case.meta["tiles_shape"]
    case.close("tiles_first_and_last", tiles[[0, -1]], 1e-6)
    return Visual("image", tiles, sizes_hw=[image.shape[:2]], num_tiles=[len(tiles)])


def several(case: Case, processor: HourLlavaProcessor) -> Visual:
    names = [f"image{i}_hwc_u8" for i in range(len(case.meta["modalities"]))]
    images = [case[name].numpy() for name in names]
    tiles = torch.cat([processor.image_processing.squared(image) for image in images])
    case.close("tiles", tiles, 1e-6)
    return Visual(
        "image",
        tiles,
        sizes_hw=[image.shape[:2] for image in images],
        num_tiles=[1] * len(images),
    )


def recorded_draws(case: Case, visuals: list[Visual], config: Any) -> list[list[Tensor]] | None:
    """Draw as the released code does, from the recorded seed, and hold that against the record."""
    if case.meta["spatial_sampling_type"] != "random":
        return None
    torch.manual_seed(case.meta["torch_manual_seed"])
    side = config.grid_side
    draws: list[list[Tensor]] = []
    for visual in visuals:
        if visual.kind == "video":
            frames = len(source_frames(len(visual.tensor), config))
            own = [random_cells(frames, config.num_cells)]
        elif visual.num_tiles == [1] or len(visual.num_tiles) > 1:
            own = [random_cells(1, side * side) for _ in visual.num_tiles]
        else:
            rows, columns = sheet_grid_hw(visual.sizes_hw[0], config)
            own = [random_cells(1, side * side), random_cells(1, rows * columns)]
        draws.append(own)
    flat = [row for own in draws for draw in own for row in draw]
    names = sorted(
        (n for n in case.tensors if n.startswith("sampling")), key=lambda n: int(n[8:-8])
    )
    stored = [row.long() for name in names for row in case[name]]
    assert len(flat) == len(stored)
    assert all(torch.equal(a, b) for a, b in zip(flat, stored, strict=True))
    return draws


def plan_of(visual: Visual, config: Any, recorded: list[Tensor] | None) -> VisualPlan:
    draws = CellDraws(recorded=recorded)
    if visual.kind == "video":
        return plan_video(len(visual.tensor), config, draws)
    return plan_images(visual.sizes_hw, visual.num_tiles, config, draws)


def expand(
    case: Case, plans: list[VisualPlan], visuals: list[Visual], config: Any
) -> dict[str, Tensor | None]:
    """Expand the recorded ids, masks and labels as the processor would."""
    labels = case.get("labels")
    rows: list[tuple[list[int], list[int], list[bool]]] = []
    for row, (ids, mask) in enumerate(zip(case["input_ids"], case["attention_mask"], strict=True)):
        real = mask.bool()
        own_labels = torch.full_like(ids, -100) if labels is None else labels[row]
        lengths = iter(plans[row].block_lengths)
        token = config.video_token_id if visuals[row].kind == "video" else config.image_token_id
        new: tuple[list[int], list[int], list[bool]] = ([], [], [])
        for value, label in zip(ids[real].tolist(), own_labels[real].tolist(), strict=True):
            n = next(lengths) if value == IMAGE else 1
            new[0].extend([token if value == IMAGE else value] * n)
            new[1].extend([-100 if value == IMAGE else label] * n)
            new[2].extend([value != IMAGE and label == -100] * n)
        rows.append(new)
    width = max(len(new[0]) for new in rows)
    left = case.meta.get("tokenizer_padding_side", "right") == "left"

    def padded(part: int, fill: Any) -> Tensor:
        lists = [list(new[part]) for new in rows]
        pads = [[fill] * (width - len(values)) for values in lists]
        pairs = zip(lists, pads, strict=True)
        return torch.tensor([pad + v if left else v + pad for v, pad in pairs])

    attention = padded(0, -1) != -1
    return {
        "input_ids": padded(0, 0) * attention + (~attention) * config.text_config.pad_token_id
        if config.text_config.pad_token_id
        else padded(0, 0),
        "attention_mask": attention.long(),
        "question_mask": padded(2, False),
        "labels": None if labels is None else padded(1, -100),
    }


def picture_inputs(visuals: list[Visual], draws: list[list[Tensor]] | None) -> dict[str, Any]:
    inputs: dict[str, Any] = {}
    images = [(row, v) for row, v in enumerate(visuals) if v.kind == "image"]
    if images:
        inputs["pixel_values"] = torch.cat([v.tensor for _, v in images])
        inputs["image_sizes"] = torch.tensor([s for _, v in images for s in v.sizes_hw])
        inputs["image_num_tiles"] = [n for _, v in images for n in v.num_tiles]
        inputs["image_rows"] = [row for row, v in images for _ in v.num_tiles]
    pixels = [row for row, v in enumerate(visuals) if v.kind == "video" and not v.is_features]
    features = [row for row, v in enumerate(visuals) if v.is_features]
    if pixels:
        inputs["pixel_values_videos"] = [visuals[row].tensor for row in pixels]
    if features:
        inputs["video_features"] = [visuals[row].tensor for row in features]
    order = pixels + features
    if order:
        index = [order.index(row) if row in order else -1 for row in range(len(visuals))]
        inputs["memory_index"] = torch.tensor(index)
    if draws is not None:
        inputs["spatial_indices"] = draws
    return inputs


class Seen:
    """What went into MemAug and the language model, and what came out of MemAug."""

    def __init__(self, model: HourLlavaForConditionalGeneration) -> None:
        self.calls: list[dict[str, Any]] = []
        self.outputs: list[Tensor] = []
        self.embeds: list[Tensor] = []
        inner = model.model
        self.hooks = [
            inner.memaug.register_forward_pre_hook(
                lambda _, args, kwargs: self.calls.append(kwargs), with_kwargs=True
            ),
            inner.memaug.register_forward_hook(lambda _, args, out: self.outputs.append(out)),
            inner.language_model.register_forward_pre_hook(
                lambda _, args, kwargs: self.embeds.append(kwargs["inputs_embeds"]),
                with_kwargs=True,
            ),
        ]

    def __enter__(self) -> Seen:
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self.hooks:
            hook.remove()


@pytest.fixture
def spatial() -> Iterator[Any]:
    """Set a model's spatial forgetting for one case."""
    changed: list[tuple[Any, str]] = []

    def set_to(config: Any, value: str) -> None:
        changed.append((config, config.spatial_forgetting))
        config.spatial_forgetting = value

    yield set_to
    for config, value in changed:
        config.spatial_forgetting = value


@pytest.mark.parametrize("folder", CASES, ids=lambda folder: folder.name)
def test_model_equals_the_record(folder: Path, spatial: Any) -> None:
    case = Case.read(folder)
    model, processor = loaded(case.meta["checkpoint"])
    config = model.config
    spatial(config, case.meta["spatial_sampling_type"])
    visuals = visuals_of(case, processor)
    draws = recorded_draws(case, visuals, config)
    plans = [
        plan_of(visual, config, None if draws is None else draws[row])
        for row, visual in enumerate(visuals)
    ]
    text = expand(case, plans, visuals, config)
    pictures = picture_inputs(visuals, draws)
    model.train("grad_norms" in case.tensors)
    with Seen(model) as seen, torch.set_grad_enabled("grad_norms" in case.tensors):
        output = model(**text, **pictures)
    assert len(seen.calls) == 1, "MemAug runs exactly once a forward"
    check_text(case, text)
    check_embeddings(case, seen.embeds[0].detach(), text["attention_mask"])
    check_logits(case, output, text["attention_mask"])
    check_memaug(case, seen, visuals, plans)
    check_text_rows(case, model, text, visuals, plans, draws)
    if "grad_norms" in case.tensors:
        check_gradients(case, model, output.loss)
    model.eval()
    if "generate" in case.meta:
        check_generation(case, model, text, pictures)
    assert not case.unread, f"unread tensors: {sorted(case.unread)}"


def check_text(case: Case, text: dict[str, Tensor | None]) -> None:
    case.equal("new_attention_mask", text["attention_mask"])
    assert text["input_ids"].shape[1] == case.meta["llm_len"]
    if text["labels"] is not None:
        case.equal("new_labels", text["labels"])


def check_embeddings(case: Case, embeds: Tensor, attention: Tensor) -> None:
    atol = case.meta["atol"]["inputs_embeds"]
    embeds = embeds * attention[..., None]
    if "inputs_embeds" in case.tensors:
        case.close("inputs_embeds", embeds, atol)
    if "inputs_embeds_at_positions" in case.tensors:
        case.close("inputs_embeds_at_positions", embeds[:, case["positions"].long()], atol)
    case.close("inputs_embeds_sum", embeds.sum(-1), atol * embeds.shape[-1] ** 0.5, RELATIVE)
    case.close("inputs_embeds_norm", embeds.norm(dim=-1), atol, RELATIVE)


def check_logits(case: Case, output: Any, attention: Tensor) -> None:
    atol = case.meta["atol"]["logits"]
    logits = output.logits.detach() * attention[..., None]
    case.close("logits_at_positions", logits[:, case["positions"].long()], atol)
    case.close("logits_logsumexp", logits.logsumexp(-1) * attention, atol)
    top = logits.topk(2, dim=-1)
    clear = (top.values[..., 0] - top.values[..., 1] > atol) & attention.bool()
    recorded = case["logits_argmax"].long()
    assert torch.equal(recorded[clear], top.indices[..., 0][clear])
    assert bool((recorded[~attention.bool()] == -1).all())
    if "loss" in case.tensors:
        case.close("loss", output.loss.detach()[None], case.meta["atol"]["loss"])


def check_memaug(case: Case, seen: Seen, visuals: list[Visual], plans: list[VisualPlan]) -> None:
    """Hold MemAug's one packed call against the recorded calls, one a row."""
    call, out = seen.calls[0], seen.outputs[0].detach()
    lengths = list(call["lengths"])
    positions = call["positions_N"].split(lengths)
    outputs = out.split(lengths)
    for row, visual in enumerate(visuals):
        if visual.kind == "text":
            continue
        record = case.meta["memaug_calls"][row]
        memory = call["memories"][call["memory_index"][row]]
        assert memory.num_tokens == record["n_kv"]
        assert lengths[row] == record["n_q"]
        assert plans[row].num_kept == record["n_visual"]
        arange = torch.arange(memory.num_tokens)
        assert torch.equal(memory.positions_M, arange) == record["k_position_ids_is_arange"]
        if f"memaug{row}.k_position_ids" in case.tensors:
            case.equal(f"memaug{row}.k_position_ids", memory.positions_M)
        case.equal(f"memaug{row}.q_position_ids", positions[row])
        rows = case[f"memaug{row}.image_position_ids"].long()
        atol = case.meta["atol"]["inputs_embeds"]
        case.close(f"memaug{row}.out_visual_norm", outputs[row][rows].norm(dim=-1), atol, RELATIVE)
        if visual.kind == "video":
            frames = plans[row].kept_S // round(memory.num_tokens / frames_of(visual, memory))
            kept = frames.unique()
            assert kept.tolist() == record["sampled_frames"] or record["sampled_frames"] is None
            assert torch.equal(kept, uniform_frames(frames_of(visual, memory), len(kept)))


def frames_of(visual: Visual, memory: Any) -> int:
    return memory.num_tokens // memory.tokens_per_frame


def check_text_rows(
    case: Case,
    model: HourLlavaForConditionalGeneration,
    text: dict[str, Tensor | None],
    visuals: list[Visual],
    plans: list[VisualPlan],
    draws: list[list[Tensor]] | None,
) -> None:
    """The released code runs MemAug for text rows too, on a zero image put behind the text."""
    for row, visual in enumerate(visuals):
        if visual.kind != "text":
            continue
        real = text["attention_mask"][row].bool()
        dummy = torch.full((plans[row].num_kept,), model.config.image_token_id)
        with Seen(model) as seen, torch.no_grad():
            model.augment(
                torch.cat([text["input_ids"][row][real], dummy])[None],
                question_mask=torch.cat([text["question_mask"][row][real], dummy < 0])[None],
                **picture_inputs(
                    [Visual("image", visual.tensor, False, visual.sizes_hw, visual.num_tiles)],
                    None if draws is None else [draws[row]],
                ),
            )
        record = case.meta["memaug_calls"][row]
        assert seen.calls[0]["lengths"] == [record["n_q"]]
        assert seen.calls[0]["memories"][0].num_tokens == record["n_kv"]
        case.equal(f"memaug{row}.q_position_ids", seen.calls[0]["positions_N"])
        rows = case[f"memaug{row}.image_position_ids"].long()
        assert len(rows) == record["n_visual"]
        norms = seen.outputs[0][rows].norm(dim=-1)
        atol = case.meta["atol"]["inputs_embeds"]
        case.close(f"memaug{row}.out_visual_norm", norms, atol, RELATIVE)


def check_gradients(case: Case, model: HourLlavaForConditionalGeneration, loss: Tensor) -> None:
    model.zero_grad(set_to_none=True)
    loss.backward()
    ours = dict(model.named_parameters())
    names = case.meta["grad_names"]
    assert {our_key(name) for name in names} == set(ours)
    grads = {
        name: torch.zeros_like(ours[our_key(name)])
        if ours[our_key(name)].grad is None
        else ours[our_key(name)].grad
        for name in names
    }
    case.close("grad_norms", torch.stack([grads[name].norm() for name in names]), 1e-6, RELATIVE)
    for name in [n for n in case.tensors if n.startswith("grad.")]:
        gradient = grads[name.removeprefix("grad.")]
        case.close(name, gradient, RELATIVE * float(gradient.abs().max()), RELATIVE)
    model.zero_grad(set_to_none=True)


def check_generation(
    case: Case,
    model: HourLlavaForConditionalGeneration,
    text: dict[str, Tensor | None],
    pictures: dict[str, Any],
) -> None:
    """Greedy continuation, all text given to MemAug as queries, as the record has it."""
    settings = case.meta["generate"]
    output = model.generate(
        input_ids=text["input_ids"],
        attention_mask=text["attention_mask"],
        **pictures,
        max_new_tokens=settings["max_new_tokens"],
        do_sample=settings["do_sample"],
        eos_token_id=settings["eos_token_id"],
        return_dict_in_generate=True,
        output_logits=True,
    )
    new = output.sequences[:, text["input_ids"].shape[1] :]
    case.equal("generated_ids", new)
    scores = torch.stack(output.logits, dim=1)
    case.close("generated_scores", scores, case.meta["atol"]["logits"])
    assert np.isfinite(scores.numpy()).all()
