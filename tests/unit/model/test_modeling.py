"""The model's behaviour on tiny random weights; numbers of the released code: see tests/parity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from hour_llava.errors import TokenCountError
from hour_llava.memory import MemoryRepository
from hour_llava.model.memories import ChunkedVideoMemory


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = torch.randint(
        0, 256, (height, width, 3), generator=torch.Generator().manual_seed(seed)
    )
    return Image.fromarray(pixels.to(torch.uint8).numpy())


@pytest.fixture
def mixed(processor: Any, ask: Any, features: Tensor) -> dict[str, Any]:
    """Rows: video features, lone image, text, two images, video pixels."""
    frames = torch.randint(
        0, 256, (5, 9, 12, 3), generator=torch.Generator().manual_seed(2), dtype=torch.uint8
    )
    return {
        "text": [
            ask(),
            ask("what is the colour ?", kind="image"),
            ask("what is 1 ?", kind=None),
            "<image> <image> what is red ?",
            ask("is the ring blue or red ?"),
        ],
        "images": [[], [picture(30, 17)], [], [picture(9, 8, 1), picture(7, 12, 2)], []],
        "videos": [frames],
        "video_features": [features],
        "memory_index": [1, -1, -1, -1, 0],
    }


def rows_alone(mixed: dict[str, Any]) -> list[dict[str, Any]]:
    alone = []
    for row, text in enumerate(mixed["text"]):
        number = mixed["memory_index"][row]
        own = {"text": [text], "images": [mixed["images"][row]]}
        if number == 0:
            own |= {"videos": mixed["videos"]}
        elif number == 1:
            own |= {"video_features": mixed["video_features"]}
        alone.append(own)
    return alone


@pytest.mark.parametrize("side", ["left", "right"])
@torch.no_grad()
def test_a_row_is_answered_alike_in_any_batch(
    model: Any, processor: Any, mixed: dict[str, Any], side: str
) -> None:
    batch = processor(**mixed, padding_side=side)
    together = model(**batch).logits
    for row, own in enumerate(rows_alone(mixed)):
        inputs = processor(**own)
        alone = model(**inputs).logits[0]
        real = batch["attention_mask"][row].bool()
        torch.testing.assert_close(together[row][real], alone, rtol=0, atol=2e-4)


@pytest.mark.parametrize(
    ("side", "cache"),
    [
        ("left", {}),
        ("right", {}),
        ("right", {"use_cache": False}),
        ("right", {"cache_implementation": "static"}),
    ],
)
@torch.no_grad()
def test_padded_batches_generate_what_single_prompts_do(
    model: Any, processor: Any, mixed: dict[str, Any], side: str, cache: dict[str, Any]
) -> None:
    batch = processor(**mixed, padding_side=side)
    width = batch["input_ids"].shape[1]
    settings = {"max_new_tokens": 4, "do_sample": False, "eos_token_id": None, **cache}
    together = model.generate(**batch, **settings)[:, width:]
    for row, own in enumerate(rows_alone(mixed)):
        inputs = processor(**own)
        alone = model.generate(**inputs, **settings)[0, inputs["input_ids"].shape[1] :]
        assert together[row].tolist() == alone.tolist()


@torch.no_grad()
def test_cached_steps_equal_steps_without_a_cache(
    model: Any, processor: Any, ask: Any, features: Tensor
) -> None:
    inputs = processor(text=ask(), video_features=[features])
    settings = {"max_new_tokens": 4, "do_sample": False, "eos_token_id": None}
    cached = model.generate(**inputs, **settings)
    assert torch.equal(cached, model.generate(**inputs, **settings, use_cache=False))


@torch.no_grad()
def test_memaug_runs_once_in_prefill_and_not_after(
    model: Any, processor: Any, mixed: dict[str, Any]
) -> None:
    calls: list[int] = []
    hook = model.model.memaug.register_forward_hook(lambda *_: calls.append(1))
    model.generate(**processor(**mixed, padding_side="left"), max_new_tokens=3, eos_token_id=None)
    hook.remove()
    assert len(calls) == 1


@torch.no_grad()
def test_text_rows_equal_the_plain_language_model(model: Any, processor: Any, ask: Any) -> None:
    inputs = processor(text=ask(kind=None))
    plain = model.model.language_model(input_ids=inputs["input_ids"]).last_hidden_state
    assert torch.equal(model(**inputs).logits, model.lm_head(plain))


@torch.no_grad()
def test_beams_and_samples_multiply_rows_after_memaug(
    model: Any, processor: Any, ask: Any, features: Tensor
) -> None:
    inputs = processor(text=[ask(), ask("what is the ring ?")], video_features=[features] * 2)
    beams = model.generate(**inputs, num_beams=2, max_new_tokens=3, do_sample=False)
    assert beams.shape[0] == 2
    torch.manual_seed(0)
    samples = model.generate(**inputs, num_return_sequences=3, max_new_tokens=3, do_sample=True)
    assert samples.shape[0] == 6


@torch.no_grad()
def test_augmented_tokens_replace_the_memory(
    model: Any, processor: Any, ask: Any, features: Tensor
) -> None:
    inputs = processor(text=ask(), video_features=[features])
    augmented = model.augment(**inputs)
    mask = inputs["attention_mask"]
    given = model(inputs["input_ids"], mask, augmented_tokens=augmented.tokens_SD).logits
    assert torch.equal(given, model(**inputs).logits)
    with pytest.raises(TokenCountError, match=f"{augmented.lengths[0] - 1} augmented"):
        model(inputs["input_ids"], mask, augmented_tokens=augmented.tokens_SD[1:])


@torch.no_grad()
def test_rows_may_share_a_video(model: Any, processor: Any, ask: Any, features: Tensor) -> None:
    other = features.flip(0)[:11]
    prompts = [ask(), ask("what is 2 ?"), ask("is 1 red ?")]
    shared = processor(text=prompts, video_features=[features, other], memory_index=[1, 0, 1])
    own = processor(text=prompts, video_features=[other, features, other])
    torch.testing.assert_close(
        model(**shared).logits, model(**own).logits, rtol=0, atol=1e-4, equal_nan=True
    )


def test_a_wrong_number_of_placeholders_names_both_numbers(
    model: Any, processor: Any, ask: Any, features: Tensor
) -> None:
    inputs = processor(text=ask(), video_features=[features])
    needed = int((inputs["input_ids"] == model.config.video_token_id).sum())
    inputs["video_features"] = [torch.cat([features] * 2)]
    with pytest.raises(TokenCountError, match=f"{needed} visual placeholders, but {2 * needed}"):
        model(**inputs)


@pytest.mark.parametrize("temporal", ["uniform", "random", "keyframe", "question"])
@torch.no_grad()
def test_processor_and_model_count_alike_for_every_forgetting(
    make_model: Any, tokenizer: Any, ask: Any, features: Tensor, temporal: str
) -> None:
    from hour_llava.model.processing_hour_llava import HourLlavaProcessor

    model = make_model(spatial_forgetting="random", temporal_forgetting=temporal)
    own = HourLlavaProcessor.from_config(model.config, tokenizer)
    for num_frames in (1, 7, 8, 20):
        inputs = own(text=ask(), video_features=[features[:num_frames]])
        assert torch.equal(model(**inputs).logits, model(**inputs).logits)
    for size in ((30, 17), (16, 16), (5, 90)):
        inputs = own(text=ask(kind="image"), images=[picture(*size)])
        model(**inputs)


@pytest.mark.parametrize("from_file", [False, True])
@torch.no_grad()
def test_chunked_memory_gives_the_answer_of_the_whole_one(
    make_model: Any,
    nano_options: dict[str, Any],
    tokenizer: Any,
    ask: Any,
    tmp_path: Path,
    from_file: bool,
) -> None:
    from hour_llava.model.processing_hour_llava import HourLlavaProcessor

    model = make_model(**nano_options)
    own = HourLlavaProcessor.from_config(model.config, tokenizer)
    long = torch.randn(61, 4, 16, generator=torch.Generator().manual_seed(3))
    if from_file:
        long = MemoryRepository(features_FPD=long, times_F=torch.arange(61.0))
        long.save(tmp_path / "long.hlm")
        long = MemoryRepository.open(tmp_path / "long.hlm")
    inputs = own(text=ask(), video_features=[long])
    whole = model(**inputs, output_evidence=True)
    assert isinstance(model.project_memory(long, max_memory_bytes=9000), ChunkedVideoMemory)
    chunked = model(**inputs, max_memory_bytes=9000, output_evidence=True)
    torch.testing.assert_close(chunked.logits, whole.logits, rtol=0, atol=2e-4)
    torch.testing.assert_close(chunked.evidence[0], whole.evidence[0], rtol=0, atol=1e-5)


@torch.no_grad()
def test_evidence_is_a_share_per_video_frame(
    model: Any, processor: Any, ask: Any, features: Tensor
) -> None:
    for num_frames in (3, 20):  # 3 frames are repeated to 8 in the memory
        inputs = processor(text=ask(), video_features=[features[:num_frames]])
        (share,) = model.augment(**inputs, evidence=True).evidence
        assert share.shape == (num_frames,)
        assert float(share.sum()) == pytest.approx(1.0)
        assert bool((share > 0).all())


@torch.no_grad()
def test_logits_to_keep_gives_the_last_rows_of_all(
    model: Any, processor: Any, ask: Any, features: Tensor
) -> None:
    inputs = processor(text=ask(), video_features=[features])
    logits = model(**inputs).logits
    kept = model(**inputs, logits_to_keep=2).logits
    torch.testing.assert_close(kept, logits[:, -2:], rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_question_changes_the_augmented_tokens(
    model: Any, processor: Any, ask: Any, features: Tensor
) -> None:
    inputs = processor(text=ask(), video_features=[features])
    seen = model.augment(**inputs).tokens_SD
    inputs["question_mask"] = torch.zeros_like(inputs["question_mask"])
    hidden = model.augment(**inputs).tokens_SD
    assert seen.shape == hidden.shape
    assert not torch.allclose(seen, hidden)


def test_every_parameter_that_a_text_batch_skips_still_gets_a_gradient(
    make_model: Any, processor: Any, ask: Any
) -> None:
    model = make_model().train()
    inputs = processor(text=ask(kind=None))
    loss = model(**inputs, labels=inputs["input_ids"]).loss
    loss.backward()
    without = {n for n, p in model.named_parameters() if p.grad is None}
    assert {name.split(".")[2] for name in without} <= {"post_layernorm"}


def test_checkpointing_leaves_loss_and_gradients_alone(
    make_model: Any, processor: Any, mixed: dict[str, Any]
) -> None:
    inputs = processor(**mixed)
    results = []
    for recompute in (False, True):
        model = make_model(spatial_forgetting="uniform").train()
        if recompute:
            # transformers renamed it in 5.2x; both names must work while 5.17 does
            old, new = "gradient_checkpointing_enable", "activation_checkpointing_enable"
            getattr(model, new if hasattr(model, new) else old)()
            assert model.model.gradient_checkpointing
        loss = model(**inputs, labels=inputs["input_ids"].clamp(max=20)).loss
        loss.backward()
        grads = [p.grad.norm() for p in model.parameters() if p.grad is not None]
        results.append((loss.detach(), torch.stack(grads)))
    torch.testing.assert_close(results[0], results[1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_low_precision_stays_near_float32(
    make_model: Any, processor: Any, mixed: dict[str, Any], dtype: torch.dtype
) -> None:
    inputs = processor(**mixed)
    exact = make_model()(**inputs).logits
    low = make_model().to(dtype)(**inputs).logits
    assert low.dtype == dtype
    real = inputs["attention_mask"].bool()
    error = (low.float() - exact)[real].norm() / exact[real].norm()
    assert error < (0.05 if dtype == torch.bfloat16 else 0.01)


def test_an_observer_sees_rotated_queries_and_keys(
    model: Any, processor: Any, ask: Any, features: Tensor
) -> None:
    seen: list[tuple[int, tuple[int, ...], torch.Size, torch.Size]] = []
    inputs = processor(text=[ask(), ask()], video_features=[features], memory_index=[0, 0])

    def observer(layer: int, numbers: tuple[int, ...], queries: Tensor, keys: Tensor) -> None:
        seen.append((layer, numbers, queries.shape, keys.shape))

    model(**inputs, observer=observer)
    assert [entry[:2] for entry in seen] == [(0, (0,)), (1, (0,))]
    assert seen[0][3] == (1, 2, 20 * 5, 8)


def test_features_of_another_model_are_refused(model: Any) -> None:
    with pytest.raises(ValueError, match="16 channels"):
        model.project_memory(torch.zeros(3, 4, 17))
    with pytest.raises(ValueError, match="4 cells"):
        model.project_memory(torch.zeros(3, 2, 16))


@torch.no_grad()
def test_unpooled_features_are_pooled_like_pixels(model: Any) -> None:
    pixels = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(4)) * 2 - 1
    unpooled = model.model.tower_features(pixels)
    torch.testing.assert_close(
        model.project_memory(unpooled).tokens_MD,
        model.project_memory(model.encode_video(pixels)).tokens_MD,
    )


@torch.no_grad()
def test_a_static_cache_generates_what_the_growing_one_does(
    model: Any, processor: Any, ask: Any, features: Tensor
) -> None:
    inputs = processor(
        text=[ask(), ask("is it red ?")], video_features=[features] * 2, padding_side="left"
    )
    settings = {"max_new_tokens": 3, "do_sample": False, "eos_token_id": None}
    static = model.generate(**inputs, **settings, cache_implementation="static")
    assert torch.equal(static, model.generate(**inputs, **settings))


@torch.no_grad()
def test_a_video_may_come_behind_a_cached_turn(
    model: Any, processor: Any, ask: Any, features: Tensor
) -> None:
    first = processor(text=ask(kind=None))
    second = processor(text=ask(), video_features=[features])
    cache = model(**first, use_cache=True).past_key_values
    width = first["input_ids"].shape[1] + second["input_ids"].shape[1]
    both = {"attention_mask": torch.ones(1, width, dtype=torch.long)}
    continued = model(**(dict(second) | both), past_key_values=cache).logits
    joined = dict(second) | both
    joined["input_ids"] = torch.cat([first["input_ids"], second["input_ids"]], dim=1)
    joined["question_mask"] = torch.cat(
        [torch.zeros_like(first["question_mask"]), second["question_mask"]], dim=1
    )
    whole = model(**joined).logits[:, -continued.shape[1] :]
    torch.testing.assert_close(continued, whole, rtol=0, atol=2e-4)


@torch.no_grad()
def test_a_row_without_a_question_leaves_no_evidence(
    make_model: Any, processor: Any, ask: Any, features: Tensor
) -> None:
    model = make_model(temporal_forgetting="question")
    inputs = processor(text=ask(), video_features=[features])
    inputs["question_mask"] = torch.zeros_like(inputs["question_mask"])
    assert model.augment(**inputs, evidence=True).evidence == [None]
