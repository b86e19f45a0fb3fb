"""Machines that training is planned for: how many, how much memory, how fast.

Peaks are the vendors' own for dense bfloat16 matrices; what a training reaches of them is
`REACHED`. Machines that are not in the table are measured.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import psutil
import torch

from hour_llava.errors import ConfigError

REACHED = 0.4
"""Share of the peak that a training step reaches, recomputed layers counted as work."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Equal devices that train together.

    Args:
        name: Of one device.
        count: How many.
        memory_bytes: Of one.
        flops: A second, of one: the peak, or what was measured.
        is_measured: Whether `flops` was.
        is_gpu: A graphics card, or the processes of a CPU.
    """

    name: str
    count: int
    memory_bytes: int
    flops: float
    is_measured: bool = False
    is_gpu: bool = True

    @property
    def reached_flops(self) -> float:
        """Floating-point operations a second that a training step is taken to do."""
        return self.flops if self.is_measured else REACHED * self.flops

    def __str__(self) -> str:
        speed = f"{self.flops / 1e12:,.{0 if self.flops > 1e13 else 2}f} TFLOP/s"
        measured = ", measured" if self.is_measured else ""
        return f"{self.count} x {self.name} ({self.memory_bytes / 1e9:.0f} GB, {speed}{measured})"


# name -> (memory in GB as its driver counts it, TFLOP/s)
GPUS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "b200": (192, 2250),
        "h200": (150, 989),
        "h100": (85, 989),
        "a100-40": (42, 312),
        "a100": (85, 312),
        "l40s": (48, 362),
        "a6000": (51, 155),
        "4090": (25, 165),
        "3090": (25, 71),
        "mi300x": (206, 1307),
        "mi250": (68, 191),  # one of a card's two dies: what a process sees
    }
)


def named_machine(text: str) -> Machine:
    """Read "h200x8", or "h100" for one.

    Raises:
        ConfigError: no such card; those that are known are listed.
    """
    found = re.fullmatch(r"(.+?)(?:x(\d+))?", text.strip().lower())
    name, count = (found[1], int(found[2] or 1)) if found else ("", 0)
    if name not in GPUS or count < 1:
        raise ConfigError(
            f"--plan-for {text}: write a card and how many, h200x8; known are {', '.join(GPUS)}"
        )
    memory, peak = GPUS[name]
    return Machine(
        name=name.upper(), count=count, memory_bytes=int(memory * 1e9), flops=peak * 1e12
    )


def this_machine(device: str | None = None, *, count: int | None = None) -> Machine:
    """Describe the machine that this runs on.

    Args:
        device: cpu or cuda; None: the better one that is here.
        count: Processes that will train; None: torchrun's, else all GPUs, else one.
    """
    wants_gpu = (device or "cuda").startswith("cuda") and torch.cuda.is_available()
    started = int(os.environ.get("WORLD_SIZE", "0"))
    if not wants_gpu:
        count = count or started or 1
        return Machine(
            name=f"CPU ({os.cpu_count()} cores)",
            count=count,
            memory_bytes=psutil.virtual_memory().available // count,
            flops=_measured_flops("cpu") / count,
            is_measured=True,
            is_gpu=False,
        )
    full_name = torch.cuda.get_device_name(0)
    known = next((n for n in GPUS if n in full_name.lower()), None)
    flops = GPUS[known][1] * 1e12 if known else _measured_flops("cuda")
    return Machine(
        name=full_name,
        count=count or started or torch.cuda.device_count(),
        memory_bytes=torch.cuda.get_device_properties(0).total_memory,
        flops=flops,
        is_measured=known is None,
    )


def _measured_flops(device: str) -> float:
    """Time a matrix product."""
    size = 8192 if device == "cuda" else 512
    a = torch.randn(size, size, device=device, dtype=torch.float32 if device == "cpu" else None)
    a = a if device == "cpu" else a.bfloat16()
    best = float("inf")
    for _ in range(4):
        start = time.perf_counter()
        product = a @ a
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
        del product
    return 2.0 * size**3 / best
