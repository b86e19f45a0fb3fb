"""Our attention against bare SDPA at the same shapes: CPU seconds, one thread, side by side.

Shapes: MemAug's cross-attention of 900 and 3,600 frames (4 heads, 2 kv heads, head size 64); the
rotary embedding is excluded from all arms. `bare` is given its heads first, contiguous and already
expanded, for nothing; `bare_gqa` its kv heads unexpanded. `attend` is one whole call, `chunked` the
exact merge over chunks of 16,384 tokens that is used for memories beyond the working set. The error
is the largest one to the float32 twin over 64 query rows, beside that of bare SDPA.

    python benchmarks/attention.py --frames 900 3600 --runs 5
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hour_llava.memory import attend, attend_twin, attend_with_lse, merge_attention
from hour_llava.memory.plan import DEFAULT_CHUNK_TOKENS
from record import keep_results, origin

HEADS, KV_HEADS, HEAD_DIM = 4, 2, 64
SIZES = {200: (910, 13_000), 900: (3_885, 58_500), 3600: (8_764, 234_000)}
KEYS = ("num_frames", "dtype")
RESULTS = Path(__file__).parent / "results" / "attention.json"


def make_arms(q: Tensor, k: Tensor, v: Tensor) -> dict[str, Callable[[], Tensor]]:
    """Give every arm as a call that returns (1, N, H, E)."""
    group = HEADS // KV_HEADS
    bare_q, kv_k, kv_v = (x.transpose(1, 2).contiguous() for x in (q, k, v))
    bare_k, bare_v = (x.repeat_interleave(group, dim=1) for x in (kv_k, kv_v))

    def chunked() -> Tensor:
        step = DEFAULT_CHUNK_TOKENS
        parts = (
            attend_with_lse(q, k[:, i : i + step], v[:, i : i + step])
            for i in range(0, k.shape[1], step)
        )
        return merge_attention(parts)[0].to(q.dtype)

    sdpa = F.scaled_dot_product_attention
    return {
        "bare": lambda: sdpa(bare_q, bare_k, bare_v).transpose(1, 2),
        "attend": lambda: attend(q, k, v),
        "chunked": chunked,
        "bare_gqa": lambda: sdpa(bare_q, kv_k, kv_v, enable_gqa=True).transpose(1, 2),
    }


def compare(num_frames: int, dtype: torch.dtype, runs: int) -> dict[str, Any]:
    """Run all arms in turn, `runs` times, and take medians."""
    N, M = SIZES[num_frames]
    g = torch.Generator().manual_seed(0)
    q = torch.randn(1, N, HEADS, HEAD_DIM, generator=g).to(dtype)
    k, v = (torch.randn(1, M, KV_HEADS, HEAD_DIM, generator=g).to(dtype) for _ in range(2))
    arms = make_arms(q, k, v)
    rows = torch.linspace(0, N - 1, 64).long()
    exact = attend_twin(q[:, rows], k, v)[0]
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    errors: dict[str, float] = {}
    for run in range(runs):
        names = list(arms)
        for name in names[run % len(names) :] + names[: run % len(names)]:
            started = time.process_time()
            out = arms[name]()
            seconds[name].append(time.process_time() - started)
            errors[name] = float((out[:, rows].float() - exact).abs().max())
            print(
                num_frames, dtype, name, f"{seconds[name][-1]:.2f} s", file=sys.stderr, flush=True
            )
    median = {name: statistics.median(values) for name, values in seconds.items()}
    per_run = {
        name: statistics.median(b / o for b, o in zip(seconds["bare"], values, strict=True))
        for name, values in seconds.items()
    }
    flop = 4 * N * M * HEADS * HEAD_DIM
    return {
        "num_frames": num_frames,
        "queries": N,
        "memory_tokens": M,
        "dtype": str(dtype).removeprefix("torch."),
        "rate_to_bare_of_medians": {name: median["bare"] / s for name, s in median.items()},
        "rate_to_bare_median_of_pairs": per_run,
        "rate_to_bare_of_minima": {n: min(seconds["bare"]) / min(s) for n, s in seconds.items()},
        "median_cpu_seconds": median,
        "gflop_per_second": {name: flop / s / 1e9 for name, s in median.items()},
        "max_error_to_float32_twin": errors,
        "raw_cpu_seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, nargs="+", default=[900], choices=list(SIZES))
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with torch.no_grad():
        tables = [
            compare(num_frames, getattr(torch, dtype), arguments.runs)
            for num_frames in arguments.frames
            for dtype in arguments.dtypes
        ]
    keep_results(RESULTS, tables, origin("torch", "transformers"), same=KEYS)
    print(json.dumps([{k: v for k, v in t.items() if "raw" not in k} for t in tables], indent=2))


if __name__ == "__main__":
    main()
