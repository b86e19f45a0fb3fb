"""Nano's three stages for the common trainer: every step's batch is made when it is needed.

A batch is a pure function of (seed, step, rank), so a run that goes on sees what it would have
seen. Short videos first: attention finds the evidence among a hundred tokens within minutes and
keeps finding it in videos twelve times longer; started on long ones it finds nothing
(docs/log.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any, Protocol

from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hour_llava.errors import CheckpointError
from hour_llava.train.checkpoint import last_checkpoint
from hour_llava.train.config import WatchConfig
from hour_llava.train.material import Material
from hour_llava.train.nano.batches import Composer
from hour_llava.train.nano.objective import Weights
from hour_llava.train.nano.splice import VideoSample
from hour_llava.train.nano.team import Team
from hour_llava.train.parts import freeze
from hour_llava.train.trainer import HourLlavaTrainer
from hour_llava.train.watching import callbacks as watching

Key = tuple[int, int]
"""(step, rank)."""


class MakeVideos(Protocol):
    """What makes videos: `Scrapbook.videos`."""

    def __call__(
        self, seconds: int, count: int, rng: Random, *, num_frames: int | None = None
    ) -> Sequence[VideoSample]:
        """Make some videos of a length, of each so many frames."""
        ...


DEFAULT_WEIGHTS = Weights()
SPEAK_EVERY = 100
"""Steps between lines on stderr, where it is no terminal."""
LAST_RATE = 0.03
"""Of the peak: where the cosine ends, unless more follows."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Some steps on videos of some lengths.

    Args:
        num_steps: how many.
        seconds: the shortest and the longest; each doubling between them comes equally often.
        most_frames: of longer videos only so many frames are kept: what can be asked about, and of
            the rest short runs. Hours then cost what minutes do.
    """

    num_steps: int
    seconds: tuple[int, int]
    most_frames: int | None = None

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
        families: what is asked, one named twice twice as often; empty: all equally often.
        is_clock_held: the features of clock time stay as they are.
        last_rate: of the peak, where the cosine ends; what another loop goes on from stays high.
        save_every: steps between checkpoints.
    """

    stages: tuple[Stage, ...]
    learning_rate: float = 2.5e-3
    warm_up_steps: int = 100
    weight_decay: float = 0.01
    num_videos: int = 8
    num_rows: int = 96
    max_frames: int = 3600
    max_questions: int = 24
    weights: Weights = DEFAULT_WEIGHTS
    families: tuple[str, ...] = ()
    is_clock_held: bool = False
    last_rate: float = LAST_RATE
    seed: int = 0
    log_every: int = 50
    save_every: int = 500

    @property
    def num_steps(self) -> int:
        """Count the steps of all stages."""
        return sum(stage.num_steps for stage in self.stages)

    def videos_of(self, num_frames: int, team_size: int) -> int:
        """Count one process's videos of a step on videos of so many frames."""
        return max(1, min(self.num_videos, self.max_frames // num_frames) // team_size)

    def questions_of(self, num_frames: int, team_size: int) -> int:
        """Count the questions a video of a step on videos of so many frames."""
        num_videos = team_size * self.videos_of(num_frames, team_size)
        return min(self.max_questions, self.num_rows // num_videos)

    def stage_of(self, step: int) -> Stage:
        """Give the stage that a step belongs to."""
        for stage in self.stages:
            if step < stage.num_steps:
                return stage
            step -= stage.num_steps
        return self.stages[-1]


@dataclass(frozen=True, kw_only=True)
class VideoLessons:
    """Batches of questions about videos that never were.

    Args:
        composer: lays out the rows.
        videos: makes them.
        noise: standard deviation of what is added to the features.
        team_size: processes that share a step's videos.
    """

    composer: Composer
    videos: MakeVideos
    settings: LoopSettings
    noise: float
    team_size: int

    def __getitem__(self, key: Key) -> dict[str, Any]:
        step, rank = key
        settings = self.settings
        rng = Random(f"{settings.seed} {step} {rank}")
        stage = settings.stage_of(step)
        seconds = stage.draw_seconds(Random(f"{settings.seed} {step}"))
        num_frames = min(seconds, stage.most_frames or seconds)
        count = settings.videos_of(num_frames, self.team_size)
        batch = self.composer.draw(
            self.videos(seconds, count, rng, num_frames=num_frames),
            rng,
            num_questions=settings.questions_of(num_frames, self.team_size),
            noise=self.noise,
            families=settings.families,
        )
        return batch.arguments() | {"sample_ids": [f"seed {settings.seed} step {step} rank {rank}"]}


class StepSampler:
    """Gives each rank one batch a step: a "sample" is a step, of all ranks.

    Args:
        order: what the batches depend on; a run goes on with the same alone.
    """

    accumulation_steps = 1

    def __init__(self, num_steps: int, rank: int, order: str) -> None:
        self.num_steps, self.rank, self.order = num_steps, rank, order
        self.num_consumed = 0

    def __len__(self) -> int:
        return self.num_steps

    def __iter__(self) -> Iterator[list[Key]]:
        for step in range(self.num_consumed, self.num_steps):
            yield [(step, self.rank)]

    def seek(self, num_consumed: int) -> None:
        """Go on behind so many steps."""
        self.num_consumed = num_consumed

    def state_dict(self) -> dict[str, Any]:
        """Say where the run stands, and in which order."""
        return {"num_consumed": self.num_consumed, "order": self.order}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where a run stood.

        Raises:
            CheckpointError: it had other settings.
        """
        if state["order"] != self.order:
            raise CheckpointError(
                f"the checkpoint is of a stage with other settings ({state['order']}, now "
                f"{self.order}): remove it, or choose another --out"
            )
        self.seek(int(state["num_consumed"]))


def train_stage(
    objective: nn.Module,
    lessons: Any,
    *,
    out: Path,
    num_steps: int,
    learning_rates: Mapping[str, float],
    warm_up_steps: int,
    weight_decay: float,
    order: str,
    team: Team,
    seed: int,
    save_every: int,
    last_rate: float = LAST_RATE,
    callbacks: Sequence[TrainerCallback] = (),
) -> None:
    """Train one stage, or what is left of it after its last checkpoint.

    Args:
        objective: gives the loss.
        lessons: `lessons[step, rank]` gives a batch.
        out: of the stage: checkpoints, log.jsonl, curves, tensorboard.
        learning_rates: of each part of the model.
        order: what the lessons depend on.
        last_rate: of the peak, where the cosine ends.

    Raises:
        SystemExit: a signal ended it, after a checkpoint was saved.
    """
    freeze(objective, learning_rates)
    material = Material(
        dataset=lessons,
        sampler=StepSampler(num_steps, team.rank, order),
        collate=lambda items: items[0],
        num_steps=num_steps,
        global_batch_size=1,
    )
    with watching(
        WatchConfig(log_every_steps=SPEAK_EVERY),
        out,
        name=f"nano, {out.name}",
        samples_per_step=1,
        facts={"seed": seed, "order": order},
        is_first_process=team.rank == 0,
    ) as watchers:
        trainer = HourLlavaTrainer(
            objective,
            material,
            out=out,
            learning_rates=learning_rates,
            schedule="cosine_with_min_lr",
            warm_up=max(1, warm_up_steps),
            betas=(0.9, 0.98),
            weight_decay=weight_decay,
            save_every_steps=save_every,
            seed=seed,
            device="cpu",
            callbacks=[*watchers, *callbacks],
            arguments={"lr_scheduler_kwargs": {"min_lr_rate": last_rate}},
        )
        ended_by = trainer.train(resume=last_checkpoint(out / "checkpoints"))
    if ended_by is not None:
        raise SystemExit(128 + ended_by)


def order_of(settings: Any, team: Team) -> str:
    """Write down what a stage's batches depend on."""
    return f"{asdict(settings)} on {team.size}"


class EveryFewSteps(TrainerCallback):
    """Calls back with the number of the step, every so many steps."""

    def __init__(self, every: int, tell: Callable[[int], None]) -> None:
        self.every, self.tell = every, tell

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Count."""
        if state.global_step % self.every == 0:
            self.tell(state.global_step)
