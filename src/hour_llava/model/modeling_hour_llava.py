"""Hour-LLaVA: a vision tower, a memory, MemAug, and a language model.

    frames -> encode_video -> features        question-free, once a video
    features -> project_memory -> memory      tokens that MemAug reads
    memory, question -> augment -> tokens     forgetting, MemAug: once a question
    tokens, question -> language model        answer

A forward pass does what of this its inputs ask for; `generate` does the memory's part in prefill.
Letters: B batch, F frames, P cells a frame, C tower channels, D hidden, L sequence, N packed
queries, S kept visual tokens of all rows, V videos of a batch.
Source: arXiv 2506.05332.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AutoModel, GenerationMixin, PreTrainedModel
from transformers import initialization as init

from hour_llava.errors import TokenCountError
from hour_llava.memory.evidence import EvidenceMass
from hour_llava.memory.forgetting import keyframes, question_guided_frames
from hour_llava.memory.memaug import MemAug
from hour_llava.memory.plan import MemoryTokens, Observer
from hour_llava.model.configuration_hour_llava import HourLlavaConfig
from hour_llava.model.loss import chunked_cross_entropy, cross_entropy
from hour_llava.model.memories import (
    AnyVideoMemory,
    ChunkedVideoMemory,
    MemoryMaker,
    VideoFeatures,
    VideoMemory,
    moved,
    place_of,
    pool_grid,
)
from hour_llava.model.outputs import PREFILL_INPUTS, Augmented, HourLlavaOutput, RowVisuals
from hour_llava.model.padding import kept_states, last_tokens, positions_across_padding
from hour_llava.model.pictures import Pictures, as_bool_mask
from hour_llava.model.registration import register_auto_classes
from hour_llava.model.rows import PackedRows, check_counts, pack_rows
from hour_llava.model.visual_plan import (
    VisualPlan,
    num_kept_frames,
    plan_images,
    plan_video,
    source_frames,
)

ENCODE_TOKENS = 24_576  # patches the tower takes at a time: 33 frames of so400m at 384
OUR_UNSPLIT_MODULES = ("MemAugLayer", "MemoryMaker")


class HourLlavaPreTrainedModel(PreTrainedModel):
    """What both model classes tell transformers about themselves."""

    config: HourLlavaConfig
    config_class = HourLlavaConfig
    base_model_prefix = "model"
    input_modalities: Any = ("image", "video", "text")
    supports_gradient_checkpointing = True
    _no_split_modules: Any = ("Qwen2DecoderLayer", "SiglipEncoderLayer", *OUR_UNSPLIT_MODULES)
    _skip_keys_device_placement: Any = ("past_key_values",)
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, MemoryMaker):
            init.normal_(module.newline, mean=0.0, std=module.newline.shape[0] ** -0.5)


class HourLlavaModel(HourLlavaPreTrainedModel):
    """Hour-LLaVA without the head that turns hidden states into words."""

    def __init__(self, config: HourLlavaConfig) -> None:
        super().__init__(config)
        text = config.text_config
        self.vision_tower = AutoModel.from_config(config.vision_config)
        self.memory_maker = MemoryMaker(config)
        self.memaug = MemAug(
            hidden_size=text.hidden_size,
            num_heads=text.num_attention_heads,
            num_key_value_heads=text.num_key_value_heads,
            num_layers=config.memaug_num_layers,
            rope_theta=text.rope_parameters["rope_theta"],
            head_dim=getattr(text, "head_dim", None),
            log_n_reference=config.log_n_reference,
        )
        self.language_model = AutoModel.from_config(text)
        self.gradient_checkpointing = False
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Give the language model's token embeddings."""
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the language model's token embeddings."""
        self.language_model.set_input_embeddings(value)

    def tower_features(self, pixels_NCHW: Tensor) -> Tensor:
        """Run the tower: (N, 3, height, width) -> (N, cells, C), its last kept layer.

        No post-layernorm and no head, as released; `last_hidden_state` of the tower has passed the
        former. Gradients flow in training alone, where the tower is trained.
        """
        tower = self.vision_tower
        trained = self.training and any(p.requires_grad for p in tower.parameters())
        with torch.set_grad_enabled(torch.is_grad_enabled() and trained):
            pixels = pixels_NCHW.to(place_of(tower) or pixels_NCHW.device, tower.dtype)
            embedded = tower.embeddings(pixels)
            return tower.encoder(inputs_embeds=embedded).last_hidden_state

    def encode_video(self, pixel_values_FCHW: Tensor, *, chunk_frames: int | None = None) -> Tensor:
        """Encode frames: tower, then pooling; what a memory repository stores.

        Args:
            pixel_values_FCHW: normalised frames of the tower's size.
            chunk_frames: frames the tower takes at a time.

        Returns:
            (F, P, C) of the tower's dtype.

        Cost: 2,310 TFLOP for 3,600 frames of the released tower.
        """
        chunk = chunk_frames or max(1, ENCODE_TOKENS // self.config.grid_side**2)
        parts = pixel_values_FCHW.split(chunk)
        return torch.cat([pool_grid(self.tower_features(p), self.config.pool_size) for p in parts])

    def project_memory(
        self,
        features: VideoFeatures | Sequence[VideoFeatures],
        *,
        seconds: Tensor | Sequence[Tensor | None] | None = None,
        max_memory_bytes: int | None = None,
    ) -> Any:
        """Make the memory that MemAug reads.

        Args:
            features: (F, P, C) or (F, h, w, C) features or a repository; or a list of those.
                Frames of more than P cells are pooled first.
            seconds: presentation times (F,); a repository brings its own; else 1 FPS.
            max_memory_bytes: a memory larger than this is projected a range of frames at a time.

        Returns:
            `VideoMemory` or `ChunkedVideoMemory`; a list for a list.

        Cost: (P + 1) D numbers a frame (one hour of the 3B in bf16: 959 MB).
        """
        if isinstance(features, Tensor) or not isinstance(features, Sequence):
            given: Any = [features]
            times: Any = None if seconds is None else [seconds]
            return self.project_memory(given, seconds=times, max_memory_bytes=max_memory_bytes)[0]
        times = [None] * len(features) if seconds is None else list(seconds)
        make = self.memory_maker
        sources = [make.source(f, s) for f, s in zip(features, times, strict=True)]
        return make.video_memories(sources, max_memory_bytes=max_memory_bytes)

    def augment(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        question_mask: Tensor | None = None,
        observer: Observer | None = None,
        evidence: bool = False,
        **pictures: Any,
    ) -> Augmented:
        """Forget, then let what is left and the question read the whole memory: MemAug, once.

        Args:
            input_ids: (B, L), placeholders expanded by the processor.
            attention_mask: (B, L), 0 at padding.
            question_mask: (B, L) bool, the text that MemAug sees; None: all of it.
            observer: sees the rotated queries and keys of every cross-attention.
            evidence: also sum the question rows' attention per frame.
            pictures: as in `HourLlavaForConditionalGeneration.forward`.

        Returns:
            `Augmented`; its tokens take the placeholders' places.

        Raises:
            TokenCountError: placeholders and kept tokens differ; both numbers are named.
        """
        is_visual_BL = self.is_visual(input_ids)
        question_BL = as_bool_mask(question_mask, input_ids)
        question_BL &= as_bool_mask(attention_mask, input_ids) & ~is_visual_BL
        embeds_BLD = self._embed(input_ids)
        visuals = self._visuals(input_ids, embeds_BLD, question_BL, Pictures(**pictures))
        check_counts(is_visual_BL.sum(1).tolist(), visuals.plans)
        rows = pack_rows(question_BL, is_visual_BL, visuals.plans)
        mass = None
        if evidence:
            tokens_per_frame = self.config.num_cells + 1
            mass = EvidenceMass(rows_N=~rows.is_visual_N, tokens_per_frame=tokens_per_frame)
        queries_ND = self._queries(rows, embeds_BLD, is_visual_BL, visuals)
        out_ND = self._run_memaug(queries_ND, rows, visuals, observer, mass)
        return Augmented(
            tokens_SD=out_ND[: len(rows.is_visual_N)][rows.is_visual_N],
            lengths=[0 if plan is None else plan.num_kept for plan in visuals.plans],
            evidence=None if mass is None else self._evidence(mass, rows, visuals),
            memories=visuals.videos,
            idle=None if any(visuals.plans) else out_ND,
        )

    def is_visual(self, input_ids: Tensor) -> Tensor:
        """Mark the placeholders (B, L)."""
        config = self.config
        return (input_ids == config.image_token_id) | (input_ids == config.video_token_id)

    def _embed(self, input_ids: Tensor) -> Tensor:
        """Embed text; placeholders may lie outside the vocabulary, and get row 0 for now."""
        return self.get_input_embeddings()(input_ids.masked_fill(self.is_visual(input_ids), 0))

    def _visuals(
        self, input_ids: Tensor, embeds_BLD: Tensor, question_BL: Tensor, pictures: Pictures
    ) -> RowVisuals:
        """Make the batch's memories, and plan what each row keeps of its own."""
        config = self.config
        videos = self._videos(pictures)
        has_image = (input_ids == config.image_token_id).any(1).tolist()
        has_video = (input_ids == config.video_token_id).any(1).tolist()
        images = pictures.images_of_row(has_image, config.tile_size)
        pixels = pictures.pixel_values
        features = self.tower_features(pixels) if images and pixels is not None else None
        memories: list[Any] = list(videos)
        memory_of_row: list[int | None] = []
        plans: list[VisualPlan | None] = []
        for row, number in enumerate(pictures.video_of_row(has_video)):
            draws = pictures.draws(row, is_training=self.training)
            if number is not None:
                chosen = self._chosen_frames(
                    videos[number], embeds_BLD[row], question_BL[row], pictures.max_kept_frames
                )
                plans.append(
                    plan_video(
                        videos[number].num_frames,
                        config,
                        draws,
                        max_kept_frames=pictures.max_kept_frames,
                        kept_frames=chosen,
                    )
                )
                memory_of_row.append(number)
            elif row in images and features is not None:
                own = images[row]
                plans.append(plan_images(own.sizes_hw, own.num_tiles, config, draws))
                memory_of_row.append(len(memories))
                memories.append(
                    self.memory_maker.image_memory(features[own.tiles], own.sizes_hw, own.num_tiles)
                )
            else:
                plans.append(None)
                memory_of_row.append(None)
        return RowVisuals(
            memories=memories, videos=videos, memory_of_row=memory_of_row, plans=plans
        )

    def _videos(self, pictures: Pictures) -> list[AnyVideoMemory]:
        """Make the memories of pixel videos, then of features; ready memories stay as they are."""
        given: list[Any] = [self.encode_video(pixels) for pixels in pictures.pixel_videos]
        given += pictures.feature_videos
        seconds = pictures.video_seconds or [None] * len(given)
        is_ready = [isinstance(video, VideoMemory | ChunkedVideoMemory) for video in given]
        made = iter(
            self.project_memory(
                [video for video, ready in zip(given, is_ready, strict=True) if not ready],
                seconds=[s for s, ready in zip(seconds, is_ready, strict=True) if not ready],
                max_memory_bytes=pictures.max_memory_bytes,
            )
        )
        return [v if ready else next(made) for v, ready in zip(given, is_ready, strict=True)]

    def _chosen_frames(
        self, video: AnyVideoMemory, embeds_LD: Tensor, question_L: Tensor, max_kept: int | None
    ) -> Tensor | None:
        """Choose frames by content, where the configuration says so."""
        temporal = self.config.temporal_forgetting
        if temporal not in ("keyframe", "question") or not bool(question_L.any()):
            return None
        num_kept = num_kept_frames(video.num_frames, self.config, max_kept)
        with torch.no_grad():
            if temporal == "keyframe":
                return keyframes(video.frame_means(), num_kept)
            return question_guided_frames(
                video.frame_means(), embeds_LD[question_L].mean(0), num_kept
            )

    def _queries(
        self, rows: PackedRows, embeds_BLD: Tensor, is_visual_BL: Tensor, visuals: RowVisuals
    ) -> Tensor:
        """Pack MemAug's queries: text embeddings, and kept tokens as they are in memory."""
        kept: list[Tensor] = []
        for plan, number in zip(visuals.plans, visuals.memory_of_row, strict=True):
            if plan is None or number is None:
                continue
            memory = visuals.memories[number]
            if isinstance(memory, MemoryTokens):
                kept.append(memory.tokens_MD[plan.kept_S.to(memory.tokens_MD.device)])
            else:
                kept.append(memory.gather(plan.kept_S))
        if kept:
            kept_SD = torch.cat(kept).to(embeds_BLD)
            embeds_BLD = embeds_BLD.masked_scatter(is_visual_BL[..., None], kept_SD)
        return embeds_BLD[rows.selected_BL]

    def _run_memaug(
        self,
        queries_ND: Tensor,
        rows: PackedRows,
        visuals: RowVisuals,
        observer: Observer | None,
        mass: EvidenceMass | None,
    ) -> Tensor:
        """Run MemAug once, whatever the batch holds: uneven calls across ranks hang FSDP."""
        memories, lengths = list(visuals.memories), list(rows.lengths)
        index = [visuals.memory_of_row[row] for row in rows.row_numbers]
        positions_N = rows.positions_N
        if None in index or not lengths:
            memories.append(self._idle_memory())
            index = [len(memories) - 1 if number is None else number for number in index]
        if not lengths:
            queries_ND = memories[-1].tokens_MD[:1]
            positions_N, lengths, index = positions_N.new_zeros(1), [1], [len(memories) - 1]
        recompute = self.gradient_checkpointing and self.training
        device = place_of(self.memaug) or queries_ND.device
        out_ND = self.memaug(
            queries_ND.to(device),
            lengths=lengths,
            positions_N=positions_N.to(device),
            memories=[moved(memory, device) for memory in memories],
            memory_index=index,
            observer=observer,
            evidence=mass,
            checkpoint=partial(checkpoint, use_reentrant=False) if recompute else None,
        )
        return out_ND.to(queries_ND.device)

    def _idle_memory(self) -> MemoryTokens:
        """Make what rows without pictures read: one black frame, so that every weight is used."""
        config, like = self.config, self.memory_maker.newline
        shape = (1, config.num_cells, config.vision_config.hidden_size)
        features = like.new_zeros(shape)
        if self.training and any(p.requires_grad for p in self.vision_tower.parameters()):
            black = like.new_full((1, 3, config.tile_size, config.tile_size), -1.0)
            features = self.encode_video(black)
        source = self.memory_maker.source(features)
        tokens = self.memory_maker.project_frames(source, torch.zeros(1, dtype=torch.long))[0]
        return MemoryTokens(
            tokens_MD=tokens, positions_M=torch.arange(len(tokens), device=tokens.device)
        )

    def _evidence(
        self, mass: EvidenceMass, rows: PackedRows, visuals: RowVisuals
    ) -> list[Tensor | None]:
        """Give each row's share of reading per video frame; repeated frames are summed."""
        found: list[Tensor | None] = [None] * len(visuals.plans)
        is_text = (~rows.is_visual_N).split(rows.lengths)
        for sequence, row in enumerate(rows.row_numbers):
            number = visuals.memory_of_row[row]
            is_asked = bool(is_text[sequence].any())
            if number is None or number >= len(visuals.videos) or not is_asked:
                continue
            num_frames = visuals.videos[number].num_frames
            share = mass.per_frame(sequence)
            total = torch.zeros(num_frames, dtype=share.dtype)
            found[row] = total.index_add(0, source_frames(num_frames, self.config), share)
        return found

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        question_mask: Tensor | None = None,
        augmented_tokens: Tensor | None = None,
        observer: Observer | None = None,
        output_evidence: bool = False,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> HourLlavaOutput:
        """Run memory and language model; arguments as in `HourLlavaForConditionalGeneration`."""
        pictures = {name: kwargs.pop(name, None) for name in Pictures.names()}
        augmented: Augmented | None = None
        if inputs_embeds is None:
            if input_ids is None:
                raise ValueError("neither input_ids nor inputs_embeds came; one is needed")
            inputs_embeds = self._embed(input_ids)
            is_prefill = past_key_values is None or past_key_values.get_seq_length() == 0
            has_pictures = any(value is not None for value in pictures.values())
            if augmented_tokens is None and (is_prefill or has_pictures):
                augmented = self.augment(
                    input_ids,
                    attention_mask,
                    question_mask=question_mask,
                    observer=observer,
                    evidence=output_evidence,
                    **pictures,
                )
                augmented_tokens = augmented.tokens_SD
            if augmented_tokens is not None:
                inputs_embeds = self._insert(inputs_embeds, input_ids, augmented_tokens)
            if augmented is not None and augmented.idle is not None and self.training:
                inputs_embeds = inputs_embeds + 0.0 * augmented.idle.sum()
        evidence = None if augmented is None else augmented.evidence
        memory_tokens = None if augmented is None else augmented.memory_frames()
        del augmented  # an hour's memory would lie beside the prefill
        outputs = self.language_model(
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )
        return HourLlavaOutput(
            last_hidden_state=outputs.last_hidden_state,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            augmented_tokens=augmented_tokens,
            memory_tokens=memory_tokens,
            evidence=evidence,
        )

    def _insert(self, embeds_BLD: Tensor, input_ids: Tensor, tokens_SD: Tensor) -> Tensor:
        """Put augmented tokens in the placeholders' places.

        Raises:
            TokenCountError: their numbers differ.
        """
        is_visual_BL = self.is_visual(input_ids)
        num_places = int(is_visual_BL.sum())
        if num_places != len(tokens_SD):
            raise TokenCountError(
                f"the prompts have {num_places} visual placeholders, but {len(tokens_SD)} "
                "augmented tokens came: make both from the same prompts"
            )
        return embeds_BLD.masked_scatter(is_visual_BL[..., None], tokens_SD.to(embeds_BLD))


class HourLlavaForConditionalGeneration(HourLlavaPreTrainedModel, GenerationMixin):
    """Hour-LLaVA with its language head: training's loss, and `generate`."""

    _tied_weights_keys = {"lm_head.weight": "model.language_model.embed_tokens.weight"}  # noqa: RUF012

    def __init__(self, config: HourLlavaConfig) -> None:
        super().__init__(config)
        text = config.text_config
        self.model = HourLlavaModel(config)
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        self.post_init()

    def encode_video(self, pixel_values_FCHW: Tensor, *, chunk_frames: int | None = None) -> Tensor:
        """Encode frames into what a repository stores; see `HourLlavaModel.encode_video`."""
        return self.model.encode_video(pixel_values_FCHW, chunk_frames=chunk_frames)

    def project_memory(self, features: Any, **options: Any) -> Any:
        """Make the memory that MemAug reads; see `HourLlavaModel.project_memory`."""
        return self.model.project_memory(features, **options)

    def augment(self, input_ids: Tensor, attention_mask: Any = None, **inputs: Any) -> Augmented:
        """Run forgetting and MemAug alone; see `HourLlavaModel.augment`."""
        return self.model.augment(input_ids, attention_mask, **inputs)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        pixel_values: Tensor | None = None,
        image_sizes: Tensor | None = None,
        image_num_tiles: Tensor | None = None,
        image_rows: Tensor | None = None,
        pixel_values_videos: Tensor | Sequence[Tensor] | None = None,
        video_features: Sequence[Any] | None = None,
        video_seconds: Sequence[Tensor] | None = None,
        memory_index: Tensor | None = None,
        question_mask: Tensor | None = None,
        forgetting_seeds: Tensor | None = None,
        spatial_indices: Sequence[Sequence[Tensor]] | None = None,
        max_kept_frames: int | None = None,
        max_memory_bytes: int | None = None,
        augmented_tokens: Tensor | None = None,
        observer: Observer | None = None,
        output_evidence: bool = False,
        labels: Tensor | None = None,
        loss_chunk_size: int | None = None,
        logits_to_keep: int | Tensor = 0,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> HourLlavaOutput:
        """Read pictures and text, and predict the next words.

        Args:
            input_ids: (B, L), with one placeholder a kept token, as the processor makes them.
            pixel_values: tiles of all images of all rows, (tiles, 3, height, width).
            image_sizes: (images, 2), height and width before cutting.
            image_num_tiles, image_rows: tiles of each image, and the row it belongs to.
            pixel_values_videos: videos as frames, each (F, 3, height, width).
            video_features: (F, P, C), repositories or memories; counted behind those of pixels.
            video_seconds: presentation times of each video's frames; default 1 FPS.
            memory_index: (B,), the video each row reads, -1 for none; None: in order.
            question_mask: (B, L) bool, the text MemAug sees; None: all. Never made from labels.
            forgetting_seeds: (B,), as the processor gives them.
            spatial_indices: per row, recorded draws in call order, instead of seeds.
            max_kept_frames: a tighter cap on kept frames than the configuration's.
            max_memory_bytes: larger memories are projected in ranges of frames.
            augmented_tokens: `augment`'s result, instead of pictures.
            observer: sees rotated queries and keys of every cross-attention.
            output_evidence: also return each row's reading per frame.
            labels: (B, L), -100 where nothing is learned.
            loss_chunk_size: make the loss without logits, from so many positions at a time.
            logits_to_keep: logits of the last n positions (0: all), of these indices, or (B, n).

        Raises:
            TokenCountError: placeholders and kept tokens differ; both numbers are named.
        """
        given = locals()
        num_items = kwargs.pop("num_items_in_batch", None)
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            question_mask=question_mask,
            augmented_tokens=augmented_tokens,
            observer=observer,
            output_evidence=output_evidence,
            use_cache=use_cache,
            **{name: given[name] for name in Pictures.names()},
            **kwargs,
        )
        hidden_BLD, outputs.last_hidden_state = outputs.last_hidden_state, None
        if labels is not None and loss_chunk_size:
            in_chunks = partial(chunked_cross_entropy, chunk_size=loss_chunk_size)
            outputs.loss = in_chunks(self.lm_head, hidden_BLD, labels, num_items=num_items)
            return outputs
        outputs.logits = self.lm_head(kept_states(hidden_BLD, logits_to_keep))
        if labels is not None:
            outputs.loss = cross_entropy(outputs.logits, labels, num_items=num_items)
        return outputs

    def prepare_inputs_for_generation(
        self, input_ids: Tensor, *args: Any, is_first_iteration: bool = False, **kwargs: Any
    ) -> dict[str, Any]:
        """Hand pictures to prefill alone; rows padded on the right go on behind their own end."""
        mask = kwargs.get("attention_mask")
        if not is_first_iteration and kwargs.get("use_cache", True):
            kwargs = {k: v for k, v in kwargs.items() if k not in PREFILL_INPUTS}
        elif mask is not None:  # static caches turn it into four dimensions
            question = as_bool_mask(kwargs.get("question_mask"), mask)
            kwargs["question_mask"] = question & mask.bool()
        positions = positions_across_padding(mask)
        if positions is not None:
            kwargs["position_ids"] = positions
        prepare: Any = super().prepare_inputs_for_generation  # pyright: ignore[reportAttributeAccessIssue]
        inputs = prepare(input_ids, *args, is_first_iteration=is_first_iteration, **kwargs)
        if positions is not None and inputs.get("input_ids") is not None:
            inputs["logits_to_keep"] = last_tokens(
                kwargs["attention_mask"], inputs["input_ids"].shape[1]
            )
        return inputs

    def _expand_inputs_for_generation(
        self, expand_size: int = 1, is_encoder_decoder: bool = False, **kwargs: Any
    ) -> tuple[Tensor, dict[str, Any]]:
        """Augment once before beams or samples multiply the rows, then multiply the result."""
        expand: Any = super()._expand_inputs_for_generation  # pyright: ignore[reportAttributeAccessIssue]
        ids = kwargs.get("input_ids")
        if expand_size == 1 or ids is None:
            return expand(expand_size, is_encoder_decoder, **kwargs)
        inputs = {name: kwargs.pop(name) for name in PREFILL_INPUTS if name in kwargs}
        inputs.pop("output_evidence", None)
        tokens_SD = inputs.pop("augmented_tokens", None)
        if tokens_SD is None:
            tokens_SD = self.model.augment(ids, kwargs.get("attention_mask"), **inputs).tokens_SD
        lengths = self.model.is_visual(ids).sum(1).tolist()
        parts = [part for part in tokens_SD.split(lengths) for _ in range(expand_size)]
        ids, kwargs = expand(expand_size, is_encoder_decoder, **kwargs)
        return ids, kwargs | {"augmented_tokens": torch.cat(parts)}


register_auto_classes()
