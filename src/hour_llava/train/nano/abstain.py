"""When a small model should say that it does not know: a threshold measured on held-out clips.

Shape letters: F frames, B rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import torch
from torch import Tensor

from hour_llava.model.modeling_hour_llava import HourLlavaForConditionalGeneration
from hour_llava.train.nano.bank import TokenGroup
from hour_llava.train.nano.batches import IGNORED, Batch, Composer, draw_questions
from hour_llava.world.questions import Question


@torch.no_grad()
def confidences(
    model: HourLlavaForConditionalGeneration,
    composer: Composer,
    features: Tensor,
    questions: Sequence[Question],
) -> tuple[Tensor, Tensor]:
    """Answer questions of one video and say how sure the model is, as `Answer.confidence` does.

    Returns: (B,) geometric means of the probabilities of what it says, and (B,) bool: is it right.
    """
    batch = composer.compose([features], [questions])
    is_prompt = (batch.labels_BL == IGNORED) & (batch.inputs["attention_mask"] > 0)
    said = []
    for row, prompt in enumerate(is_prompt):
        ids = batch.inputs["input_ids"][row][prompt][None]
        output = model.generate(  # pyright: ignore[reportAttributeAccessIssue]
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            question_mask=ids != composer.config.video_token_id,
            video_features=[features],
            do_sample=False,
            max_new_tokens=20,
        )
        words = output[0, ids.shape[1] :]
        said.append(str(composer.tokenizer.decode(words, skip_special_tokens=True)).strip())
    told = composer.compose([features], [questions], answers=said)
    right = [text == question.answer for text, question in zip(said, questions, strict=True)]
    return _mean_probability(model, told), torch.tensor(right)


def _mean_probability(model: HourLlavaForConditionalGeneration, batch: Batch) -> Tensor:
    logits = model(**batch.inputs, use_cache=False).logits[:, :-1].log_softmax(-1)
    labels = batch.labels_BL[:, 1:]
    counts = labels != IGNORED
    log_p = logits.gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    return ((log_p * counts).sum(-1) / counts.sum(-1)).exp()


def find_threshold(
    model: HourLlavaForConditionalGeneration,
    composer: Composer,
    groups: Sequence[TokenGroup],
    foreign: Sequence[Tensor],
    *,
    keep: float = 0.99,
) -> tuple[float, float, float]:
    """Find the confidence below which nothing should be answered.

    Args:
        groups: held-out clips of the model's own world.
        foreign: features of videos of other worlds.
        keep: share of the right answers that must still be given.

    Returns:
        The threshold, and the shares of wrong and of foreign answers that fall below it.
    """
    rng = Random(0)
    own = [
        confidences(
            model, composer, features.float(), draw_questions(timeline, 22, composer.families, rng)
        )
        for group in groups
        for features, timeline in zip(group.features_NFPD, group.timelines, strict=True)
    ]
    sure, right = (torch.cat(parts) for parts in zip(*own, strict=True))
    threshold = float(sure[right].quantile(1 - keep)) if right.any() else 0.0
    timeline = groups[-1].timelines[0]
    strange = [
        confidences(
            model, composer, features, draw_questions(timeline, 22, composer.families, rng)
        )[0]
        for features in foreign
    ]
    wrong_below = (sure[~right] < threshold).float().mean().item()
    return threshold, wrong_below, (torch.cat(strange) < threshold).float().mean().item()
