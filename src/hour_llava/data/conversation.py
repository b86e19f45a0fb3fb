"""Conversations to ids, labels, and the mask of what MemAug sees: pure functions.

Source: the released code's `preprocess_qwen`. Every assistant turn is learned whole, its header
included; besides, the ids 198 (a newline in Qwen's vocabulary), turn start and turn end are learned
wherever they stand, and what is learned is no query of MemAug. At inference they are queries: a
built-in mismatch of the released code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hour_llava.model.prompts import IMAGE, PLACEHOLDER, SYSTEM, TURN_END, TURN_START, VIDEO, turn

IGNORED = -100
RELEASED_NEWLINE_ID = 198
ROLES = {"human": "user", "gpt": "assistant"}


@dataclass(frozen=True, kw_only=True)
class EncodedConversation:
    """One training sample, placeholders expanded.

    Args:
        ids_L: token ids.
        labels_L: ids to learn, -100 elsewhere.
        question_L: the text MemAug sees.
    """

    ids_L: Tensor
    labels_L: Tensor
    question_L: Tensor


def place_pictures_first(conversation: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Move a turn's only placeholder to its front; turns with several stay as they are."""
    moved: list[dict[str, str]] = []
    for message in conversation:
        text = message["value"]
        found = PLACEHOLDER.findall(text)
        if len(found) == 1:
            text = f"{found[0]}\n{text.replace(found[0], '').strip()}".strip()
        moved.append({**message, "value": text})
    return moved


def encode_conversation(
    conversation: Sequence[Mapping[str, str]],
    tokenizer: Any,
    *,
    image_token_id: int,
    video_token_id: int,
    visual_lengths: Sequence[int] | None = None,
    system: str = SYSTEM,
) -> EncodedConversation:
    """Encode a conversation of {"from": "human" | "gpt", "value": text} messages.

    A leading message that is not the human's is dropped, as released.

    Args:
        tokenizer: any; placeholders are cut out before it sees the text.
        image_token_id: stands for each kept token of an image.
        video_token_id: of a video.
        visual_lengths: kept tokens of each placeholder in reading order; None: one each.
        system: text of the system turn.
    """
    messages = list(conversation)
    if messages and ROLES.get(messages[0]["from"], messages[0]["from"]) != "user":
        messages = messages[1:]
    turns = [("system", system)]
    turns += [(ROLES.get(m["from"], m["from"]), m["value"]) for m in messages]
    lengths = None if visual_lengths is None else iter(visual_lengths)
    tokens = {IMAGE: image_token_id, VIDEO: video_token_id}
    ids: list[int] = []
    is_answer: list[bool] = []
    for role, text in turns:
        own: list[int] = []
        for part in PLACEHOLDER.split(turn(role, text)):
            if part in tokens:
                own += [tokens[part]] * (1 if lengths is None else next(lengths))
            elif part:
                own += tokenizer(part, add_special_tokens=False)["input_ids"]
        ids += own
        is_answer += [role == "assistant"] * len(own)
    ids_L, answer_L = torch.tensor(ids), torch.tensor(is_answer)
    visual_L = torch.isin(ids_L, torch.tensor([image_token_id, video_token_id]))
    learned_L = (answer_L | torch.isin(ids_L, format_ids(tokenizer))) & ~visual_L
    return EncodedConversation(
        ids_L=ids_L,
        labels_L=ids_L.masked_fill(~learned_L, IGNORED),
        question_L=~learned_L & ~visual_L,
    )


def format_ids(tokenizer: Any) -> Tensor:
    """Name the ids that are learned wherever they stand."""
    return torch.tensor(
        [RELEASED_NEWLINE_ID, *(tokenizer.convert_tokens_to_ids(t) for t in (TURN_START, TURN_END))]
    )
