"""One computation in many shapes: accumulation, chunks, checkpointing; and the ways a run ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import TrainerCallback

from hour_llava.errors import DataError, TrainingError
from hour_llava.recipes.debug import make_model
from hour_llava.train.checkpoint import last_checkpoint, list_checkpoints
from hour_llava.train.material import Material
from hour_llava.train.parts import freeze
from hour_llava.train.trainer import HourLlavaTrainer

RATES = {"projector": 1e-3, "memaug": 1e-3, "language_model": 1e-3}
GLOBAL, STEPS = 8, 4


class Clips:
    """Features of eight frames, and words of several lengths; every third sample is text alone."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor
        self.num_visual = processor.visual_lengths([], 8, 0, None)[0]
        self.spoilt: set[int] = set()

    def __getitem__(self, number: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(number)
        has_video = number % 3 > 0
        words = torch.randint(10, 200, (6 + number % 5,), generator=generator)
        visual = torch.full((self.num_visual * has_video,), self.processor.video_token_id)
        ids = torch.cat([visual, words])
        labels = torch.cat([torch.full_like(ids[:-4], -100), ids[-4:]])
        features = torch.randn(8, 4, 32, generator=generator) if has_video else None
        if features is not None and number in self.spoilt:
            features[0, 0, 0] = torch.nan
        return {"number": number, "ids": ids, "labels": labels, "features": features}

    def collate(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        def padded(name: str, value: int) -> Tensor:
            rows = [item[name] for item in items]
            return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value)

        features = [item["features"] for item in items if item["features"] is not None]
        index = torch.tensor([0 if item["features"] is not None else -1 for item in items])
        index[index == 0] = torch.arange(len(features))
        batch: dict[str, Any] = {
            "input_ids": padded("ids", 0),
            "attention_mask": (padded("labels", -1) != -1).long(),
            "labels": padded("labels", -100),
            "forgetting_seeds": torch.tensor([item["number"] for item in items]),
            "sample_ids": [f"clip{item['number']}" for item in items],
            "broken": [f"clip{i['number']}: spoilt" for i in items if i["number"] in self.broken],
        }
        if features:
            batch |= {"video_features": features, "memory_index": index}
        return batch

    broken: frozenset[int] = frozenset()


@dataclass
class InOrder:
    """Sample n is sample n: one rank, no mixture."""

    micro: int
    num_consumed: int = 0

    @property
    def accumulation_steps(self) -> int:
        return GLOBAL // self.micro

    def __len__(self) -> int:
        return (STEPS * GLOBAL - self.num_consumed) // self.micro

    def __iter__(self) -> Iterator[list[int]]:
        for first in range(self.num_consumed, STEPS * GLOBAL, self.micro):
            yield list(range(first, first + self.micro))

    def seek(self, num_consumed: int) -> None:
        self.num_consumed = num_consumed

    def state_dict(self) -> dict[str, Any]:
        return {"num_consumed": self.num_consumed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.num_consumed = state["num_consumed"]


class Notes(TrainerCallback):
    """Keeps what every step says."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Any]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if "loss" in logs:
            self.steps.append(dict(logs, step=state.global_step))


@dataclass
class Outcome:
    trainer: HourLlavaTrainer
    steps: list[dict[str, Any]]
    ended_by: int | None

    def of(self, name: str) -> Tensor:
        return torch.tensor([step[name] for step in self.steps])


def run(
    out: Path,
    *,
    micro: int = 2,
    rates: Mapping[str, float] = RATES,
    clips: Clips | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    resume: Path | None = None,
    **options: Any,
) -> Outcome:
    model, processor = make_model()
    clips = clips or Clips(processor)
    freeze(model, rates)
    material = Material(
        dataset=clips,
        sampler=InOrder(micro),
        collate=clips.collate,
        num_steps=STEPS,
        global_batch_size=GLOBAL,
    )
    notes = Notes()
    trainer = HourLlavaTrainer(
        model,
        material,
        out=out,
        learning_rates=rates,
        device="cpu",
        warm_up=0,
        callbacks=[notes, *callbacks],
        **options,
    )
    ended_by = trainer.train(resume=resume)
    return Outcome(trainer, notes.steps, ended_by)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return run(tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize(
    "options",
    [
        {"micro": 8},
        {"micro": 1},
        {"loss_chunk_size": 3},
        {"gradient_checkpointing": True},
        {"micro": 4, "gradient_checkpointing": True, "loss_chunk_size": 5, "workers": 1},
    ],
    ids=str,
)
def test_the_shape_of_the_computation_changes_nothing(
    tmp_path: Path, plain: Outcome, options: dict[str, Any]
) -> None:
    found = run(tmp_path, **options)
    for name in ("loss", "grad_norm"):
        torch.testing.assert_close(found.of(name), plain.of(name), rtol=1e-5, atol=1e-6)
    for name in ("tokens", "labels", "samples"):
        assert torch.equal(found.of(name), plain.of(name))


def test_every_step_says_what_it_was(plain: Outcome) -> None:
    assert [step["samples"] for step in plain.steps] == [8, 16, 24, 32]
    assert plain.steps[0]["labels"] == GLOBAL * 4
    assert plain.steps[0]["lr/memaug"] == 1e-3 > plain.steps[-1]["lr/memaug"]
    assert plain.of("loss")[-1] < plain.of("loss")[0]


def test_frozen_parts_do_not_move(tmp_path: Path) -> None:
    before = {name: p.clone() for name, p in make_model()[0].named_parameters()}
    outcome = run(tmp_path, rates={"memaug": 1e-2}, weight_decay=0.1)
    for name, now in outcome.trainer.model.named_parameters():
        assert torch.equal(now, before[name]) == ("memaug" not in name), name


def test_bfloat16_trains_float32_weights(tmp_path: Path, plain: Outcome) -> None:
    outcome = run(tmp_path, precision="bf16")
    assert all(p.dtype == torch.float32 for p in outcome.trainer.model.parameters())
    torch.testing.assert_close(outcome.of("loss"), plain.of("loss"), rtol=1e-2, atol=0)


def test_a_loss_that_is_no_number_stops_the_run_and_names_its_samples(tmp_path: Path) -> None:
    clips = Clips(make_model()[1])
    clips.spoilt = {11}
    with pytest.raises(TrainingError, match=r"step 2: the loss is nan, in samples clip10, clip11;"):
        run(tmp_path, clips=clips, save_every_steps=1)
    last = last_checkpoint(tmp_path / "checkpoints")
    assert last is not None and last.name == "step-00000001"


def test_broken_samples_are_counted_and_stop_the_run_beyond_the_budget(tmp_path: Path) -> None:
    clips = Clips(make_model()[1])
    clips.broken = frozenset({3, 17})
    allowed = run(tmp_path / "a", clips=clips, broken_allowed=2)
    assert [step["broken"] for step in allowed.steps] == [1, 1, 2, 2]
    assert allowed.steps[2]["broken_samples"] == ["clip17: spoilt"]
    with pytest.raises(
        DataError, match=r"samples could not be read 2 times, 1 are allowed.*clip17"
    ):
        run(tmp_path / "b", clips=clips, broken_allowed=1)


def test_data_that_cannot_be_read_stop_the_run_with_their_own_words(tmp_path: Path) -> None:
    class Unreadable(Clips):
        def __getitem__(self, number: int) -> dict[str, Any]:
            if number == 9:
                raise DataError("v9.mp4: no such file")
            return super().__getitem__(number)

    for workers in (0, 1):
        with pytest.raises(DataError, match=r"^v9.mp4: no such file$"):
            run(tmp_path / str(workers), clips=Unreadable(make_model()[1]), workers=workers)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_ends_the_run(tmp_path: Path, plain: Outcome, number: int) -> None:
    class Interrupts(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 1:
                os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    outcome = run(tmp_path, callbacks=[Interrupts()])
    assert outcome.ended_by == number
    assert signal.getsignal(number) is before
    saved = list_checkpoints(tmp_path / "checkpoints")
    assert [folder.name for folder in saved] == ["step-00000002"]
    rest = run(tmp_path, resume=saved[0])
    assert rest.ended_by is None
    assert torch.equal(rest.of("loss"), plain.of("loss")[2:])


def test_a_resumed_run_that_was_done_does_nothing(tmp_path: Path) -> None:
    first = run(tmp_path)
    last = last_checkpoint(tmp_path / "checkpoints")
    again = run(tmp_path, resume=last)
    assert again.steps == []
    for now, before in zip(
        again.trainer.model.parameters(), first.trainer.model.parameters(), strict=True
    ):
        assert torch.equal(now, before)


def test_a_module_of_one_s_own_is_trained_with_a_mean_loss(tmp_path: Path) -> None:
    @dataclass
    class Output:
        loss: Tensor
        losses: dict[str, Tensor]

    class Wrapper(nn.Module):
        accepts_loss_kwargs = False

        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(3, 1)

        def forward(self, x: Tensor) -> Output:
            loss = self.head(x).square().mean()
            return Output(loss=loss, losses={"words": 2 * loss})

    def steps(micro: int) -> Outcome:
        torch.manual_seed(0)
        module = Wrapper()
        freeze(module, {"other": 0.1})
        material = Material(
            dataset={n: torch.arange(3.0) + n for n in range(STEPS * GLOBAL)},
            sampler=InOrder(micro),
            collate=lambda items: {"x": torch.stack(items)},
            num_steps=STEPS,
            global_batch_size=GLOBAL,
        )
        notes = Notes()
        trainer = HourLlavaTrainer(
            module,
            material,
            out=tmp_path / str(micro),
            learning_rates={"other": 0.1},
            device="cpu",
            callbacks=[notes],
        )
        return Outcome(trainer, notes.steps, trainer.train())

    whole, parts = steps(8), steps(2)
    torch.testing.assert_close(parts.of("loss"), whole.of("loss"), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(parts.of("loss/words"), 2 * parts.of("loss"))
