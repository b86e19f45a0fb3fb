"""MemAug + LLM against a plain reference: CPU seconds and peak memory, side by side.

Sizes: hidden 256, 4 heads, 2 kv heads, 4 MemAug blocks, 4 LLM layers of Qwen2's shape, vision
features given, float32, one thread. The reference does what the released code does, in plain
PyTorch: one sample, everything whole, kv heads repeated, rotation in float32 copies, attention by
torch SDPA. Ours is the model that ships, called as a user calls it. Every run is a fresh process:
CPU seconds of the forward, and the process' peak memory less what it held once features and weights
were loaded. Both arms have the same weights, and their results are compared.

    python benchmarks/memaug.py --frames 900 3600 --runs 3
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Qwen2Config, Qwen2Model

from hour_llava.memory import (
    count_kept_frames,
    count_kept_tokens,
    kept_token_index,
    query_positions,
    uniform_cells,
    uniform_frames,
)
from hour_llava.model.configuration_hour_llava import HourLlavaConfig
from hour_llava.model.modeling_hour_llava import HourLlavaForConditionalGeneration
from record import keep_results, origin

HIDDEN, HEADS, KV_HEADS, BLOCKS, LLM_LAYERS = 256, 4, 2, 4, 4
FEATURES, CELLS, THETA, VOCABULARY, TEXT_BEFORE, TEXT_AFTER = 1152, 64, 1e6, 1000, 30, 30
KEYS = ("num_frames", "arms")
RESULTS = Path(__file__).parent / "results" / "memaug.json"


class PlainAttention(nn.Module):
    """Attention of one sample: whole tensors, kv heads repeated."""

    def __init__(self, names: tuple[str, str] | None):
        super().__init__()
        E = HIDDEN // HEADS
        if names is None:
            self.qkv_proj = nn.Linear(HIDDEN, (HEADS + 2 * KV_HEADS) * E)
        else:
            self.q_proj = nn.Linear(HIDDEN, HIDDEN)
            self.kv_proj = nn.Linear(HIDDEN, 2 * KV_HEADS * E)
        self.o_proj = nn.Linear(HIDDEN, HIDDEN)

    def rotate(self, x_NHE: Tensor, positions_N: Tensor) -> Tensor:
        half = x_NHE.shape[-1] // 2
        inv_freq = 1.0 / (THETA ** (torch.arange(0, half, 2, dtype=torch.float32) / half))
        angle = positions_N.float()[:, None] * inv_freq
        cos, sin = (f(angle).to(x_NHE.dtype).float()[:, None] for f in (torch.cos, torch.sin))
        cos, sin = torch.cat([cos, cos], -1), torch.cat([sin, sin], -1)
        rotated = x_NHE[..., :half].float()
        a, b = rotated.chunk(2, dim=-1)
        rotated = rotated * cos + torch.cat([-b, a], -1) * sin
        return torch.cat([rotated.to(x_NHE.dtype), x_NHE[..., half:]], -1)

    def forward(
        self, x_ND: Tensor, positions_N: Tensor, memory_MD: Tensor | None, positions_M: Tensor
    ) -> Tensor:
        E = HIDDEN // HEADS
        if memory_MD is None:
            qkv = self.qkv_proj(x_ND).view(len(x_ND), -1, E)
            q, k, v = qkv.split([HEADS, KV_HEADS, KV_HEADS], dim=1)
        else:
            q = self.q_proj(x_ND).view(len(x_ND), -1, E)
            k, v = self.kv_proj(memory_MD).view(len(memory_MD), -1, E).chunk(2, dim=1)
        q, k = self.rotate(q, positions_N), self.rotate(k, positions_M)
        k, v = (x.repeat_interleave(HEADS // KV_HEADS, dim=1) for x in (k, v))
        heads_first = (x.transpose(0, 1)[None] for x in (q, k, v))
        out = F.scaled_dot_product_attention(*heads_first)
        return self.o_proj(out[0].transpose(0, 1).reshape(len(x_ND), -1))


class PlainBlock(nn.Module):
    """A MemAug block as described, nothing fused."""

    def __init__(self):
        super().__init__()
        self.self_attn = PlainAttention(None)
        self.cross_attn = PlainAttention(("q_proj", "kv_proj"))
        self.mlp = nn.ModuleDict(
            {"fc1": nn.Linear(HIDDEN, 4 * HIDDEN), "fc2": nn.Linear(4 * HIDDEN, HIDDEN)}
        )
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(HIDDEN) for _ in range(3))

    def forward(self, x: Tensor, positions: Tensor, memory: Tensor, places: Tensor) -> Tensor:
        x = self.norm1(x + self.self_attn(x, positions, None, positions))
        x = self.norm2(x + self.cross_attn(x, positions, memory, places))
        return self.norm3(x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](x))))


class Plain(nn.Module):
    """The reference: projector, newline, MemAug and LLM, everything whole."""

    def __init__(self):
        super().__init__()
        self.projector = nn.Sequential(
            nn.Linear(FEATURES, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, HIDDEN)
        )
        self.newline = nn.Parameter(torch.randn(HIDDEN))
        self.memaug = nn.ModuleDict({"layers": nn.ModuleList(PlainBlock() for _ in range(BLOCKS))})
        self.llm = Qwen2Model(llm_config())

    def forward(self, features_FPD: Tensor, text_ids: Tensor) -> Tensor:
        """Project, forget, augment, prefill; gives the last position's hidden state."""
        num_frames = len(features_FPD)
        projected = self.projector(features_FPD)
        newline = self.newline.expand(num_frames, 1, HIDDEN)
        memory_MD = torch.cat([projected, newline], dim=1).flatten(0, 1)
        frames = uniform_frames(num_frames, count_kept_frames(num_frames))
        kept = kept_token_index(frames, uniform_cells(8, 8), num_cells=CELLS)
        text = self.llm.embed_tokens(text_ids)
        before, after = text[:TEXT_BEFORE], text[TEXT_BEFORE:]
        out = torch.cat([before, memory_MD[kept], after])
        positions = query_positions([len(before), kept, len(after)])
        for block in self.memaug["layers"]:
            out = block(out, positions, memory_MD, torch.arange(len(memory_MD)))
        prompt = torch.cat([before, out[len(before) : len(out) - len(after)], after])[None]
        return self.llm(inputs_embeds=prompt, use_cache=True).last_hidden_state[0, -1]


class Ours(nn.Module):
    """The model that ships, its tower made small since features are given."""

    def __init__(self):
        super().__init__()
        tower = {
            "model_type": "siglip_vision_model",
            "hidden_size": FEATURES,
            "intermediate_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 16,
            "image_size": 378,
            "patch_size": 14,
            "vision_use_head": False,
        }
        config = HourLlavaConfig(
            vision_config=tower,
            text_config=llm_config().to_dict(),
            image_token_id=VOCABULARY,
            video_token_id=VOCABULARY + 1,
            memaug_num_layers=BLOCKS,
            spatial_forgetting="uniform",
        )
        self.model = HourLlavaForConditionalGeneration._from_config(
            config, attn_implementation="sdpa"
        )

    def forward(self, features_FPD: Tensor, text_ids: Tensor) -> Tensor:
        """Answer; the head passes the hidden state through (its weights are the identity)."""
        num_kept = count_kept_tokens(len(features_FPD), spatial="uniform")
        place = torch.full((num_kept,), self.model.config.video_token_id)
        ids = torch.cat([text_ids[:TEXT_BEFORE], place, text_ids[TEXT_BEFORE:]])[None]
        output = self.model(
            input_ids=ids, video_features=[features_FPD], logits_to_keep=1, use_cache=True
        )
        return output.logits[0, -1, :HIDDEN]


OURS_TO_PLAIN = {
    "model.lm_head.": "head.",
    "model.model.memory_maker.projector.fc1.": "projector.0.",
    "model.model.memory_maker.projector.fc2.": "projector.2.",
    "model.model.memory_maker.newline": "newline",
    "model.model.memaug.": "memaug.",
    "model.model.language_model.": "llm.",
}


def llm_config() -> Qwen2Config:
    """A language model of Qwen2's shape."""
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=5 * HIDDEN,
        num_hidden_layers=LLM_LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        rope_parameters={"rope_type": "default", "rope_theta": THETA},
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    config._attn_implementation = "sdpa"
    return config


def fill(model: nn.Module) -> None:
    """Give both arms the same weights: drawn by a parameter's name in the reference."""
    for name, parameter in model.named_parameters():
        for ours, plain in OURS_TO_PLAIN.items():
            name = name.replace(ours, plain) if name.startswith(ours) else name
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        if name.startswith("head."):
            parameter.copy_(torch.eye(*parameter.shape))
        elif parameter.dim() > 1 or name == "newline":
            gain = 1.0 if name.startswith("llm.") else 1.4
            drawn = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(drawn * gain * parameter.shape[-1] ** -0.5)
        else:
            parameter.fill_(0.0 if name.endswith("bias") else 1.0)


def current_rss() -> int:
    """Bytes held now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def run_arm(arm: str, num_frames: int, dtype: torch.dtype, out: Path) -> dict[str, float]:
    """Run one arm in this process and save its output."""
    torch.set_num_threads(1)
    model = {"ours": Ours, "plain": Plain}[arm]()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        fill(model)
    model.to(dtype).eval()
    features = torch.empty(num_frames, CELLS, FEATURES, dtype=dtype)
    for frame in features:
        frame.copy_(torch.randn(CELLS, FEATURES, generator=generator))
    ids = torch.randint(0, VOCABULARY, (TEXT_BEFORE + TEXT_AFTER,), generator=generator)
    with torch.no_grad():
        model(features[:8].repeat(16, 1, 1), ids)  # warm up: threads, kernels, allocator
        before = current_rss()
        Path("/proc/self/clear_refs").write_text("5")  # ru_maxrss counts from here
        started = time.process_time()
        result = model(features, ids)
        seconds = time.process_time() - started
    torch.save(result.float(), out)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"cpu_seconds": seconds, "peak_above_loaded_bytes": float(peak - before)}


def measure(arm: str, num_frames: int, dtype: str, folder: Path) -> dict[str, Any]:
    """Run one arm in a fresh process."""
    command = [sys.executable, __file__, "--arm", arm, "--frames", str(num_frames)]
    command += ["--dtype", dtype, "--out", str(folder / f"{arm}-{dtype}.pt")]
    done = subprocess.run(
        command,
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    return json.loads(done.stdout)


def compare(num_frames: int, runs: int, dtypes: list[str], folder: Path) -> dict[str, Any]:
    """Run all arms in turn, several times, and take medians."""
    arms = [("plain", "float32"), *(("ours", dtype) for dtype in dtypes)]
    raw: dict[str, list[dict[str, float]]] = {f"{arm}-{dtype}": [] for arm, dtype in arms}
    for _ in range(runs):
        for arm, dtype in arms:
            raw[f"{arm}-{dtype}"].append(measure(arm, num_frames, dtype, folder))
            print(num_frames, arm, dtype, raw[f"{arm}-{dtype}"][-1], file=sys.stderr, flush=True)
    median = {
        name: {key: statistics.median(run[key] for run in entries) for key in entries[0]}
        for name, entries in raw.items()
    }
    outputs = {name: torch.load(folder / f"{name}.pt", weights_only=True) for name in raw}
    plain = outputs["plain-float32"]
    error = {name: float((out - plain).abs().max()) for name, out in outputs.items()}
    ratios = {
        name: {
            key: median[name][key] / median["plain-float32"][key] for key in median["plain-float32"]
        }
        for name in median
    }
    return {
        "num_frames": num_frames,
        "arms": list(raw),
        "ratio_to_plain_float32": ratios,
        "median": median,
        "max_error_to_plain_float32": error,
        "plain_output_std": float(plain.std()),
        "raw": raw,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, nargs="+", default=[900])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--arm", choices=["ours", "plain"])
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.arm:
        dtype = getattr(torch, arguments.dtype)
        print(json.dumps(run_arm(arguments.arm, arguments.frames[0], dtype, arguments.out)))
        return
    with tempfile.TemporaryDirectory() as folder:
        tables = [
            compare(n, arguments.runs, arguments.dtypes, Path(folder)) for n in arguments.frames
        ]
    keep_results(RESULTS, tables, origin("torch", "transformers"), same=KEYS)
    print(json.dumps([{k: v for k, v in t.items() if "raw" not in k} for t in tables], indent=2))


if __name__ == "__main__":
    main()
