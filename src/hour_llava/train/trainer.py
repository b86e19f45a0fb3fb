"""The trainer: transformers' loop, with our data, optimiser, loss, checkpoints and stops.

It knows no configuration and no model of ours by name: it trains a module whose `forward(**batch)`
gives an output with `.loss`. What it adds to transformers' Trainer:

* data come from a `Material`, which deals them to the ranks itself and goes on where a run stood;
* a learning rate a part; the loss is the mean over all labelled words of a step, of all
  micro-batches and ranks, so that accumulation changes nothing;
* checkpoints that are whole or absent, and from which a run goes on to the last bit;
* all ranks stop together: on data that cannot be read, on a loss that is no number (the samples
  are named), and, after saving, on SIGTERM and Ctrl-C.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from hour_llava.data.collate import BrokenBudget
from hour_llava.errors import CheckpointError, DataError, HourLlavaError, TrainingError
from hour_llava.model.loss import num_labelled
from hour_llava.train import checkpoint as checkpoints
from hour_llava.train.distributed import (
    gathered,
    is_sharded,
    leave_sharded_models_alone,
    num_processes,
)
from hour_llava.train.handover import InSharedMemory
from hour_llava.train.material import Material
from hour_llava.train.parts import parameter_groups
from hour_llava.train.shared_state import load_state, save_state
from hour_llava.train.signals import Wish, leave_to_parent, wishing

NAMED = 8  # of the samples of a bad step, so many are told


@dataclass(kw_only=True)
class StepFacts:
    """What is known of the step that is being made; counts are of all ranks.

    Args:
        sample_ids: This rank's, one list a micro-batch.
        losses: This rank's, one a micro-batch.
        named: What the module calls `losses`, summed over this rank's micro-batches.
        num_labels: Words that are learned.
        num_tokens: Without padding.
        broken: Samples that were replaced in this step, and why.
        rates: Each part's learning rate in this step.
        data_seconds: For which this rank waited for data.
    """

    sample_ids: list[list[str]] = field(default_factory=list)
    losses: list[Tensor] = field(default_factory=list)
    named: dict[str, Tensor] = field(default_factory=dict)
    num_labels: int = 0
    num_tokens: int = 0
    broken: list[str] = field(default_factory=list)
    rates: dict[str, float] = field(default_factory=dict)
    data_seconds: float = 0.0


class HourLlavaTrainer(Trainer):
    """Trains a module on a material.

    Args:
        model: Frozen where it is to be frozen (`parts.freeze`), sharded where it is to be sharded
            (`distributed.prepare`). Its forward pass gives an output with `.loss`, and, if it
            likes, `.losses`, named tensors for the log. If its loss is a mean over the batch
            rather than over the words of the whole step, it says `accepts_loss_kwargs = False`.
        material: What it is trained on.
        out: The run's folder; checkpoints lie in `out/checkpoints`.
        learning_rates: Of each part; 0 where it is frozen.
        schedule: "cosine", "linear", "constant".
        warm_up: Share of the steps; from 1 on their number.
        weight_decay: Of matrices.
        max_grad_norm: Longer gradients are shortened; 0: never.
        precision: "bf16" computes in bfloat16; weights and optimiser stay as they are.
        gradient_checkpointing: Keep one state a layer and compute the rest again.
        loss_chunk_size: See `HourLlavaForConditionalGeneration.forward`.
        save_every_steps: And at the end; None: at the end alone.
        keep_last: Checkpoints that are kept.
        workers: Processes that read data.
        broken_allowed: Samples that may be replaced.
        device: "cpu", "cuda", ..; None: the best there is.
        callbacks: Those who watch. Each step's logs have loss, grad_norm, learning_rate,
            lr/PART, loss/NAME, samples, tokens, labels, data_seconds, broken.
        identity: Written into checkpoints: what a run must share to go on from them.
        arguments: More of transformers' TrainingArguments.
    """

    def __init__(
        self,
        model: nn.Module,
        material: Material,
        *,
        out: Path,
        learning_rates: Mapping[str, float],
        schedule: str = "cosine",
        warm_up: float = 0.03,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        max_grad_norm: float = 1.0,
        precision: str = "fp32",
        gradient_checkpointing: bool = False,
        loss_chunk_size: int | None = None,
        save_every_steps: int | None = None,
        keep_last: int = 2,
        workers: int = 0,
        broken_allowed: int = 0,
        seed: int = 0,
        device: str | None = None,
        callbacks: Sequence[TrainerCallback] = (),
        identity: Mapping[str, Any] | None = None,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        self.material = material
        self.learning_rates = learning_rates
        self.optimizer_options: dict[str, Any] = {"betas": betas, "eps": eps}
        self.weight_decay = weight_decay
        self.keep_last, self.workers = keep_last, workers
        self.identity = identity or {}
        self.budget = BrokenBudget(broken_allowed)
        self.step_facts = StepFacts()
        self.checkpoint_root = out / "checkpoints"
        self._resumed: Path | None = None
        self._saved_step = -1
        self._wish = Wish()
        self._ended_by: int | None = None
        if gradient_checkpointing:
            checkpoint_activations(model)
        super().__init__(
            model=model,
            args=training_arguments(
                out=out,
                num_steps=material.num_steps,
                accumulation_steps=material.sampler.accumulation_steps,
                schedule=schedule,
                warm_up=warm_up,
                max_grad_norm=max_grad_norm,
                autocast=precision == "bf16" and not is_sharded(model),
                save_every_steps=save_every_steps,
                seed=seed,
                device=device,
                more=arguments or {},
            ),
            callbacks=[_StopsInTime(self), *callbacks],
        )
        self.remove_callback(PrinterCallback)
        self._own_options = _accepted(model, use_cache=False, loss_chunk_size=loss_chunk_size)

    def train(self, resume: Path | None = None, **_: Any) -> int | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Train to the end, or until a signal comes.

        Args:
            resume: A checkpoint to go on from.

        Returns:
            The number of the signal that ended it, after saving; None: it came to its end.

        Raises:
            TrainingError: A loss or gradient is no number; the samples are named.
            DataError: Data cannot be read, or more samples are broken than allowed.
            CheckpointError: The checkpoint is damaged, or of another run.
            ResourceError: A checkpoint could not be written.
        """
        self._resumed, self._ended_by = resume, None
        if resume is not None:
            checkpoints.verify(resume)
        with wishing() as self._wish:
            super().train(resume_from_checkpoint=None if resume is None else str(resume))
        return self._ended_by

    # What transformers calls, in the order in which it does.

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        leave_sharded_models_alone(self.accelerator)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Load nothing yet: weights come with the optimiser, when both are where they will be."""

    def get_train_dataloader(self) -> DataLoader[Any]:
        sampler = self.material.sampler
        if self._resumed is not None:
            facts = checkpoints.read_facts(self._resumed)
            sampler.load_state_dict(dict(facts.sampler))
            self.budget.num_broken = facts.num_broken
        else:
            sampler.seek(0)
        steps = self.material.num_steps * sampler.accumulation_steps
        return _WholeRun(
            self.material.dataset,
            num_micro_batches=steps,
            batch_sampler=sampler,
            collate_fn=InSharedMemory(collate=self.material.collate),
            num_workers=self.workers,
            worker_init_fn=leave_to_parent,
            pin_memory=torch.cuda.is_available() and not self.args.use_cpu,
            generator=torch.Generator().manual_seed(self.args.seed),
        )

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            groups = parameter_groups(
                self.trained if model is None else model,
                self.learning_rates,
                weight_decay=self.weight_decay,
            )
            self.optimizer = torch.optim.AdamW(groups, fused=True, **self.optimizer_options)
        return self.optimizer

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        folder = Path(checkpoint)
        load_state(folder / checkpoints.WEIGHTS, self.trained, self.optimizer)
        try:
            scheduler = torch.load(folder / checkpoints.SCHEDULER, weights_only=True)
        except (OSError, RuntimeError, EOFError) as error:
            raise CheckpointError(
                f"{folder}: its schedule cannot be read; resume from an earlier checkpoint"
            ) from error
        self._schedule.load_state_dict(scheduler)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Set random numbers as they were; on a rank that was not there they begin anew."""
        if checkpoint is not None:
            path = checkpoints.random_file(Path(checkpoint))
            if path.is_file():
                checkpoints.restore_random_state(torch.load(path, weights_only=True))

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> Any:
        """Give a step's micro-batches, each fetched when its turn comes.

        128 hours of features are 68 GB: they must not lie in memory together to be counted. So
        losses are sums over labelled words, and the step's gradients are divided at its end.
        """
        self.step_facts = StepFacts(rates=self._rates())
        fetch = partial(self._next_micro_batch, epoch_iterator)
        return _MicroBatches(fetch, num_batches), 1

    def _next_micro_batch(self, batches: Iterator[Any]) -> dict[str, Any]:
        """Fetch a micro-batch, and agree with the other ranks that all have theirs."""
        started, facts = time.perf_counter(), self.step_facts
        fault, batch = _fetched(batches)
        facts.sample_ids.append(list(batch.pop("sample_ids", ())))
        told = (fault, list(batch.pop("broken", ())), self._wish.received, _counts(batch))
        facts.data_seconds += time.perf_counter() - started
        broken: list[str] = []
        for other, notes, wish, (num_labels, num_tokens) in gathered(told):
            if other is not None:
                raise DataError(other)
            broken += notes
            facts.num_labels += num_labels
            facts.num_tokens += num_tokens
            self._ended_by = self._ended_by or wish
        facts.broken += broken
        self.budget.add(broken)
        return batch

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Run the module; its loss is a sum over labelled words, or a mean of this batch."""
        options = dict(self._own_options)
        if self.model_accepts_loss_kwargs:
            options["num_items_in_batch"] = num_items_in_batch
        outputs = model(**inputs, **options)
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs.loss
        facts = self.step_facts
        facts.losses.append(loss.detach())
        for name, value in (getattr(outputs, "losses", None) or {}).items():
            facts.named[name] = facts.named.get(name, 0.0) + value.detach()
        if self.model_accepts_loss_kwargs:
            loss = loss * self.accelerator.num_processes  # ranks' gradients are averaged
        return (loss, outputs) if return_outputs else loss

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        """Divide by the step's labelled words and shorten to the limit, in one pass."""
        gradients = [p.grad for p in self.trained.parameters() if p.grad is not None]
        norm: Any = get_total_norm(gradients)
        norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        norm = norm / self._num_items
        self._require_finite(norm)
        shortened = (self.args.max_grad_norm / (norm + 1e-6)).clamp(max=1.0)
        factor = float(shortened / self._num_items)
        for gradient in gradients:
            gradient.mul_(factor)
        return norm

    def log(self, logs: dict[str, Any], start_time: float | None = None) -> None:
        """Hand a step's numbers to those who watch; nothing is kept."""
        if "loss" in logs:
            facts, step = self.step_facts, self.state.global_step
            count = max(1, len(facts.losses))
            logs["loss"] /= self._num_items
            logs["samples"] = step * self.material.global_batch_size
            logs["tokens"], logs["labels"] = facts.num_tokens, facts.num_labels
            logs["data_seconds"] = facts.data_seconds
            logs["broken"] = self.budget.num_broken
            if facts.broken:
                logs["broken_samples"] = facts.broken
            logs |= {f"lr/{part}": rate for part, rate in facts.rates.items()}
            logs |= {f"loss/{name}": float(v) / count for name, v in facts.named.items()}
        self.control = self.callback_handler.on_log(self.args, self.state, self.control, logs)

    def _save_checkpoint(self, model: nn.Module, trial: Any = None) -> None:
        step = self.state.global_step
        if step == self._saved_step:
            return
        sampler = self.material.sampler
        sampler.seek(step * self.material.global_batch_size)
        facts = checkpoints.CheckpointFacts(
            step=step,
            sampler=sampler.state_dict(),
            num_broken=self.budget.num_broken,
            num_ranks=num_processes(),
            identity=self.identity,
        )
        checkpoints.write_checkpoint(
            self.checkpoint_root,
            facts,
            self._write_checkpoint,
            keep_last=self.keep_last,
            num_bytes=checkpoints.state_bytes(self.trained),
        )
        self._saved_step = step

    def _write_checkpoint(self, folder: Path) -> None:
        save_state(folder / checkpoints.WEIGHTS, self.trained, self.optimizer)
        torch.save(checkpoints.random_state(), checkpoints.random_file(folder))
        if self.is_world_process_zero():
            torch.save(self._schedule.state_dict(), folder / checkpoints.SCHEDULER)
            self.state.save_to_json(str(folder / "trainer_state.json"))

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Count nothing: transformers' rule of thumb knows no MemAug, and costs time."""
        return 0

    def store_flos(self) -> None:
        """Do nothing; see `floating_point_ops`."""

    # Our own.

    @property
    def trained(self) -> nn.Module:
        """Give the module that is trained, without what transformers wraps around it."""
        model: Any = self.model
        return model

    @property
    def _num_items(self) -> int:
        """Count what the step's summed loss is divided by; means are divided already."""
        return max(1, self.step_facts.num_labels) if self.model_accepts_loss_kwargs else 1

    @property
    def _schedule(self) -> Any:
        return self.lr_scheduler

    def _rates(self) -> dict[str, float]:
        assert self.optimizer is not None
        return {group["name"]: group["lr"] for group in self.optimizer.param_groups}

    def _require_finite(self, norm: Tensor | float) -> None:
        """Stop where a gradient is no number; every rank has the same norm, and so stops.

        Raises:
            TrainingError: Names the samples whose loss it is, or all of the step.
        """
        if bool(torch.isfinite(torch.as_tensor(norm))):
            return
        facts = self.step_facts
        losses = [float(loss) for loss in facts.losses]
        bad = [not bool(torch.isfinite(loss)) for loss in facts.losses]
        found = gathered(list(zip(bad, losses, facts.sample_ids, strict=True)))
        batches = [batch for ranks in found for batch in ranks]
        guilty = [batch for batch in batches if batch[0]]
        names = [str(name) for batch in guilty or batches for name in batch[2]]
        told = ", ".join(names[:NAMED]) or "this step's"
        told += f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        what = f"the loss is {guilty[0][1]}" if guilty else "the gradient is no number"
        last = checkpoints.last_checkpoint(self.checkpoint_root)
        kept = f"the last checkpoint is {last}" if last else "no checkpoint was saved yet"
        raise TrainingError(
            f"step {self.state.global_step + 1}: {what}, in samples {told}; nothing of this step "
            f"was learned, {kept}: look at these samples with "
            "`hour-llava data check`, or lower the learning rate"
        )

    def is_to_stop(self) -> bool:
        """Say whether the run ends behind this step; all ranks say the same."""
        if num_processes() == 1:
            self._ended_by = self._wish.received
        return self._ended_by is not None


class _StopsInTime(TrainerCallback):
    """Saves and ends when a signal came; in a run that was resumed, keeps `epoch` true and takes
    how often it saves from its own settings, not from the checkpoint's.
    """

    def __init__(self, trainer: HourLlavaTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        state.compute_steps(args, state.max_steps)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        state.epoch = state.global_step / state.max_steps
        if self.trainer.is_to_stop():
            control.should_save = True
            control.should_training_stop = True


class _MicroBatches:
    """A step's micro-batches: their number is known, and each is there when it is asked for."""

    def __init__(self, fetch: Callable[[], dict[str, Any]], count: int) -> None:
        self.fetch, self.count = fetch, count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for _ in range(self.count):
            yield self.fetch()


class _WholeRun(DataLoader[Any]):
    """Loads what is left of a run, and is as long as the whole: the loop counts steps by it."""

    def __init__(self, dataset: Any, *, num_micro_batches: int, **options: Any) -> None:
        super().__init__(dataset, **options)
        self.num_micro_batches = num_micro_batches

    def __len__(self) -> int:
        return self.num_micro_batches


def training_arguments(
    *,
    out: Path,
    num_steps: int,
    accumulation_steps: int,
    schedule: str,
    warm_up: float,
    max_grad_norm: float,
    autocast: bool,
    save_every_steps: int | None,
    seed: int,
    device: str | None,
    more: Mapping[str, Any],
) -> TrainingArguments:
    """Say it in transformers' words; see `HourLlavaTrainer`."""
    on_cpu = device == "cpu"
    settings: dict[str, Any] = {
        "output_dir": str(out),
        "max_steps": num_steps,
        "gradient_accumulation_steps": accumulation_steps,
        "lr_scheduler_type": schedule if schedule != "constant" else "constant_with_warmup",
        "warmup_steps": min(warm_up, num_steps - 1),  # never all: the first step's rate is 0
        "max_grad_norm": max_grad_norm or float("inf"),
        "bf16": autocast,
        "seed": seed,
        "use_cpu": on_cpu,
        "logging_strategy": "steps",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        "save_steps": save_every_steps or num_steps,
        "ignore_data_skip": True,  # our sampler goes on by itself
        "ddp_find_unused_parameters": False,
        "ddp_broadcast_buffers": False,
        "report_to": [],
        "disable_tqdm": True,
        "remove_unused_columns": False,
    }
    if on_cpu and num_processes() > 1:
        settings["ddp_backend"] = "gloo"
    arguments = TrainingArguments(**settings | dict(more))
    if arguments.n_gpu > 1:  # one process is one GPU: torchrun starts more
        arguments._n_gpu = 1
    return arguments


def checkpoint_activations(model: nn.Module) -> None:
    """Let every transformers model within a module keep one state a layer."""
    for module in model.modules():
        if not getattr(module, "supports_gradient_checkpointing", False):
            continue
        enable = getattr(module, "activation_checkpointing_enable", None)
        if enable is not None:
            enable(activation_checkpointing_kwargs={"use_reentrant": False})
        else:
            module.gradient_checkpointing_enable({"use_reentrant": False})  # pyright: ignore
        return


def _accepted(model: nn.Module, **options: Any) -> dict[str, Any]:
    """Keep the options that a module's forward pass knows by name."""
    known = inspect.signature(model.forward).parameters
    return {name: value for name, value in options.items() if name in known and value is not None}


def _fetched(batches: Iterator[Any]) -> tuple[str | None, dict[str, Any]]:
    """Fetch a batch: what went wrong, and what came."""
    try:
        return None, dict(next(batches))
    except StopIteration:
        return "the data ended before the run's last step", {}
    except (HourLlavaError, OSError) as error:
        last = str(error).strip().splitlines()[-1]  # a data worker's comes with a traceback
        return last.removeprefix(f"{type(error).__module__}.{type(error).__name__}: "), {}


def _counts(batch: Mapping[str, Any]) -> tuple[int, int]:
    """Count a batch's learned words, and its tokens without padding."""
    labels, mask = batch.get("labels"), batch.get("attention_mask")
    ids = batch.get("input_ids")
    tokens = mask.sum() if isinstance(mask, Tensor) else 0 if ids is None else ids.numel()
    return (num_labelled(labels) if isinstance(labels, Tensor) and labels.dim() == 2 else 0), int(
        tokens
    )
