"""A run of transformers' plain Trainer on a toy, watched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from hour_llava.train.watching import Measurement, callbacks


@dataclass(frozen=True, kw_only=True)
class Settings:
    log_every_steps: int = 5
    reports: tuple[str, ...] = ()
    progress: bool = True


class Toy(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.projector = torch.nn.Linear(4, 4)
        self.memaug = torch.nn.Linear(4, 1)
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
        found = self.memaug(self.dropout(self.projector(x)))
        return {"loss": (found[:, 0] - y).square().mean()}


class ToyTrainer(Trainer):
    def log(self, logs: dict[str, Any], start_time: float | None = None) -> None:
        if "loss" in logs:
            logs |= {
                "tokens": 24,
                "loss/words": logs["loss"] / 2,
                "lr/memaug": 0.01,
                "data_seconds": 0.001,
            }
            if self.state.global_step == 3:
                logs |= {"broken": 1, "broken_samples": ["stream, sample 7: no file"]}
        super().log(logs, start_time)


Run = Callable[..., Toy]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Train the toy; returns it."""

    def train(
        *,
        steps: int = 20,
        resume: Path | None = None,
        measurements: Sequence[Measurement] = (),
        also: Sequence[TrainerCallback] = (),
        **settings: Any,
    ) -> Toy:
        torch.manual_seed(0)
        data = [{"x": torch.randn(4), "y": torch.randn(())} for _ in range(64)]
        model = Toy()
        arguments = TrainingArguments(
            output_dir=str(tmp_path / "checkpoints"),
            max_steps=steps,
            per_device_train_batch_size=2,
            gradient_accumulation_steps=2,
            logging_steps=1,
            logging_strategy="steps",
            save_steps=10,
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
        )
        with callbacks(
            Settings(**settings),
            tmp_path / "out",
            name="toy",
            samples_per_step=4,
            measurements=measurements,
            facts={"seed": 0},
        ) as watchers:
            trainer = ToyTrainer(model, arguments, train_dataset=data, callbacks=[*also, *watchers])
            trainer.remove_callback(PrinterCallback)
            trainer.train(resume_from_checkpoint=str(resume) if resume else None)
        return model

    return train
