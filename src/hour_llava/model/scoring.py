"""Options as open answers: how likely the model finds each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from hour_llava.model.modeling_hour_llava import HourLlavaForConditionalGeneration
from hour_llava.model.outputs import Augmented
from hour_llava.model.processing_hour_llava import HourLlavaProcessor
from hour_llava.model.prompts import TURN_END


@torch.no_grad()
def option_log_likelihoods(
    model: HourLlavaForConditionalGeneration,
    processor: HourLlavaProcessor,
    inputs: Mapping[str, Any],
    options: Sequence[str],
    *,
    augmented: Augmented | None = None,
) -> Tensor:
    """Score options as answers to one prompt: the sum of log p of their tokens and of the end.

    MemAug runs once, on the prompt alone; the language model reads all options in one batch.

    Args:
        inputs: the processor's output for one prompt that ends where the answer begins.
        options: the answers to compare.
        augmented: `model.augment(**inputs)`, where it is at hand.

    Returns:
        (n,) float32; its softmax is the options' shares.
    """
    prompt_1L = inputs["input_ids"]
    if prompt_1L.shape[0] != 1:
        raise ValueError(f"options are scored for one prompt, {prompt_1L.shape[0]} came")
    found = augmented or model.augment(**inputs)
    end = processor.tokenizer.convert_tokens_to_ids(TURN_END)
    answers = [
        [*processor.tokenizer(option, add_special_tokens=False)["input_ids"], end]
        for option in options
    ]
    width = max(len(answer) for answer in answers)
    tail = torch.tensor([answer + [end] * (width - len(answer)) for answer in answers])
    real = torch.tensor([[1] * len(a) + [0] * (width - len(a)) for a in answers])
    count, device = len(options), prompt_1L.device
    output = model(
        input_ids=torch.cat([prompt_1L.expand(count, -1), tail.to(device)], dim=1),
        attention_mask=torch.cat(
            [inputs["attention_mask"].expand(count, -1), real.to(device)], dim=1
        ),
        augmented_tokens=found.tokens_SD.repeat(count, 1),
        logits_to_keep=width + 1,
    )
    log_p = output.logits[:, :-1].float().log_softmax(-1).cpu()
    return (log_p.gather(-1, tail[..., None])[..., 0] * real).sum(-1)
