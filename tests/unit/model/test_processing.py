"""Placeholders, the question mask, seeds, and pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from hour_llava.model.image_processing_hour_llava import HourLlavaImageProcessor
from hour_llava.model.processing_hour_llava import HourLlavaProcessor
from hour_llava.model.prompts import question_prompt, time_line
from hour_llava.model.scoring import option_log_likelihoods
from hour_llava.model.video_processing_hour_llava import HourLlavaVideoProcessor


def test_answers_are_hidden_from_memaug_and_questions_are_not(
    processor: Any, tokenizer: Any
) -> None:
    messages = [
        {"role": "user", "content": "what is red ?"},
        {"role": "assistant", "content": "the ring ."},
        {"role": "user", "content": "what is blue ?"},
    ]
    prompt = processor.apply_chat_template(messages, add_generation_prompt=True)
    ids, mask = processor.encode(prompt, [])
    seen = tokenizer.decode(ids[mask])
    hidden = tokenizer.decode(ids[~mask])
    assert "red" in seen and "blue" in seen and "helpful" in seen
    assert hidden == "<|im_start|> assistant the ring . <|im_end|>"
    assert bool(mask[-2:].all()), "the opening of the coming answer belongs to the question"


def test_seeds_depend_on_content_and_seed_and_not_on_the_batch(
    processor: Any, ask: Any, features: torch.Tensor
) -> None:
    one = processor(text=ask(), video_features=[features])["forgetting_seeds"]
    batch = processor(text=[ask(kind=None), ask()], video_features=[features])["forgetting_seeds"]
    assert one[0] == batch[1]
    other = processor(text=ask(), video_features=[features + 1])["forgetting_seeds"]
    reseeded = processor(text=ask(), video_features=[features], seed=1)["forgetting_seeds"]
    assert len({int(one[0]), int(other[0]), int(reseeded[0])}) == 3


def test_the_time_line_stands_behind_the_video(
    make_config: Any, tokenizer: Any, ask: Any, features: torch.Tensor
) -> None:
    line = time_line(12.5, 12)
    assert line.startswith("The video lasts for 12.50 seconds, and 12 frames are uniformly sampled")
    own = HourLlavaProcessor.from_config(make_config(time_instruction=True), tokenizer)
    with_line = own(text=ask(), video_features=[features], durations_seconds=[1.0])
    by_hand = ask().replace("<video>\n", f"<video>\n{time_line(1.0, 20)}\n")
    again = own(text=by_hand, video_features=[features], durations_seconds=[1.0])
    assert torch.equal(with_line["input_ids"], again["input_ids"])
    assert with_line["input_ids"].shape[1] > own.encode(ask(), [0])[0].shape[0]


def test_pictures_that_do_not_fit_the_prompts_are_counted(
    processor: Any, ask: Any, features: torch.Tensor
) -> None:
    with pytest.raises(ValueError, match="1 videos, but 0 came"):
        processor(text=ask())
    with pytest.raises(ValueError, match="2 videos; one prompt"):
        processor(text="<video> <video>", video_features=[features, features])
    with pytest.raises(ValueError, match="1 images came for 0"):
        processor(text="what", images=[Image.new("RGB", (4, 4))])


def test_the_chat_template_is_chatml_and_the_processor_is_saved_whole(
    processor: Any, ask: Any, tmp_path: Any
) -> None:
    assert ask(kind=None) == question_prompt("what colour is the ring ?")
    processor.save_pretrained(tmp_path)
    loaded = HourLlavaProcessor.from_pretrained(tmp_path)
    assert loaded.to_dict() == processor.to_dict()
    assert loaded.chat_template == processor.chat_template


def test_frames_of_any_size_are_resized_as_pillow_does_within_one_step() -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (2, 90, 160, 3), dtype=np.uint8)
    ours = HourLlavaVideoProcessor(38)(frames)
    pillow = HourLlavaImageProcessor(38, [])
    exact = torch.cat([pillow.squeezed(frame) for frame in frames])
    assert ours.shape == (2, 3, 38, 38)
    assert float((ours - exact).abs().max()) <= 1 / 127.5 + 1e-6
    assert torch.equal(HourLlavaVideoProcessor(38)(list(frames)), ours)
    with pytest.raises(ValueError, match="uint8"):
        HourLlavaVideoProcessor(38)(frames.astype(np.float32))


@torch.no_grad()
def test_likelihoods_of_options_are_sums_over_their_tokens(
    model: Any, processor: Any, ask: Any, features: torch.Tensor, tokenizer: Any
) -> None:
    inputs = processor(text=ask(), video_features=[features])
    options = ["red", "blue ring .", "1"]
    scores = option_log_likelihoods(model, processor, inputs, options)
    for option, score in zip(options, scores, strict=True):
        answer = torch.tensor([[*tokenizer(option)["input_ids"], 3]])
        whole = dict(inputs) | {"input_ids": torch.cat([inputs["input_ids"], answer], dim=1)}
        whole["attention_mask"] = torch.ones_like(whole["input_ids"])
        log_p = model(**whole).logits[0, -answer.shape[1] - 1 : -1].log_softmax(-1)
        assert float(score) == pytest.approx(float(log_p.gather(1, answer.T).sum()), abs=1e-3)


@pytest.mark.parametrize("given", ["talk.mp4", ["talk.mp4"], Path("talk.mp4")])
def test_a_path_is_not_taken_for_frames(given: Any) -> None:
    with pytest.raises(ValueError, match=r"talk\.mp4 is a path.*read_frames"):
        HourLlavaVideoProcessor(16)(given)


def test_a_chat_that_names_a_video_by_path_is_told_what_to_do(processor: Any) -> None:
    content = [{"type": "video", "path": "talk.mp4"}, {"type": "text", "text": "what is red ?"}]
    messages = [{"role": "user", "content": content}]
    with pytest.raises(ValueError, match=r"talk\.mp4 is a path.*read_frames"):
        processor.apply_chat_template(messages, tokenize=True, return_dict=True)
