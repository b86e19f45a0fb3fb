"""Text and pictures to a model's inputs: placeholders expanded, the question marked."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import BatchFeature, ProcessorMixin

from hour_llava.model.configuration_hour_llava import HourLlavaConfig
from hour_llava.model.image_geometry import sheet_tiles_wh
from hour_llava.model.image_processing_hour_llava import HourLlavaImageProcessor, as_rgb
from hour_llava.model.prompts import (
    CHAT_TEMPLATE,
    IMAGE,
    PLACEHOLDER,
    TURN_END,
    TURN_START,
    VIDEO,
    insert_time_line,
    time_line,
)
from hour_llava.model.registration import register_auto_classes
from hour_llava.model.video_processing_hour_llava import HourLlavaVideoProcessor
from hour_llava.model.visual_plan import CellDraws, plan_images, plan_video

SETTINGS = (
    "tile_size",
    "grid_side",
    "pool_size",
    "spatial_forgetting",
    "temporal_forgetting",
    "frame_keep_ratio",
    "max_kept_frames",
    "min_memory_frames",
    "image_grid_pinpoints",
    "image_aspect_ratio",
    "time_instruction",
    "image_token_id",
    "video_token_id",
)
"""What a processor takes over from the model's configuration: all that decides counts."""


class HourLlavaProcessor(ProcessorMixin):
    """Make model inputs.

    Args:
        tokenizer: any tokenizer; placeholders are cut out of the text before it sees it.
        chat_template: Jinja; the released ChatML where not given.
        tile_size .. video_token_id: the fields of `HourLlavaConfig` that decide counts; make a
            processor with `from_config`, so that they are the model's.
    """

    def __init__(
        self,
        tokenizer: Any = None,
        chat_template: str | None = None,
        tile_size: int = 384,
        grid_side: int = 27,
        pool_size: int = 8,
        spatial_forgetting: str = "random",
        temporal_forgetting: str = "uniform",
        frame_keep_ratio: int = 4,
        max_kept_frames: int = 512,
        min_memory_frames: int = 128,
        image_grid_pinpoints: Sequence[Sequence[int]] = (),
        image_aspect_ratio: str = "anyres_max_9",
        time_instruction: bool = True,
        image_token_id: int = 151665,
        video_token_id: int = 151666,
    ) -> None:
        super().__init__(tokenizer, chat_template=chat_template or CHAT_TEMPLATE)
        self.tile_size = tile_size
        self.grid_side = grid_side
        self.pool_size = pool_size
        self.spatial_forgetting = spatial_forgetting
        self.temporal_forgetting = temporal_forgetting
        self.frame_keep_ratio = frame_keep_ratio
        self.max_kept_frames = max_kept_frames
        self.min_memory_frames = min_memory_frames
        self.image_grid_pinpoints = [list(pinpoint) for pinpoint in image_grid_pinpoints]
        self.image_aspect_ratio = image_aspect_ratio
        self.time_instruction = time_instruction
        self.image_token_id = image_token_id
        self.video_token_id = video_token_id

    @classmethod
    def from_config(
        cls, config: HourLlavaConfig, tokenizer: Any, chat_template: str | None = None
    ) -> HourLlavaProcessor:
        """Make the processor of a model."""
        settings = {name: getattr(config, name) for name in SETTINGS}
        return cls(tokenizer, chat_template=chat_template, **settings)

    @property
    def image_processing(self) -> HourLlavaImageProcessor:
        """Cut images into tiles."""
        return HourLlavaImageProcessor(self.tile_size, self.image_grid_pinpoints)

    @property
    def video_processing(self) -> HourLlavaVideoProcessor:
        """Turn frames into pixels."""
        return HourLlavaVideoProcessor(self.tile_size)

    @property
    def model_input_names(self) -> list[str]:
        """Name what `__call__` may return."""
        return [
            *("input_ids", "attention_mask", "question_mask", "forgetting_seeds", "memory_index"),
            *("pixel_values", "image_sizes", "image_num_tiles", "image_rows"),
            *("pixel_values_videos", "video_features"),
        ]

    def __call__(
        self,
        text: str | Sequence[str] | None = None,
        images: Any = None,
        videos: Any = None,
        video_features: Any = None,
        *,
        memory_index: Sequence[int] | None = None,
        durations_seconds: Sequence[float] | None = None,
        seed: int = 0,
        max_kept_frames: int | None = None,
        padding_side: str | None = None,
        return_tensors: str = "pt",
        **_: Any,
    ) -> BatchFeature:
        """Make the inputs of a forward pass or of `generate`.

        Args:
            text: prompts with `<image>` and `<video>` where pictures stand; a video at most once
                a prompt.
            images: pictures in reading order, flat or a list a prompt. A lone image of a prompt is
                cut into tiles, several are one tile each.
            videos: videos as uint8 frames (F, height, width, 3).
            video_features: videos as features or memory repositories; numbered behind `videos`.
            memory_index: the video of each prompt; None: prompts take them in order.
            durations_seconds: of each video, for the time line; default 1 FPS or the repository's.
            seed: with the pictures' content it decides what random forgetting keeps.
            max_kept_frames: a tighter cap; hand the model the same.
            padding_side: "left" or "right"; the tokenizer's by default.

        Returns:
            input_ids, attention_mask, question_mask (B, L), forgetting_seeds (B,), pictures.
        """
        texts = [text] if isinstance(text, str) else list(text or [])
        rows_images = _images_by_row(images, texts)
        pixel_videos = [self.video_processing(video) for video in _as_list(videos)]
        all_videos = [*pixel_videos, *_as_list(video_features)]
        index = _video_index(texts, memory_index, len(all_videos))
        durations = _durations(all_videos, durations_seconds)
        inputs: dict[str, Any] = self.image_inputs(rows_images)
        ids: list[Tensor] = []
        masks: list[Tensor] = []
        seeds: list[int] = []
        for row, prompt in enumerate(texts):
            own_images, number = rows_images[row], index[row]
            seeds.append(_row_seed(seed, own_images, None if number < 0 else all_videos[number]))
            if number >= 0 and self.time_instruction:
                line = time_line(durations[number], len(all_videos[number]))
                prompt = insert_time_line(prompt, line)
            lengths = self.visual_lengths(
                own_images,
                None if number < 0 else len(all_videos[number]),
                seeds[-1],
                max_kept_frames,
            )
            row_ids, row_mask = self.encode(prompt, lengths)
            ids.append(row_ids)
            masks.append(row_mask)
        inputs |= self.pad(ids, masks, padding_side=padding_side)
        inputs["forgetting_seeds"] = torch.tensor(seeds, dtype=torch.long)
        if all_videos:
            inputs["memory_index"] = torch.tensor(index, dtype=torch.long)
        if pixel_videos:
            inputs["pixel_values_videos"] = pixel_videos
        if video_features is not None:
            inputs["video_features"] = _as_list(video_features)
        if max_kept_frames is not None:
            inputs["max_kept_frames"] = max_kept_frames
        return BatchFeature(inputs)

    def encode(self, prompt: str, visual_lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Tokenize one prompt, its placeholders expanded.

        Args:
            prompt: text with `<image>` and `<video>`.
            visual_lengths: kept tokens of each placeholder.

        Returns:
            ids (L,) and the question mask (L,): text that is not a finished answer.

        Raises:
            ValueError: placeholders and pictures differ in number.
        """
        found = PLACEHOLDER.findall(prompt)
        if len(found) != len(visual_lengths):
            raise ValueError(
                f"the prompt has {len(found)} placeholders ({IMAGE}, {VIDEO}), but "
                f"{len(visual_lengths)} pictures came for it"
            )
        lengths = iter(visual_lengths)
        ids: list[int] = []
        for part in PLACEHOLDER.split(prompt):
            if part == IMAGE:
                ids += [self.image_token_id] * next(lengths)
            elif part == VIDEO:
                ids += [self.video_token_id] * next(lengths)
            elif part:
                ids += self.tokenizer(part, add_special_tokens=False)["input_ids"]
        ids_L = torch.tensor(ids, dtype=torch.long)
        return ids_L, self.question_mask(ids_L)

    def question_mask(self, ids_L: Tensor) -> Tensor:
        """Mark the text that MemAug may see: system text and questions; finished answers never.

        The opening of the answer that is to come belongs to the question, as in the released
        code's inference.
        """
        mask = (ids_L != self.image_token_id) & (ids_L != self.video_token_id)
        start, end = (self.tokenizer.convert_tokens_to_ids(t) for t in (TURN_START, TURN_END))
        if start is None or end is None or start == self.tokenizer.unk_token_id:
            return mask
        role = self.tokenizer("assistant", add_special_tokens=False)["input_ids"]
        ids = ids_L.tolist()
        ends = [i for i, token in enumerate(ids) if token == end]
        for i, token in enumerate(ids):
            if token == start and ids[i + 1 : i + 1 + len(role)] == role:
                closing = next((e for e in ends if e > i), None)
                if closing is not None:
                    mask[i : closing + 1] = False
        return mask

    def pad(
        self, ids: Sequence[Tensor], masks: Sequence[Tensor], *, padding_side: str | None = None
    ) -> dict[str, Tensor]:
        """Pad rows to one length, on the tokenizer's side where none is named."""
        side = padding_side or self.tokenizer.padding_side
        width = max(len(row) for row in ids)
        pad_id = self.tokenizer.pad_token_id or 0
        input_ids = torch.full((len(ids), width), pad_id, dtype=torch.long)
        attention = torch.zeros(len(ids), width, dtype=torch.long)
        question = torch.zeros(len(ids), width, dtype=torch.bool)
        for row, (own_ids, own_mask) in enumerate(zip(ids, masks, strict=True)):
            first = width - len(own_ids) if side == "left" else 0
            place = slice(first, first + len(own_ids))
            input_ids[row, place] = own_ids
            attention[row, place] = 1
            question[row, place] = own_mask
        return {"input_ids": input_ids, "attention_mask": attention, "question_mask": question}

    def _is_cut(self, num_images: int) -> bool:
        return num_images == 1 and self.image_aspect_ratio.startswith("anyres")

    def image_inputs(self, rows_images: Sequence[Sequence[Image.Image]]) -> dict[str, Any]:
        """Cut all rows' images into tiles."""
        tiles: list[Tensor] = []
        sizes: list[tuple[int, int]] = []
        rows: list[int] = []
        for row, own in enumerate(rows_images):
            for image in own:
                cut = self.image_processing.tiles if self._is_cut(len(own)) else None
                tiles.append((cut or self.image_processing.squared)(image))
                sizes.append((image.height, image.width))
                rows.append(row)
        if not tiles:
            return {}
        return {
            "pixel_values": torch.cat(tiles),
            "image_sizes": torch.tensor(sizes),
            "image_num_tiles": torch.tensor([len(t) for t in tiles]),
            "image_rows": torch.tensor(rows),
        }

    def visual_lengths(
        self,
        images: Sequence[Image.Image],
        num_frames: int | None,
        seed: int,
        max_kept_frames: int | None,
    ) -> tuple[int, ...]:
        """Count the kept tokens of each placeholder of a row, by the model's own plan."""
        draws = CellDraws(seed=seed)
        if num_frames is not None:
            if images:
                raise ValueError(
                    f"a prompt has a video and {len(images)} images; it may have one kind"
                )
            plan = plan_video(num_frames, self, draws, max_kept_frames=max_kept_frames)
            return plan.block_lengths
        if not images:
            return ()
        sizes = [(image.height, image.width) for image in images]
        num_tiles = [1] * len(images)
        if self._is_cut(len(images)):
            columns, rows = sheet_tiles_wh(
                images[0].size, self.image_grid_pinpoints, self.tile_size
            )
            num_tiles = [1 + columns * rows]
        return plan_images(sizes, num_tiles, self, draws).block_lengths


def _as_list(given: Any) -> list[Any]:
    """Take nothing, one video, or several as a list."""
    if given is None:
        return []
    if isinstance(given, list | tuple):
        return list(given)
    return [given]


def _images_by_row(images: Any, texts: Sequence[str]) -> list[list[Image.Image]]:
    """Give every prompt its images; a flat list is dealt out by the prompts' placeholders."""
    given = _as_list(images)
    if given and all(isinstance(row, list | tuple) for row in given):
        rows = [[as_rgb(image) for image in row] for row in given]
    else:
        flat = [as_rgb(image) for image in given]
        rows = []
        for text in texts:
            count = text.count(IMAGE)
            rows.append(flat[:count])
            flat = flat[count:]
        if flat:
            raise ValueError(f"{len(given)} images came for {len(given) - len(flat)} placeholders")
    if len(rows) != len(texts):
        raise ValueError(f"{len(rows)} lists of images came for {len(texts)} prompts")
    return rows


def _video_index(texts: Sequence[str], given: Sequence[int] | None, num_videos: int) -> list[int]:
    """Say which video each prompt is about; -1 for none."""
    index: list[int] = []
    for row, text in enumerate(texts):
        count = text.count(VIDEO)
        if count > 1:
            raise ValueError(f"prompt {row} has {count} videos; one prompt is about one video")
        in_order = sum(i >= 0 for i in index)
        index.append((in_order if given is None else int(given[row])) if count else -1)
    if max(index, default=-1) >= num_videos:
        raise ValueError(f"the prompts name {max(index) + 1} videos, but {num_videos} came")
    return index


def _durations(videos: Sequence[Any], given: Sequence[float] | None) -> list[float]:
    """Give each video's length: as told, the repository's, or 1 FPS."""
    if given is not None:
        return [float(seconds) for seconds in given]
    return [float(getattr(video, "duration_seconds", len(video))) for video in videos]


def _row_seed(seed: int, images: Sequence[Image.Image], video: Any) -> int:
    """Seed a row's forgetting by (seed, content): the same in any batch, on any day."""
    digest = hashlib.sha256(str(seed).encode())
    for image in images:
        digest.update(np.asarray(image).tobytes())
    content = getattr(video, "content_digest", None)
    if content is not None:
        digest.update(str(content).encode())
    elif isinstance(video, Tensor):
        digest.update(str(tuple(video.shape)).encode())
        step = max(1, video.numel() // 65_536)
        digest.update(video.detach().flatten()[::step].float().cpu().numpy().tobytes())
    return int.from_bytes(digest.digest()[:8], "little") >> 1


register_auto_classes()
