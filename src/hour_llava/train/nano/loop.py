"""Training MemAug and the language model on frozen features, and asking what they learned."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import torch

from hour_llava.model.modeling_hour_llava import HourLlavaForConditionalGeneration, HourLlavaOutput
from hour_llava.train.nano.bank import TokenGroup
from hour_llava.train.nano.batches import Composer, draw_questions
from hour_llava.train.nano.lessons import (
    EveryFewSteps,
    LoopSettings,
    MakeVideos,
    VideoLessons,
    order_of,
    train_stage,
)
from hour_llava.train.nano.objective import Heads, NanoObjective, Tally, word_loss
from hour_llava.train.nano.scratch import hold_clock_time_out
from hour_llava.train.nano.team import Team
from hour_llava.train.nano.tower import FrameLessons, TowerObjective
from hour_llava.train.parts import freeze


def train_tower(
    objective: TowerObjective,
    lessons: FrameLessons,
    *,
    out: Path,
    team: Team,
    log: Callable[[str], None],
) -> None:
    """Train a tower on single frames, or go on where a run before stood.

    Args:
        out: takes the checkpoints.
        team: the processes that train together.
        log: takes one line at a time.
    """
    settings = lessons.settings

    def tell(step: int) -> None:
        shown = " ".join(f"{name} {mean:.3f}" for name, mean in objective.means().items())
        log(f"tower step {step} {shown}")

    train_stage(
        objective,
        lessons,
        out=out,
        num_steps=settings.num_steps,
        learning_rates={"vision": settings.learning_rate},
        warm_up_steps=settings.warm_up_steps,
        weight_decay=settings.weight_decay,
        order=order_of(settings, team),
        team=team,
        seed=settings.seed,
        save_every=settings.save_every,
        callbacks=[EveryFewSteps(settings.log_every, tell)],
    )


def train_on_features(
    model: HourLlavaForConditionalGeneration,
    heads: Heads,
    composer: Composer,
    videos: MakeVideos,
    settings: LoopSettings,
    *,
    out: Path,
    noise: float,
    team: Team,
    log: Callable[[str], None],
) -> None:
    """Train all but the tower, or go on where a run before stood.

    Args:
        model: with its tower trained.
        heads: trained along.
        composer: makes the batches.
        videos: makes them.
        settings: the schedule; its steps' videos are shared out among the team.
        out: takes the checkpoints.
        noise: standard deviation of what is added to the features.
        team: the processes that train together.
        log: takes one line at a time.
    """
    objective = NanoObjective(model, heads, settings.weights)
    lessons = VideoLessons(
        composer=composer, videos=videos, settings=settings, noise=noise, team_size=team.size
    )
    parts = ["projector", "language_model"]
    if model.config.memaug_num_layers:
        parts.append("memaug")
    freeze(objective, dict.fromkeys(parts, settings.learning_rate))
    times = model.model.memory_maker.time_features
    held = hold_clock_time_out(times) if settings.is_clock_held and times is not None else None
    started = time.monotonic()

    def tell(step: int) -> None:
        log(f"{(time.monotonic() - started) / 60:.1f} min step {step} {objective.tally.line()}")
        objective.tally = Tally()

    train_stage(
        objective,
        lessons,
        out=out,
        num_steps=settings.num_steps,
        learning_rates=dict.fromkeys(parts, settings.learning_rate),
        warm_up_steps=settings.warm_up_steps,
        weight_decay=settings.weight_decay,
        order=order_of(settings, team),
        team=team,
        seed=settings.seed,
        save_every=settings.save_every,
        last_rate=settings.last_rate,
        callbacks=[EveryFewSteps(settings.log_every, tell)],
    )
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
