"""What a run takes, before it is started: weights, tokens, memory, operations, hours.

The model is built on the meta device, so that no weights are needed. Sizes of samples: `sizes`;
operations: `work`; memory: `room`; machines: `machines`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from hour_llava.data.mixture import count_batches
from hour_llava.errors import ConfigError
from hour_llava.model.configuration_hour_llava import HourLlavaConfig
from hour_llava.model.modeling_hour_llava import HourLlavaForConditionalGeneration
from hour_llava.train.config import PARTS, LoraConfig, TrainConfig
from hour_llava.train.distributed import UNITS, choose_sharding
from hour_llava.train.machines import Machine
from hour_llava.train.parts import count_parameters, freeze, part_of
from hour_llava.train.room import Layout, Weights, activation_room, static_room
from hour_llava.train.sizes import StreamSize, TokenCounts, count_tokens_of
from hour_llava.train.work import work_of

_FLEETS = (1, 2, 4, 8, 16, 32, 64, 128)


@dataclass(frozen=True, kw_only=True)
class StreamPlan:
    """A stream in the model's numbers; tokens and operations are means of a sample."""

    name: str
    num_samples: int | None
    row_tokens: float
    visual_tokens: float
    memory_tokens: float
    learned_tokens: float
    useful_flops: float
    done_flops: float
    largest: TokenCounts
    note: str
    unusable: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run in numbers.

    Args:
        parameters: Of each part: (all, trained).
        streams: What is learned from.
        samples_per_epoch: None where it is not known.
        num_steps: Of the optimiser; None where it is not known.
        accumulation: Micro-batches of a rank in a step.
        sharding: As chosen for this machine.
        memory: Bytes of one device at the fullest moment, item by item.
        step_tokens: Tokens that the language model reads in a step.
        step_flops: Operations of a step, recomputed ones counted.
        fitting: The fewest such devices on which it fits; None: none of up to 128.
    """

    config: TrainConfig
    machine: Machine
    parameters: dict[str, tuple[int, int]]
    streams: tuple[StreamPlan, ...]
    samples_per_epoch: int | None
    num_steps: int | None
    accumulation: int
    sharding: str
    memory: dict[str, float]
    step_tokens: float
    step_flops: float
    useful_flops: float
    fitting: int | None

    @property
    def memory_bytes(self) -> float:
        """Sum the items."""
        return sum(self.memory.values())

    @property
    def fits(self) -> bool:
        """Say whether a device has that much."""
        return self.memory_bytes <= self.machine.memory_bytes

    @property
    def step_seconds(self) -> float:
        """Seconds of a step, data waiting and exchange between devices left out."""
        return self.step_flops / (self.machine.count * self.machine.reached_flops)

    @property
    def hours(self) -> float | None:
        """Hours of the run."""
        return None if self.num_steps is None else self.num_steps * self.step_seconds / 3600

    @property
    def host_bytes(self) -> float:
        """Bytes of the weights in float32, which the first rank (all, without fsdp2) loads."""
        return 4.0 * sum(numbers[0] for numbers in self.parameters.values())

    @property
    def checkpoint_bytes(self) -> float:
        """Bytes of a checkpoint on disk: weights, and AdamW's averages of the trained ones."""
        return self.host_bytes + 8.0 * sum(numbers[1] for numbers in self.parameters.values())

    def require_fit(self) -> None:
        """Refuse what cannot fit.

        Raises:
            ConfigError: needed and there, both in numbers, and what would help.
        """
        if self.fits:
            return
        largest = max(self.memory, key=lambda name: self.memory[name])
        raise ConfigError(
            f"{self.config.name} needs {self.memory_bytes / 1e9:.1f} GB on each "
            f"{self.machine.name}, which has {self.machine.memory_bytes / 1e9:.1f} GB; the most, "
            f"{self.memory[largest] / 1e9:.1f} GB, goes to {largest}: {self._remedies()}"
        )

    def _remedies(self) -> str:
        ways: list[str] = []
        if self.fitting is not None:
            ways.append(f"it fits on {self.fitting} of them (fsdp2)")
        if self.config.batch.micro_batch_size > 1:
            ways.append("--batch.micro-batch-size 1")
        if not self.config.hardware.gradient_checkpointing:
            ways.append("--hardware.gradient-checkpointing True")
        if self.parameters["language_model"][1] and self.config.model.lora.rank == 0:
            ways.append("--model.lora.rank 64 trains adapters alone")
        return "; ".join([*ways, "--anyway tries all the same"])

    def as_dict(self) -> dict[str, Any]:
        """Give the numbers as JSON holds them."""
        return {
            "name": self.config.name,
            "machine": {
                "name": self.machine.name,
                "count": self.machine.count,
                "memory_bytes": self.machine.memory_bytes,
                "flops_per_second": self.machine.flops,
                "is_measured": self.machine.is_measured,
            },
            "parameters": {
                part: {"all": all_, "trained": trained}
                for part, (all_, trained) in self.parameters.items()
            },
            "streams": [
                {
                    "name": s.name,
                    "num_samples": s.num_samples,
                    "tokens_per_sample": round(s.row_tokens),
                    "visual_tokens": round(s.visual_tokens),
                    "memory_tokens": round(s.memory_tokens),
                    "learned_tokens": round(s.learned_tokens),
                    "flops_per_sample": s.useful_flops,
                    "largest": {
                        "rows": s.largest.rows,
                        "tokens": s.largest.row,
                        "memory_tokens": s.largest.memory,
                    },
                    "note": s.note,
                    "unusable": s.unusable,
                }
                for s in self.streams
            ],
            "samples_per_epoch": self.samples_per_epoch,
            "num_steps": self.num_steps,
            "accumulation": self.accumulation,
            "sharding": self.sharding,
            "memory": {name: round(value) for name, value in self.memory.items()},
            "memory_bytes": round(self.memory_bytes),
            "fits": self.fits,
            "host_bytes": round(self.host_bytes),
            "checkpoint_bytes": round(self.checkpoint_bytes),
            "tokens_per_step": round(self.step_tokens),
            "flops_per_step": self.step_flops,
            "step_seconds": self.step_seconds,
            "hours": self.hours,
        }


def make_plan(
    config: TrainConfig,
    model_config: HourLlavaConfig,
    streams: Sequence[StreamSize],
    machine: Machine,
) -> Plan:
    """Put a run into numbers.

    Args:
        config: The run.
        model_config: Of the model that it trains.
        streams: Sizes of its samples.
        machine: What it runs on.

    Raises:
        ConfigError: the batch cannot be dealt to the devices.
    """
    weights, parameters = _weigh(config, model_config)
    batch = config.batch
    per_pass = machine.count * batch.micro_batch_size
    if batch.global_batch_size % per_pass:
        raise ConfigError(
            f"--batch.global-batch-size {batch.global_batch_size} cannot be dealt to "
            f"{machine.count} devices in micro-batches of {batch.micro_batch_size}: make it a "
            f"multiple of {per_pass}"
        )
    plans = tuple(_plan_stream(stream, config, model_config) for stream in streams)
    layout = _layout(config, machine)
    memory = _memory(config, model_config, weights, plans, layout)
    samples = [plan.num_samples for plan in plans]
    total = None if None in samples else sum(n for n in samples if n is not None)
    shares = [1.0 if n is None else float(n) for n in samples]

    def mean(name: str) -> float:
        values = [getattr(plan, name) for plan in plans]
        return sum(s * v for s, v in zip(shares, values, strict=True)) / sum(shares)

    size = batch.global_batch_size
    return Plan(
        config=config,
        machine=machine,
        parameters=parameters,
        streams=plans,
        samples_per_epoch=total,
        num_steps=_num_steps(config, samples),
        accumulation=size // per_pass,
        sharding=layout.sharding,
        memory=memory,
        step_tokens=size * mean("row_tokens"),
        step_flops=size * mean("done_flops"),
        useful_flops=size * mean("useful_flops"),
        fitting=_fitting(config, model_config, weights, plans, machine),
    )


def _weigh(
    config: TrainConfig, model_config: HourLlavaConfig
) -> tuple[Weights, dict[str, tuple[int, int]]]:
    """Count the weights of the model, built without any."""
    with torch.device("meta"):
        model = HourLlavaForConditionalGeneration(model_config)
    rates = config.optim.rates()
    freeze(model, rates)
    counted = count_parameters(model)
    parameters = {part: counted.get(part, (0, 0)) for part in PARTS}
    if config.model.lora.rank and rates["language_model"]:
        # its base is frozen, but gradients flow through it
        for name, weight in model.named_parameters():
            weight.requires_grad_(weight.requires_grad and part_of(name) != "language_model")
        adapters = _adapter_size(model, config.model.lora)
        parameters["language_model"] = (parameters["language_model"][0] + adapters, adapters)
    layers = [module for module in model.modules() if type(module).__name__ in UNITS]
    in_layers = {id(weight) for layer in layers for weight in layer.parameters()}
    root = [weight for weight in model.parameters() if id(weight) not in in_layers]
    return (
        Weights(
            all={part: numbers[0] for part, numbers in parameters.items()},
            trained={part: numbers[1] for part, numbers in parameters.items()},
            root=sum(weight.numel() for weight in root),
            root_trained=sum(weight.numel() for weight in root if weight.requires_grad),
            largest_layer=max((_size(layer) for layer in layers), default=0),
        ),
        parameters,
    )


def _adapter_size(model: nn.Module, lora: LoraConfig) -> int:
    """Count the numbers of a language model's adapters."""
    return sum(
        lora.rank * (module.in_features + module.out_features)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and part_of(f"{name}.") == "language_model"
        and name.rpartition(".")[2] in lora.targets
    )


def _size(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def _plan_stream(
    stream: StreamSize, config: TrainConfig, model_config: HourLlavaConfig
) -> StreamPlan:
    trained = config.optim.trained_parts()
    checkpointing = config.hardware.gradient_checkpointing
    counts = [count_tokens_of(sample, model_config) for sample in stream.typical]
    by_adapters = config.model.lora.rank > 0
    works = [
        work_of(c, model_config, trained, checkpointing=checkpointing, by_adapters=by_adapters)
        for c in counts
    ]
    num = len(counts)
    return StreamPlan(
        name=stream.name,
        num_samples=stream.num_samples,
        row_tokens=sum(c.rows * c.row for c in counts) / num,
        visual_tokens=sum(c.rows * c.kept for c in counts) / num,
        memory_tokens=sum(c.memory for c in counts) / num,
        learned_tokens=sum(c.learned for c in counts) / num,
        useful_flops=sum(w.useful for w in works) / num,
        done_flops=sum(w.done for w in works) / num,
        largest=count_tokens_of(stream.largest, model_config),
        note=stream.note,
        unusable=stream.unusable,
    )


def _layout(config: TrainConfig, machine: Machine) -> Layout:
    hardware = config.hardware
    return Layout(
        world_size=machine.count,
        sharding=choose_sharding(
            hardware.sharding, world_size=machine.count, device="cuda" if machine.is_gpu else "cpu"
        ),
        is_bf16=hardware.precision == "bf16",
        checkpointing=hardware.gradient_checkpointing,
        loss_chunk_size=hardware.loss_chunk_size,
        is_gpu=machine.is_gpu,
    )


def _memory(
    config: TrainConfig,
    model_config: HourLlavaConfig,
    weights: Weights,
    plans: Sequence[StreamPlan],
    layout: Layout,
) -> dict[str, float]:
    """Take the stream whose largest samples, a micro-batch of them, need the most."""
    trained = config.optim.trained_parts()
    worst: dict[str, float] = {}
    for plan in plans:
        samples = [plan.largest] * config.batch.micro_batch_size
        room = activation_room(samples, model_config, trained, layout)
        if sum(room.values()) > sum(worst.values()):
            worst = room
    return static_room(weights, layout) | worst


def _fitting(
    config: TrainConfig,
    model_config: HourLlavaConfig,
    weights: Weights,
    plans: Sequence[StreamPlan],
    machine: Machine,
) -> int | None:
    sharded = replace(config, hardware=replace(config.hardware, sharding="fsdp2"))
    if not machine.is_gpu:
        return None
    for count in _FLEETS:
        layout = _layout(sharded, replace(machine, count=count))
        room = _memory(sharded, model_config, weights, plans, layout)
        deals = config.batch.global_batch_size % (count * config.batch.micro_batch_size) == 0
        if deals and sum(room.values()) <= machine.memory_bytes:
            return count
    return None


def _num_steps(config: TrainConfig, samples: Sequence[int | None]) -> int | None:
    """Count the steps, where the streams' sizes are known."""
    batch, size = config.batch, config.batch.global_batch_size
    if batch.max_steps is not None:
        return batch.max_steps
    known = [number for number in samples if number is not None]
    if len(known) < len(samples):
        return None
    return count_batches(known, size, config.data.mode, batch.epochs)


def plan_lines(plan: Plan) -> Iterator[str]:
    """Write a plan for people."""
    config, machine = plan.config, plan.machine
    yield f"{config.name} (stage {config.stage}) from {config.model.start}, on {machine}"
    yield ""
    yield f"{'part':<18}{'weights':>12}{'trained':>12}{'rate':>10}"
    for part, rate in config.optim.rates().items():
        all_, trained = plan.parameters[part]
        shown = f"{rate:g}" if trained else "frozen"
        name = part.replace("_", " ")
        yield f"{name:<18}{_millions(all_):>12}{_millions(trained):>12}{shown:>10}"
    yield ""
    yield (
        f"{'stream':<18}{'samples':>12}{'tokens':>10}{'visual':>9}{'memory':>10}{'learned':>9}"
        f"{'TFLOP':>10}   means of a sample"
    )
    for s in plan.streams:
        samples = "?" if s.num_samples is None else f"{s.num_samples:,}"
        yield (
            f"{s.name[:17]:<18}{samples:>12}{s.row_tokens:>10,.0f}{s.visual_tokens:>9,.0f}"
            f"{s.memory_tokens:>10,.0f}{s.learned_tokens:>9,.0f}{s.useful_flops / 1e12:>10,.4g}"
            f"   {s.note}".rstrip()
        )
    yield from (f"{s.name}: {s.unusable}" for s in plan.streams if s.unusable)
    yield ""
    stream = max(plan.streams, key=lambda s: s.largest.memory + s.largest.rows * s.largest.row)
    largest = stream.largest
    rows = f"{largest.rows} rows of " if largest.rows > 1 else ""
    yield (
        f"largest sample     {rows}{largest.row:,} tokens, {largest.kept:,} of them visual, of a "
        f"memory of {largest.memory:,} ({stream.name})"
    )
    yield from _batch_lines(plan)
    yield ""
    yield f"memory of each device at the fullest moment ({plan.sharding})"
    for name, value in plan.memory.items():
        yield f"  {name:<26}{value / 1e9:>8.2f} GB"
    verdict = "fits" if plan.fits else "DOES NOT FIT"
    yield (
        f"  {'in all':<26}{plan.memory_bytes / 1e9:>8.2f} GB of "
        f"{machine.memory_bytes / 1e9:.1f}: {verdict}"
    )
    yield from _storage_lines(plan)


def _storage_lines(plan: Plan) -> Iterator[str]:
    loads = "the first rank" if plan.sharding == "fsdp2" else "each rank"
    keep = plan.config.checkpoints.keep_last
    yield f"host memory        {plan.host_bytes / 1e9:,.3g} GB, while {loads} loads the weights"
    yield (
        f"disk               {plan.checkpoint_bytes / 1e9:,.3g} GB a checkpoint; {keep} are kept, "
        "and one more while it is written"
    )


def _batch_lines(plan: Plan) -> Iterator[str]:
    batch, machine = plan.config.batch, plan.machine
    yield (
        f"step               {batch.global_batch_size} samples = {machine.count} ranks x "
        f"{batch.micro_batch_size} a micro-batch x {plan.accumulation} accumulated; "
        f"{plan.step_tokens / 1e6:,.3g} M tokens, {plan.step_flops / 1e15:,.4g} PFLOP "
        f"({plan.useful_flops / 1e15:,.4g} without recomputing)"
    )
    share = "as measured" if machine.is_measured else "at 40 % of the peak"
    yield f"time of a step     {plan.step_seconds:,.3g} s {share}; waiting for data left out"
    if plan.num_steps is None or plan.hours is None:
        yield "run                ? steps: the number of samples is not known"
        return
    tokens = plan.num_steps * plan.step_tokens / 1e9
    yield (
        f"run                {plan.num_steps:,} steps, {tokens:,.3g} G tokens, "
        f"{plan.hours:,.3g} hours"
    )


def _millions(number: int) -> str:
    return f"{number / 1e6:,.1f} M" if number >= 50_000 else f"{number:,}"
