"""What a small model is trained on beside its words: a module that gives the trainer its loss.

Shape letters: B rows, L sequence, V vocabulary or videos, Q questions a video, F frames, P cells,
D hidden, A attributes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hour_llava.model.modeling_hour_llava import HourLlavaForConditionalGeneration
from hour_llava.train.nano.batches import IGNORED
from hour_llava.train.nano.heads import (
    AnswerHead,
    AnsweringProbe,
    AttributeProbe,
    EvidenceObserver,
    LengthProbe,
)
from hour_llava.train.nano.naming import (
    NUM_COMPARED_BITS,
    NUM_LENGTHS,
    NUM_NAME_BITS,
    NUM_SLOTS,
    PAIR_BITS,
    PAIRS,
    Naming,
    slot_means,
)
from hour_llava.train.nano.tower import MEMORY_SIZES
from hour_llava.world.families import LADDER

LONG_ANSWER = 4
"""Words of an answer that count fully."""

PROBED_FRAMES = 100
"""About how many of a long video's frames the attribute probe reads, evenly spread."""


class Heads(nn.Module):
    """What is trained beside the model and thrown away after it."""

    def __init__(self, hidden_size: int, num_answers: int, tube_size: int) -> None:
        super().__init__()
        self.answer = AnswerHead(hidden_size, num_answers)
        self.probe = AttributeProbe(hidden_size, tube_size * sum(MEMORY_SIZES.values()))
        self.names = AttributeProbe(hidden_size, NUM_NAME_BITS)
        self.slots = AttributeProbe(hidden_size, NUM_NAME_BITS)
        self.asked = AnsweringProbe(hidden_size, NUM_SLOTS, NUM_COMPARED_BITS)
        self.pairs = AnsweringProbe(hidden_size, len(PAIRS), len(PAIR_BITS))
        self.lengths = LengthProbe(hidden_size, NUM_LENGTHS, len(LADDER))


@dataclass(frozen=True, kw_only=True)
class Weights:
    """What each loss beside that of the words counts; without evidence nobody looks at attention.

    Args:
        evidence_heads: heads of each cross-attention that are told where to look.
    """

    evidence: float = 0.7
    spread: float = 0.3
    answer: float = 1.0
    probe: float = 0.1
    names: float = 0.1
    slots: float = 0.1
    asked: float = 1.0
    pairs: float = 0.5
    lengths: float = 0.3
    evidence_heads: int = 3


@dataclass
class Tally:
    """Right answers a family, and the losses, since the last line of the log."""

    right: dict[str, int] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)
    losses: dict[str, float] = field(default_factory=dict)
    steps: int = 0

    def add(self, families: Sequence[str], is_right: Tensor, losses: Mapping[str, Tensor]) -> None:
        """Count one step."""
        for family, right in zip(families, is_right.tolist(), strict=True):
            self.right[family] = self.right.get(family, 0) + right
            self.asked[family] = self.asked.get(family, 0) + 1
        for name, loss in losses.items():
            self.losses[name] = self.losses.get(name, 0.0) + loss.item()
        self.steps += 1

    def line(self) -> str:
        """Write the means in one line."""
        losses = " ".join(f"{n} {total / self.steps:.3f}" for n, total in self.losses.items())
        mean = sum(self.right.values()) / max(1, sum(self.asked.values()))
        shares = " ".join(
            f"{family} {self.right[family] / self.asked[family]:.2f}"
            for family in sorted(self.asked)
        )
        return f"{losses} right {mean:.3f} | {shares}"


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What the trainer gets: the weighted loss, and each by its name."""

    loss: Tensor
    losses: dict[str, Tensor]


class NanoObjective(nn.Module):
    """A model and the heads that exist in training only.

    Args:
        model: its tower is frozen: it reads features.
        heads: trained along, but those of weight 0.
        weights: of the losses.
    """

    accepts_loss_kwargs = False
    """The loss is a mean over rows, and every rank has as many."""

    def __init__(
        self, model: HourLlavaForConditionalGeneration, heads: Heads, weights: Weights
    ) -> None:
        super().__init__()
        self.model, self.weights = model, weights
        used = {name: head for name, head in heads.named_children() if getattr(weights, name)}
        self.heads = nn.ModuleDict(used)
        self.tally = Tally()

    def forward(
        self,
        *,
        labels: Tensor,
        answers: Tensor,
        naming: Naming,
        attributes: Tensor,
        families: list[str],
        **inputs: Any,
    ) -> Scored:
        """Run one batch; see `batches.Batch.arguments`."""
        weights, observer = self.weights, None
        if weights.evidence:
            observer = EvidenceObserver(
                list(naming.spans_VQF), naming.span_of_row, num_heads=weights.evidence_heads
            )
        with _inner_outputs(self.model) as inner:
            output = self.model(**inputs, observer=observer, use_cache=False)
        words, is_right = word_loss(output.logits, labels)
        augmented_BSD = output.augmented_tokens.unflatten(0, (len(words), -1))
        every = math.ceil(naming.spans_VQF.shape[-1] / PROBED_FRAMES)
        cells_VFPD = torch.stack([memory[::every, :-1] for memory in output.memory_tokens])
        named_ND = inner["memaug"][naming.rows_N] if "memaug" in inner else augmented_BSD[:0, 0]
        slots_ND = slot_means(augmented_BSD)[naming.questions_N, naming.slots_N]
        arguments = {
            "answer": (augmented_BSD, answers),
            "probe": (cells_VFPD, attributes[:, ::every]),
            "names": (named_ND, naming.bits_NA[: len(named_ND)]),
            "slots": (slots_ND, naming.bits_NA),
        } | _of_answering_token(inner, labels, naming)
        losses = {"words": words.mean()}
        losses |= {name: head(*arguments[name]) for name, head in self.heads.items()}
        if observer is not None:
            num_layers = self.model.config.memaug_num_layers
            losses |= {
                "evidence": observer.loss(num_layers),
                "spread": observer.spread_loss(num_layers),
            }
        total = losses["words"]
        for name, loss in losses.items():
            if name != "words":
                total = total + getattr(weights, name) * loss
        self.tally.add(families, is_right, losses)
        return Scored(loss=total, losses=losses)


def _of_answering_token(
    inner: Mapping[str, Tensor], labels_BL: Tensor, naming: Naming
) -> dict[str, tuple[Tensor, ...]]:
    """Say what is read of the token at which the language model begins to answer."""
    rows_B = torch.arange(len(labels_BL))
    mark_B = (labels_BL != IGNORED).int().argmax(-1) - 1
    before_last_BD, last_BD = (inner[name][rows_B, mark_B] for name in ("before_last", "last"))
    slots = naming.questions_N, naming.slots_N
    return {
        "asked": (before_last_BD, *slots, naming.compared_bits()),
        "pairs": (last_BD, *naming.pairs()),
        "lengths": (last_BD, *naming.lengths()),
    }


@contextmanager
def _inner_outputs(model: HourLlavaForConditionalGeneration) -> Iterator[dict[str, Tensor]]:
    """Keep what inner layers give in a forward.

    Gives:
        memaug: of MemAug's first block, if there is one, packed rows (N, D); before_last, last: of
        the language model's layers (B, L, D).
    """
    kept: dict[str, Tensor] = {}
    words = model.model.language_model.layers
    wanted = [("before_last", words[max(0, len(words) - 2)]), ("last", words[-1])]
    wanted += [("memaug", layer) for layer in model.model.memaug.layers[:1]]

    def keep(name: str, _layer: nn.Module, _inputs: Any, output: Tensor) -> None:
        kept[name] = output

    hooks = [layer.register_forward_hook(partial(keep, name)) for name, layer in wanted]
    try:
        yield kept
    finally:
        for hook in hooks:
            hook.remove()


def word_loss(logits_BLV: Tensor, labels_BL: Tensor) -> tuple[Tensor, Tensor]:
    """Sum the cross-entropy of each row's answer words; the end mark is one.

    Not their mean: the first word decides, and the sure end mark would halve its weight. Lists
    count no more than `LONG_ANSWER` words.

    Returns:
        Loss (B,), and whether the most likely words are the answer (B,): greedy generation would
        say just that.
    """
    shifted, labels = logits_BLV[:, :-1], labels_BL[:, 1:]
    losses = F.cross_entropy(
        shifted.transpose(1, 2), labels, ignore_index=IGNORED, reduction="none"
    )
    is_right = ((shifted.argmax(-1) == labels) | (labels == IGNORED)).all(-1)
    num_words = (labels != IGNORED).sum(-1)
    return losses.sum(-1) * (LONG_ANSWER / num_words).clamp(max=1), is_right
