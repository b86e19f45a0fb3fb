"""Conversations; the released code's ids and labels: see tests/parity."""

from __future__ import annotations

from typing import Any

import torch

from hour_llava.data.conversation import encode_conversation, place_pictures_first


class Bytes:
    """A tokenizer of bytes, with two signs for turns."""

    def convert_tokens_to_ids(self, token: str) -> int:
        return {"<|im_start|>": 256, "<|im_end|>": 257}[token]

    def __call__(self, text: str, *, add_special_tokens: bool) -> dict[str, Any]:
        assert not add_special_tokens
        marked = text.replace("<|im_start|>", "\x01").replace("<|im_end|>", "\x02")
        return {"input_ids": [{1: 256, 2: 257}.get(b, b) for b in marked.encode()]}


def encode(conversation: list[dict[str, str]], **options: Any) -> Any:
    return encode_conversation(
        conversation, Bytes(), image_token_id=300, video_token_id=301, **options
    )


def test_answers_are_learned_questions_are_asked_and_pictures_are_neither() -> None:
    sample = encode(
        [{"from": "human", "value": "<video>\nwhy"}, {"from": "gpt", "value": "so"}],
        visual_lengths=[4],
    )
    visual = sample.ids_L == 301
    learned = sample.labels_L != -100
    assert int(visual.sum()) == 4
    assert not bool((visual & (learned | sample.question_L)).any())
    assert bool((visual | learned | sample.question_L).all())
    assert bytes(i for i in sample.ids_L[sample.question_L].tolist()).endswith(b"user\n\nwhy\n")
    answer = encode([{"from": "human", "value": "why"}]).ids_L
    assert torch.equal(sample.ids_L[-len("assistant\nso") - 3 :], sample.labels_L[-15:])
    assert answer[0] == 256


def test_only_a_lone_placeholder_is_moved() -> None:
    moved = place_pictures_first(
        [
            {"from": "human", "value": " what  is <image> "},
            {"from": "human", "value": "<image> a <image>"},
            {"from": "gpt", "value": "plain "},
        ]
    )
    assert [m["value"] for m in moved] == ["<image>\nwhat  is", "<image> a <image>", "plain "]
