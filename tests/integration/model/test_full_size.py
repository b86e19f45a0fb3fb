"""A checkpoint of the released 3B's full shape: loading is not proven by one megabyte.

Random weights in bf16, sharded, in the released layout, made shard by shard; converted, loaded and
asked in processes of their own, whose peak memory is read from the system.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from hour_llava.model.checkpoints import expected_shapes
from hour_llava.model.released_layout import config_from_released, released_key

SHARD_BYTES = 10**9
MOST_RSS = 1.3
QWEN25_3B = {
    "model_type": "hour_llava_qwen",
    "architectures": ["HourLlavaQwenForCausalLM"],
    "hidden_size": 2048,
    "intermediate_size": 11008,
    "num_hidden_layers": 36,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "vocab_size": 151936,
    "max_position_embeddings": 32768,
    "max_window_layers": 70,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1_000_000.0,
    "tie_word_embeddings": True,
    "use_sliding_window": False,
    "eos_token_id": 151645,
    "mm_vision_tower": "google/siglip-so400m-patch14-384",
    "mm_hidden_size": 1152,
    "mm_resampler_type": "memaug",
    "memaug_depth": 4,
    "spatial_sampling_type": "random",
    "torch_dtype": "bfloat16",
}

ASK = """
import json, resource, sys, time
import torch
from hour_llava.model.checkpoints import load_pretrained

begin = time.time()
model, processor = load_pretrained(sys.argv[1])
loaded = time.time()
peak_loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
# A 30-second video at one frame in 5 s: its memory is filled up to 128 frames either way. The tower
# in float32, for a CPU without bf16 units is four times as fast there.
frames = torch.randint(0, 256, (6, 90, 160, 3), dtype=torch.uint8)
tower = model.model.vision_tower.float()
with torch.no_grad():
    features = model.encode_video(processor.video_processing(frames), chunk_frames=2).bfloat16()
tower.bfloat16()
prompt = processor.apply_chat_template(
    [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "what happens ?"}]}],
    add_generation_prompt=True,
)
inputs = processor(text=prompt, video_features=[features], durations_seconds=[30.0])
out = model.generate(**inputs, max_new_tokens=2, do_sample=False, eos_token_id=None)
print(json.dumps({
    "dtype": str(model.dtype),
    "num_parameters": sum(p.numel() for p in model.parameters()),
    "kept": int((inputs["input_ids"] == model.config.video_token_id).sum()),
    "new_tokens": out.shape[1] - inputs["input_ids"].shape[1],
    "load_seconds": loaded - begin,
    "ask_seconds": time.time() - loaded,
    "peak_loaded_bytes": peak_loaded,
    "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
}))
"""
CONVERT = """
import json, resource, sys
from pathlib import Path
from hour_llava.model.checkpoints import convert

convert(sys.argv[1], Path(sys.argv[2]))
print(json.dumps({"peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))
"""


def run(code: str, *arguments: Path) -> dict[str, Any]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def write_released(folder: Path) -> int:
    """Write random shards one at a time; give the weights' bytes."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(QWEN25_3B))
    words = ["<unk>", "<|im_start|>", "<|im_end|>", "what", "happens", "?", "assistant", "user"]
    toy = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    toy.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=toy, unk_token="<unk>", additional_special_tokens=words[1:3]
    ).save_pretrained(folder)
    config = config_from_released(QWEN25_3B, folder, num_words=len(words))
    shapes = {released_key(name): shape for name, shape in expected_shapes(config).items()}
    weight_map: dict[str, str] = {}
    shard: dict[str, torch.Tensor] = {}
    total = number = 0
    block = torch.empty(2**22, dtype=torch.bfloat16).uniform_(-0.03, 0.03)
    names = sorted(shapes)
    for name in names:
        size = torch.Size(shapes[name]).numel()
        weight = block.repeat(-(-size // len(block)))[:size].view(shapes[name]).clone()
        shard[name] = weight
        total += weight.nbytes
        if name == names[-1] or sum(w.nbytes for w in shard.values()) > SHARD_BYTES:
            number += 1
            file = f"model-{number:05d}.safetensors"
            save_file(shard, folder / file, metadata={"format": "pt"})
            weight_map |= dict.fromkeys(shard, file)
            shard = {}
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return total


@pytest.mark.slow
@pytest.mark.timeout(5400)
def test_the_3b_shape_converts_loads_and_answers_within_its_size(tmp_path: Path) -> None:
    if shutil.disk_usage(tmp_path).free < 20e9:
        pytest.fail("20 GB of free disk are needed for two 3B checkpoints")
    released, ours = tmp_path / "released", tmp_path / "ours"
    num_bytes = write_released(released)
    assert len(list(released.glob("*.safetensors"))) > 4
    converted = run(CONVERT, released, ours)
    asked = run(ASK, ours)
    shutil.rmtree(ours)
    report = {"checkpoint_bytes": num_bytes, "convert": converted, "ask": asked}
    report["load_share"] = asked["peak_loaded_bytes"] / num_bytes
    report["ask_share"] = asked["peak_bytes"] / num_bytes
    print(json.dumps(report, indent=1))
    assert 3.6e9 < asked["num_parameters"] < 3.9e9
    assert asked["dtype"] == "torch.bfloat16"
    assert asked["kept"] == 32 * 17
    assert asked["new_tokens"] == 2
    assert converted["peak_bytes"] < MOST_RSS * num_bytes
    assert report["ask_share"] < MOST_RSS
