"""What one question costs against the length of the video: CPU seconds and memory, by part.

Each point is a fresh process that writes a memory of random features to disk, opens it, and asks
one question through the public `Assistant`. MemAug's share grows with the length (every kept token
reads the whole memory); the language model's is constant from 2,048 frames on (34 minutes), because
no more than 512 frames are kept. Shapes: `nano` (the built-in model) and `half-billion`
(random weights: Qwen2-0.5B's shape, so400m's feature width, 64 cells a frame).

    python benchmarks/length_curve.py --shape nano
    python benchmarks/length_curve.py --shape half-billion --minutes 1 10 34 60 240
    python benchmarks/length_curve.py --shape nano --minutes 1440 --max-memory 1000000000 --compare
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from record import keep_results, origin

RESULTS = Path(__file__).parent / "results" / "length_curve.json"
NANO_MINUTES = (1, 10, 34, 60, 240, 720, 1440)
HALF_BILLION_MINUTES = (1, 10, 34, 60)
QUESTION = "what colour is the star ?"
NEW_TOKENS = 4


def half_billion() -> Any:
    """Build a random model of Qwen2-0.5B's shape with the tower's true feature width."""
    from hour_llava.model.configuration_hour_llava import SO400M_384, HourLlavaConfig
    from hour_llava.model.modeling_hour_llava import HourLlavaForConditionalGeneration
    from hour_llava.model.processing_hour_llava import HourLlavaProcessor
    from hour_llava.session.assistant import Assistant
    from hour_llava.train.nano.tokenizer import IMAGE, VIDEO, build_tokenizer

    tokenizer = build_tokenizer([QUESTION], max_length=32_768)
    config = HourLlavaConfig(
        # One layer: features are given, the tower is never run.
        vision_config=SO400M_384 | {"num_hidden_layers": 1},
        text_config={
            "model_type": "qwen2",
            "hidden_size": 896,
            "intermediate_size": 4864,
            "num_hidden_layers": 24,
            "num_attention_heads": 14,
            "num_key_value_heads": 2,
            "vocab_size": 151_936,
            "tie_word_embeddings": True,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
            "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE),
        video_token_id=tokenizer.convert_tokens_to_ids(VIDEO),
    )
    torch.manual_seed(0)
    model = HourLlavaForConditionalGeneration(config).eval()
    return Assistant(model, HourLlavaProcessor.from_config(config, tokenizer), name="half-billion")


def write_memory(path: Path, assistant: Any, num_frames: int) -> None:
    """Stream random features of one frame a second into a memory file."""
    from hour_llava.memory import MemoryFileWriter, MemoryHeader

    cells, width = assistant.encoder.tokens_per_frame, assistant.encoder.feature_size
    writer = MemoryFileWriter(
        path,
        header=MemoryHeader(content_digest="random", duration_seconds=float(num_frames)),
        tokens_per_frame=cells,
        feature_size=width,
        dtype=torch.float16,
        num_frames_expected=num_frames,
    )
    generator = torch.Generator().manual_seed(0)
    for first in range(0, num_frames, 512):
        count = min(512, num_frames - first)
        features = torch.randn(count, cells, width, generator=generator).half()
        writer.add(features, [float(first + i) for i in range(count)])
    writer.finish()


def measure(shape: str, minutes: int, max_memory: int | None) -> dict[str, Any]:
    """Ask one question of a memory of this length, in this process."""
    import hour_llava

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    assistant = hour_llava.load("nano") if shape == "nano" else half_billion()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "memory.hlm"
        write_memory(path, assistant, 60 * minutes)
        memory = hour_llava.MemoryRepository.open(path)
        parts: dict[str, float] = {}
        watch(assistant.model, parts)
        before = forget_peak()
        begin = time.process_time()
        answer = assistant.ask(
            memory, QUESTION, evidence=True, max_new_tokens=NEW_TOKENS, max_memory=max_memory
        )
        total = time.process_time() - begin
    return {
        "shape": shape,
        "minutes": minutes,
        "frames": 60 * minutes,
        "max_memory_bytes": max_memory,
        "memory_tokens": answer.memory_tokens,
        "kept_tokens": answer.kept_tokens,
        "memory_file_bytes": memory.num_bytes,
        "cpu_seconds": {"total": total, **parts},
        "peak_rss_bytes": status_bytes("VmHWM"),
        "rss_before_asking_bytes": before,
        "answer": answer.best_guess,
        "confidence": answer.confidence,
    }


def forget_peak() -> int:
    """Let the peak begin anew (building the model is not asking); give the memory held now."""
    Path("/proc/self/clear_refs").write_text("5")
    return status_bytes("VmRSS")


def status_bytes(name: str) -> int:
    """Read one of Linux's figures about this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))


def watch(model: Any, parts: dict[str, float]) -> None:
    """Sum the CPU seconds of MemAug and of the language model."""
    for name, module in (("memaug", model.model.memaug), ("llm", model.model.language_model)):
        original = module.forward

        def timed(*args: Any, _run: Any = original, _name: str = name, **kwargs: Any) -> Any:
            begin = time.process_time()
            try:
                return _run(*args, **kwargs)
            finally:
                parts[_name] = parts.get(_name, 0.0) + time.process_time() - begin

        module.forward = timed


def run_point(shape: str, minutes: int, max_memory: int | None) -> dict[str, Any]:
    """Measure one point in a fresh process."""
    command = [sys.executable, __file__, "--point", shape, str(minutes), str(max_memory or 0)]
    print(f"{shape}, {minutes} min, max memory {max_memory}", file=sys.stderr, flush=True)
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    point: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    cpu = point["cpu_seconds"]
    print(
        f"  CPU s: total {cpu['total']:.2f}, MemAug {cpu['memaug']:.2f}, LLM {cpu['llm']:.2f}; "
        f"peak {point['peak_rss_bytes'] / 1e6:.0f} MB; {point['memory_tokens']:,} memory tokens, "
        f"{point['kept_tokens']:,} kept; {point['answer']!r} {point['confidence']:.6f}",
        file=sys.stderr,
        flush=True,
    )
    return point


def main() -> None:
    """Measure the curve and add it to the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=("nano", "half-billion"), default="nano")
    parser.add_argument("--minutes", type=int, nargs="+")
    parser.add_argument("--max-memory", type=int, help="bytes of RAM the process may take")
    parser.add_argument("--compare", action="store_true", help="also without the memory bound")
    parser.add_argument("--point", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.point:
        shape, minutes, limit = arguments.point
        print(json.dumps(measure(shape, int(minutes), int(limit) or None)))
        return
    default = NANO_MINUTES if arguments.shape == "nano" else HALF_BILLION_MINUTES
    limits = [arguments.max_memory] + ([None] if arguments.compare else [])
    points = [
        run_point(arguments.shape, minutes, limit)
        for minutes in arguments.minutes or default
        for limit in limits
    ]
    keep_results(RESULTS, [{"points": points}], origin("torch", "transformers"))


if __name__ == "__main__":
    main()
