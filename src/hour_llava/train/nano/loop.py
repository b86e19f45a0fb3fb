"""The training loop of small models: a curriculum over clip lengths, three losses beside the words.

Short clips first: attention finds the evidence among a hundred tokens within minutes and keeps
finding it in clips twelve times longer; started on long ones it finds nothing (design/nano.md).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hour_llava.model.modeling_hour_llava import HourLlavaForConditionalGeneration, HourLlavaOutput
from hour_llava.train.nano.bank import TokenGroup
from hour_llava.train.nano.batches import IGNORED, Batch, Composer, draw_questions
from hour_llava.train.nano.heads import AnswerHead, AttributeProbe, EvidenceObserver
from hour_llava.train.nano.scratch import hold_clock_time_out
from hour_llava.train.nano.splice import VideoSample
from hour_llava.train.nano.team import Team
from hour_llava.train.nano.tower import ATTRIBUTE_SIZES, cosine_rate

LONG_ANSWER = 4
"""Words of an answer that count fully."""

PROBED_FRAMES = 600
"""About how many of a long video's frames the attribute probe reads, evenly spread."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Some steps on videos of some lengths.

    Args:
        num_steps: how many.
        seconds: the shortest and the longest; each doubling between them comes equally often.
    """

    num_steps: int
    seconds: tuple[int, int]

    def draw_seconds(self, rng: Random) -> int:
        """Draw the length of a step's videos."""
        shortest, longest = self.seconds
        return round(shortest * (longest / shortest) ** rng.random())


@dataclass(frozen=True, kw_only=True)
class LoopSettings:
    """How MemAug and the language model are trained on frozen features.

    Args:
        stages: the curriculum, in order.
        num_videos: a step; fewer where they would have more than `max_frames` together.
        num_rows: questions a step, of all videos; at most `max_questions` of one video.
        noise: standard deviation added to the features, as a share of theirs.
        families: what is asked, one named twice twice as often; empty: all equally often.
        evidence_heads: heads of each cross-attention that are told where to look.
        is_clock_held: the features of clock time stay as they are.
    """

    stages: tuple[Stage, ...]
    learning_rate: float = 2.5e-3
    warm_up_steps: int = 100
    weight_decay: float = 0.01
    num_videos: int = 8
    num_rows: int = 64
    max_frames: int = 3600
    max_questions: int = 24
    noise: float = 0.1
    evidence_heads: int = 3
    evidence_weight: float = 0.7
    spread_weight: float = 0.3
    answer_weight: float = 1.0
    probe_weight: float = 0.1
    families: tuple[str, ...] = ()
    is_clock_held: bool = False
    seed: int = 0
    log_every: int = 50

    @property
    def num_steps(self) -> int:
        """Count the steps of all stages."""
        return sum(stage.num_steps for stage in self.stages)

    def videos_of(self, seconds: int, team_size: int) -> int:
        """Count one process's videos of a step on videos of a length."""
        return max(1, min(self.num_videos, self.max_frames // seconds) // team_size)

    def questions_of(self, seconds: int, team_size: int) -> int:
        """Count the questions a video of a step on videos of a length."""
        num_videos = team_size * self.videos_of(seconds, team_size)
        return min(self.max_questions, self.num_rows // num_videos)

    def stage_of(self, step: int) -> Stage:
        """Give the stage that a step belongs to."""
        for stage in self.stages:
            if step < stage.num_steps:
                return stage
            step -= stage.num_steps
        return self.stages[-1]


class Heads(nn.Module):
    """What is trained beside the model and thrown away after it."""

    def __init__(self, hidden_size: int, num_answers: int, tube_size: int) -> None:
        super().__init__()
        self.answer = AnswerHead(hidden_size, num_answers)
        self.probe = AttributeProbe(hidden_size, tube_size * sum(ATTRIBUTE_SIZES.values()))


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


def step_losses(
    model: HourLlavaForConditionalGeneration, heads: Heads, batch: Batch, settings: LoopSettings
) -> tuple[dict[str, Tensor], Tensor]:
    """Run one batch.

    Returns:
        The losses (words, evidence, spread, answer, probe), and whether each row's answer is
        right (B,).
    """
    observer = EvidenceObserver(
        list(batch.spans_VQF),
        batch.rows_VQ,
        num_heads=settings.evidence_heads,
    )
    output = model(**batch.inputs, observer=observer, use_cache=False)
    words, is_right = word_loss(output.logits, batch.labels_BL)
    assert output.augmented_tokens is not None and batch.attributes_VFPA is not None
    augmented_BSD = output.augmented_tokens.unflatten(0, (len(words), -1))
    every = math.ceil(batch.spans_VQF.shape[-1] / PROBED_FRAMES)
    cells_VFPD = torch.stack([memory[::every, :-1] for memory in output.memory_tokens])
    losses = {
        "words": words.mean(),
        "evidence": observer.loss(model.config.memaug_num_layers),
        "spread": observer.spread_loss(model.config.memaug_num_layers),
        "answer": heads.answer(augmented_BSD, batch.answers_B),
        "probe": heads.probe(cells_VFPD, batch.attributes_VFPA[:, ::every]),
    }
    return losses, is_right


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


def train_on_features(
    model: HourLlavaForConditionalGeneration,
    heads: Heads,
    composer: Composer,
    videos: Callable[[int, int, Random], Sequence[VideoSample]],
    settings: LoopSettings,
    *,
    noise: float,
    team: Team,
    log: Callable[[str], None],
) -> None:
    """Train all but the tower.

    Args:
        model: with its tower frozen.
        heads: trained along.
        composer: makes the batches.
        videos: (seconds, how many, random numbers) to videos.
        settings: the schedule; its steps' videos are shared out among the team.
        noise: standard deviation of what is added to the features.
        team: the processes that train together.
        log: takes one line at a time.
    """
    torch.manual_seed(settings.seed + team.rank)
    rng, lengths = Random(f"{settings.seed} {team.rank}"), Random(settings.seed)
    parameters = [p for p in (*model.parameters(), *heads.parameters()) if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=1.0, betas=(0.9, 0.98), weight_decay=settings.weight_decay, fused=True
    )
    weights = {"words": 1.0, "evidence": settings.evidence_weight}
    weights |= {"spread": settings.spread_weight, "answer": settings.answer_weight}
    weights |= {"probe": settings.probe_weight}
    times = model.model.memory_maker.time_features
    held = hold_clock_time_out(times) if settings.is_clock_held and times is not None else None
    tally, started = Tally(), time.monotonic()
    model.train()
    for step in range(settings.num_steps):
        rate = cosine_rate(step, settings.num_steps, settings.learning_rate, settings.warm_up_steps)
        for parameter_group in optimizer.param_groups:
            parameter_group["lr"] = rate
        seconds = settings.stage_of(step).draw_seconds(lengths)
        count = settings.videos_of(seconds, team.size)
        batch = composer.draw(
            videos(seconds, count, rng),
            rng,
            num_questions=settings.questions_of(seconds, team.size),
            noise=noise,
            families=settings.families,
        )
        losses, is_right = step_losses(model, heads, batch, settings)
        optimizer.zero_grad()
        torch.stack([weights[name] * loss for name, loss in losses.items()]).sum().backward()
        team.average_gradients(parameters)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        tally.add(batch.families, is_right, losses)
        if (step + 1) % settings.log_every == 0:
            minutes = (time.monotonic() - started) / 60
            log(f"{minutes:.1f} min step {step + 1} {seconds} s {tally.line()}")
            tally = Tally()
    if held is not None:
        held.remove()
    model.eval()


def measure(
    model: HourLlavaForConditionalGeneration,
    composer: Composer,
    group: TokenGroup,
    *,
    questions_per_video: int,
    seed: int = 0,
) -> Tally:
    """Ask questions of clips and count right answers, greedy and exact."""
    rng, tally = Random(seed), Tally()
    model.eval()
    for features, timeline in zip(group.features_NFPD, group.timelines, strict=True):
        questions = draw_questions(timeline, questions_per_video, composer.families, rng)
        batch = composer.compose([features.float()], [questions])
        with torch.no_grad():
            output: HourLlavaOutput = model(**batch.inputs, use_cache=False)
        assert output.logits is not None
        words, is_right = word_loss(output.logits, batch.labels_BL)
        tally.add(batch.families, is_right, {"words": words.mean()})
    return tally
