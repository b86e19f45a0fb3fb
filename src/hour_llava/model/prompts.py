"""The words around a question: ChatML, placeholders, and the line that tells a video's length."""

from __future__ import annotations

import re

IMAGE = "<image>"
VIDEO = "<video>"
PLACEHOLDER = re.compile(f"({re.escape(IMAGE)}|{re.escape(VIDEO)})")
TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"
SYSTEM = "You are a helpful assistant."

CHAT_TEMPLATE = (
    "{%- if messages[0]['role'] != 'system' -%}"
    "{{ '<|im_start|>system\\n" + SYSTEM + "<|im_end|>\\n' }}"
    "{%- endif -%}"
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{%- if message['content'] is string -%}"
    "{{ message['content'] }}"
    "{%- else -%}"
    "{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'image' -%}{{ '<image>\\n' }}"
    "{%- elif part['type'] == 'video' -%}{{ '<video>\\n' }}"
    "{%- else -%}{{ part['text'] }}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- endif -%}"
    "{{ '<|im_end|>\\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
)
"""qwen_1_5 of the released code, with pictures as parts of a message."""


def turn(role: str, text: str) -> str:
    """Write one turn of ChatML."""
    return f"{TURN_START}{role}\n{text}{TURN_END}\n"


def question_prompt(question: str) -> str:
    """Write the prompt that asks one question; its placeholders stay as they are."""
    return turn("system", SYSTEM) + turn("user", question) + f"{TURN_START}assistant\n"


def time_line(duration_seconds: float, num_frames: int) -> str:
    """Say how long a video is and how many of its frames were read, in the trained-on words.

    Source: the released streaming loader, which training used; frames before repetition.
    """
    return (
        f"The video lasts for {duration_seconds:.2f} seconds, and {num_frames} frames are "
        "uniformly sampled from it. Please answer the following questions related to this video."
    )


def insert_time_line(prompt: str, line: str) -> str:
    """Put a video's line right behind its placeholder, once."""
    if line in prompt:
        return prompt
    return re.sub(f"{re.escape(VIDEO)}\n?", lambda _: f"{VIDEO}\n{line}\n", prompt, count=1)
