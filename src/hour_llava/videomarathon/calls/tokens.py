"""Tokens counted without a tokenizer: for plans, reservations and the mock server's usage.

Text: four characters a token, the usual rule for English; one token a character beyond Latin.
Pictures: one token for 28 x 28 pixels, as Qwen2.5-VL counts them. What was paid is never estimated
when the endpoint says it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hour_llava.videomarathon.calls.request import MEDIA

PIXELS_PER_TOKEN = 28 * 28
TOKENS_PER_MESSAGE = 4
UNKNOWN_IMAGE_TOKENS = 1000


def count_text(text: str) -> int:
    """Estimate the tokens of a text."""
    num_wide = sum(character > "\u2e7f" for character in text) if not text.isascii() else 0
    return math.ceil((len(text) - num_wide) / 4) + num_wide


def count_image(jpeg: bytes) -> int:
    """Estimate the tokens of a JPEG file from the size in its header."""
    size = _jpeg_size(jpeg)
    if size is None:
        return UNKNOWN_IMAGE_TOKENS
    return max(1, math.ceil(size[0] / 28) * math.ceil(size[1] / 28))


def count_messages(messages: Sequence[Mapping[str, Any]], media: Mapping[str, bytes]) -> int:
    """Estimate the tokens of a request's messages with their pictures.

    A picture that is sent twice counts twice, as it is billed; `media` holds its bytes once.
    """
    num_tokens = TOKENS_PER_MESSAGE * len(messages)
    for message in messages:
        content = message["content"]
        parts: list[Mapping[str, Any]] = (
            [{"type": "text", "text": content}] if isinstance(content, str) else content
        )
        num_tokens += sum(
            count_text(part["text"])
            if part["type"] == "text"
            else count_image(media[part["image_url"]["url"].removeprefix(MEDIA)])
            for part in parts
        )
    return num_tokens


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    place = 2
    while place + 9 < len(data) and data[place] == 0xFF:
        marker, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height = int.from_bytes(data[place + 5 : place + 7], "big")
            return int.from_bytes(data[place + 7 : place + 9], "big"), height
        place += 2 + length
    return None
