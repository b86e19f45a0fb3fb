"""One model on one or many processes: the same computation, and checkpoints that fit any number.

    none    one process
    ddp     every process has the whole model, gradients are averaged
    fsdp2   every process has a share of every weight; layers are gathered when they run

We shard before the Trainer sees the model: accelerate honours FSDP on GPUs alone and silently makes
DDP of it on a CPU, where the tests run. What is sharded together ("unit") is one decoder layer or
one MemAug block: modules that every process calls equally often. All else, the vision tower and the
head too, belongs to the root, gathered once a forward: a process whose batch has no picture never
calls the tower, and a unit that one process alone gathers is a hang.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor, distribute_tensor

from hour_llava.errors import ConfigError, HourLlavaError

T = TypeVar("T")
Sharding = Literal["none", "ddp", "fsdp2"]
Precision = Literal["bf16", "fp32"]

UNITS = ("Qwen2DecoderLayer", "MemAugLayer")
"""Classes whose modules are sharded one by one; each runs once a forward, whatever the batch."""
ENTRANCES = ("encode_video", "project_memory", "augment", "generate")
"""Methods beside `forward` by which a model is asked: its weights must be gathered for them too."""
RARELY_CALLED = "vision_tower"
ALWAYS_CALLED = "language_model"


def num_processes() -> int:
    """Count the processes of this run: torchrun's, else 1."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Number this process among all: torchrun's, else 0."""
    return int(os.environ.get("RANK", "0"))


def choose_sharding(
    wanted: Literal["auto", "none", "ddp", "fsdp2"], *, world_size: int, device: str
) -> Sharding:
    """Decide how the model lies on the processes.

    Args:
        wanted: The configuration's; auto: none on one process, fsdp2 on GPUs, ddp on CPU processes.
        world_size: Number of processes.
        device: cpu, cuda, ..

    Raises:
        ConfigError: none on several processes: each would train a model of its own.
    """
    if wanted == "auto":
        return "none" if world_size == 1 else "ddp" if device == "cpu" else "fsdp2"
    if wanted == "none" and world_size > 1:
        raise ConfigError(
            f"--hardware.sharding none on {world_size} processes: each would train a model of its "
            "own; take ddp or fsdp2, or start one process"
        )
    return "none" if wanted == "ddp" and world_size == 1 else wanted


def prepare(model: nn.Module, *, sharding: Sharding, precision: Precision, device: str) -> None:
    """Make a model ready to be trained on all processes, in place; before any optimiser.

    Frozen parts must be frozen by now, and weights be float32 and the same on every process.

    Args:
        model: What the Trainer gets; units are found in it by class.
        sharding: What `choose_sharding` decided.
        precision: bf16 under fsdp2: layers are gathered and run in bfloat16, gradients are summed
            in float32, and the optimiser's weights stay float32. Otherwise the Trainer's autocast
            is in charge.
        device: cpu, cuda, ..: where the shares lie.
    """
    keep_tower_in_graph(model)
    if sharding == "fsdp2":
        shard(model, precision=precision, device=device)


def shard(model: nn.Module, *, precision: Precision, device: str) -> None:
    """Divide a model's weights between the processes (FSDP2), in place.

    Processes other than the first may bring it on the meta device: they get their shares from the
    first, so that its weights lie once in a machine's memory and not once for every GPU.

    Raises:
        ConfigError: the model has no layer of the kinds that are sharded one by one.
    """
    if not dist.is_initialized():  # one process: the same arithmetic as on many
        backend = "nccl" if device.startswith("cuda") else "gloo"
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    is_empty = any(weight.is_meta for weight in model.parameters())
    is_spread = any_process(is_empty)
    if precision == "bf16":
        _store_frozen_as_bf16(model)
    whole = [weight.detach() for weight in model.parameters()] if is_spread else []
    warnings.filterwarnings(
        "ignore", message="FSDP2-wrapped module .* returned a view"
    )  # of a loss
    kind = torch.device(device).type
    mesh = init_device_mesh(kind, (dist.get_world_size(),), mesh_dim_names=("data",))
    units = [module for module in model.modules() if type(module).__name__ in UNITS]
    if not units:
        raise ConfigError(f"fsdp2 found none of {', '.join(UNITS)} in {type(model).__name__}")
    for module in (*units, model):
        fully_shard(module, mesh=mesh, mp_policy=_policy(precision))
    for name in ENTRANCES:
        if hasattr(model, name):
            register_fsdp_forward_method(model, name)
    if is_empty:
        model.to_empty(device=device)
    if is_spread:
        _spread(model, whole)
    left = [name for name, weight in model.named_parameters() if not isinstance(weight, DTensor)]
    assert not left, f"not sharded: {left}"


def is_sharded(model: nn.Module) -> bool:
    """Say whether `shard` was here."""
    return isinstance(model, FSDPModule)


def keep_shares_alone(model: nn.Module) -> None:
    """Let go of gathered weights: a forward pass without a backward one leaves the root's there.

    Names then lead to the shares again, which is what optimiser and checkpoints know.
    """
    if isinstance(model, FSDPModule):
        model.reshard()


def leave_sharded_models_alone(accelerator: Any) -> None:
    """Keep accelerate from wrapping a sharded model in DDP; other models it prepares as ever.

    Torch has renamed `broadcast_buffers` and warns of it; transformers and accelerate pass it on
    under no other name.

    Args:
        accelerator: The Trainer's, as soon as it is made.
    """
    prepare_model = accelerator.prepare_model

    def prepare_unsharded(given: nn.Module, *args: Any, **options: Any) -> nn.Module:
        if is_sharded(given):
            return given
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
            return prepare_model(given, *args, **options)

    accelerator.prepare_model = prepare_unsharded


def keep_tower_in_graph(model: nn.Module) -> None:
    """Give a trained vision tower a gradient (of zeros) also where a batch has no pictures.

    Processes average gradients together: one that has none of a weight would be waited for, for
    ever, or worse. On one process too, where AdamW passes over a weight without a gradient, and
    would learn something else. MemAug and the projector need no help: an idle memory runs through
    them.
    """
    tower, language_model = _submodule(model, RARELY_CALLED), _submodule(model, ALWAYS_CALLED)
    if tower is None or language_model is None:
        return

    def join(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        trained = [weight for weight in tower.parameters() if weight.requires_grad]
        embeds = kwargs.get("inputs_embeds")
        if trained and embeds is not None and torch.is_grad_enabled():
            kwargs = kwargs | {"inputs_embeds": _WithZeroGradients.apply(embeds, *trained)}
        return args, kwargs

    language_model.register_forward_pre_hook(join, with_kwargs=True)


class _WithZeroGradients(torch.autograd.Function):
    """Pass a tensor through, and give zeros as the gradient of all others."""

    @staticmethod
    def forward(ctx: Any, passed: Tensor, *others: Tensor) -> Tensor:
        ctx.others = [(other.shape, other.dtype, other.device) for other in others]
        return passed.view_as(passed)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        zeros = (
            torch.zeros((), dtype=dtype, device=device).expand(shape)
            for shape, dtype, device in ctx.others
        )
        return gradients[0], *zeros


def any_process(flag: bool) -> bool:
    """Say whether any process says so: a signal reaches one, and all must act on it together."""
    return any(gathered(flag))


def gathered(value: Any) -> list[Any]:
    """Give every process's value to all, in the order of ranks."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def first_alone(act: Callable[[], T]) -> T:
    """Act on the first process, then on the others; where the first fails, all fail alike."""
    fault, result = None, None
    if rank() == 0:
        try:
            result = act()
        except (HourLlavaError, OSError) as error:
            fault = error
    fault = gathered(fault)[0]
    if fault is not None:
        raise fault
    return act() if result is None else result


def wait_for_all() -> None:
    """Return when every process has come here."""
    if dist.is_initialized() and dist.get_world_size() > 1:
        dist.barrier()


def finish() -> None:
    """Leave the group of processes; for the end of a run."""
    if dist.is_initialized():
        dist.destroy_process_group()


def _submodule(model: nn.Module, name: str) -> nn.Module | None:
    found: Iterator[nn.Module] = (
        module for path, module in model.named_modules() if path.rpartition(".")[2] == name
    )
    return next(found, None)


def _policy(precision: Precision) -> MixedPrecisionPolicy:
    """Say in which types layers run; inputs are left alone, for times of frames must stay exact."""
    if precision == "fp32":
        return MixedPrecisionPolicy(cast_forward_inputs=False)
    return MixedPrecisionPolicy(
        param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False
    )


def _store_frozen_as_bf16(model: nn.Module) -> None:
    """Halve what frozen weights take, where it loses nothing: released ones are bfloat16.

    The first process looks at the numbers, and all do as it finds.
    """
    exact: list[bool] = []
    for weight in model.parameters():
        is_exact = not weight.requires_grad and weight.dtype == torch.float32 and rank() == 0
        exact.append(is_exact and torch.equal(weight.bfloat16().float(), weight))
    for weight, is_exact in zip(model.parameters(), gathered(exact)[0], strict=True):
        if is_exact:
            weight.data = weight.detach().bfloat16()


def _spread(model: nn.Module, whole: list[Tensor]) -> None:
    """Give every process its share of the first one's weights, and a copy of its buffers.

    Args:
        model: Sharded; on processes that brought none its shares are not yet filled.
        whole: The first process's weights, in the model's order.
    """
    for weight, full in zip(model.parameters(), whole, strict=True):
        assert isinstance(weight, DTensor)
        mine = weight.to_local()
        sent = full.to(mine.device) if rank() == 0 else torch.empty_like(full, device=mine.device)
        share = distribute_tensor(sent, weight.device_mesh, weight.placements, src_data_rank=0)
        mine.detach().copy_(share.to_local())
    for buffer in model.buffers():
        dist.broadcast(buffer, src=0)
