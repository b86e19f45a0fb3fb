"""How much of a RAM budget is left for a video's memory while a question is answered."""

from __future__ import annotations

from typing import Any

import psutil

from hour_llava.errors import ResourceError
from hour_llava.memory.plan import DEFAULT_CHUNK_TOKENS
from hour_llava.memory.repository import MemoryRepository

_MIN_CHUNK_FRAMES = 32
_COPIES = 6  # features, hidden layer, tokens, keys, values and one to spare live at the same time


def memory_bytes_within(
    max_memory: int, model: Any, memory: MemoryRepository, num_tokens: int
) -> int:
    """Return the bytes that the projected memory may take so that the process stays in its budget.

    Args:
        max_memory: bytes of RAM that the process may take, model and libraries included.
        model: the loaded model.
        memory: that is asked.
        num_tokens: length of the prompt.

    Raises:
        ResourceError: not even the smallest chunk fits; given and needed bytes are named.
    """
    used = psutil.Process().memory_info().rss
    work = _working_bytes(model, memory, num_tokens)
    chunk = _COPIES * _MIN_CHUNK_FRAMES * _frame_bytes(model)
    left = max_memory - used - work
    if left < chunk:
        raise ResourceError(
            f"--max-memory {_mb(max_memory)} is too small: the program and its model hold "
            f"{_mb(used)}, and answering takes at least {_mb(work + chunk)} more; "
            f"give at least {_mb(used + work + chunk)}"
        )
    return left


def _working_bytes(model: Any, memory: MemoryRepository, num_tokens: int) -> int:
    """Estimate what MemAug and the language model hold for one prompt, at their widest."""
    text = model.config.text_config
    width, heads = text.hidden_size, text.num_attention_heads
    kv_width = width * text.num_key_value_heads // heads
    size = model.lm_head.weight.element_size()
    cache = 2 * text.num_hidden_layers * kv_width
    activations = 12 * width + 3 * max(text.intermediate_size, 4 * width)
    chunk_tokens = min(DEFAULT_CHUNK_TOKENS, memory.num_frames * (memory.tokens_per_frame + 1))
    chunk = chunk_tokens * (2 * width + 4 * kv_width)
    evidence = 2 * 8 * heads * memory.num_frames * 32  # about 32 rows of text, float32 and float64
    return size * (num_tokens * (cache + activations) + chunk + 4 * text.vocab_size) + evidence


def _frame_bytes(model: Any) -> int:
    width = model.config.text_config.hidden_size
    return (model.config.num_cells + 1) * width * model.lm_head.weight.element_size()


def _mb(num_bytes: int) -> str:
    return f"{-(-num_bytes // 10**6):,} MB"
