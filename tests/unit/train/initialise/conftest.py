"""Small checkpoints of every layout, made by transformers' own classes, with known weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    SiglipConfig,
    SiglipModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
NUM_WORDS = len(SPECIALS) + len(BYTES)
VISION: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 7,
}
TEXT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": NUM_WORDS + 5,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
    "bos_token_id": None,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
PINPOINTS = [[28 * w, 28 * h] for w in (1, 2) for h in (1, 2)]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def save_tokenizer(folder: Path) -> None:
    vocabulary = {word: i for i, word in enumerate([*SPECIALS, *BYTES])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=SPECIALS[0],
        eos_token=SPECIALS[2],
        additional_special_tokens=[SPECIALS[1]],
    ).save_pretrained(folder)


@pytest.fixture(scope="session")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Any, Path]]:
    """Make LLaVA-OneVision as transformers has it: (model, folder)."""

    def make(*, tied: bool = False) -> tuple[Any, Path]:
        torch.manual_seed(1)
        folder = tmp_path_factory.mktemp("llava_hf")
        model = LlavaOnevisionForConditionalGeneration(
            LlavaOnevisionConfig(
                vision_config=VISION
                | {
                    "model_type": "siglip_vision_model",
                    "num_hidden_layers": 2,
                    "vision_use_head": False,
                },
                text_config=TEXT | {"model_type": "qwen2", "tie_word_embeddings": tied},
                tie_word_embeddings=tied,
                image_token_index=NUM_WORDS,
                video_token_index=NUM_WORDS + 1,
                image_grid_pinpoints=PINPOINTS,
            )
        ).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(0, 0.1)
        model.save_pretrained(folder)
        save_tokenizer(folder)
        return model, folder

    return make


_RELEASED = (
    ("language_model.lm_head.", "lm_head."),
    ("language_model.model.", "model."),
    ("vision_tower.", "model.vision_tower.vision_tower.vision_model."),
    ("multi_modal_projector.linear_1.", "model.mm_projector.0."),
    ("multi_modal_projector.linear_2.", "model.mm_projector.2."),
    ("image_newline", "model.image_newline"),
)


@pytest.fixture(scope="session")
def as_released(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """Write the same weights as LLaVA-OneVision releases them."""

    def write(hf_folder: Path, model_type: str = "llava") -> Path:
        folder = tmp_path_factory.mktemp("llava_released")
        weights = {}
        for key, value in load_file(hf_folder / "model.safetensors").items():
            ours, theirs = next(pair for pair in _RELEASED if key.startswith(pair[0]))
            weights[theirs + key[len(ours) :]] = value
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        hf = json.loads((hf_folder / "config.json").read_text())
        text = {k: v for k, v in hf["text_config"].items() if k not in ("rope_parameters", "dtype")}
        values = text | {
            "model_type": model_type,
            "architectures": ["LlavaQwenForCausalLM"],
            "rope_theta": 1e6,
            "image_aspect_ratio": "anyres_max_9",
            "image_grid_pinpoints": PINPOINTS,
            "mm_hidden_size": VISION["hidden_size"],
            "mm_patch_merge_type": "spatial_unpad",
            "mm_projector_type": "mlp2x_gelu",
            "mm_resampler_type": None,
            "mm_vision_tower": "google/siglip-so400m-patch14-384",
            "mm_vision_select_layer": -2,
            "tokenizer_model_max_length": 32768,
            "torch_dtype": "float32",
        }
        (folder / "config.json").write_text(json.dumps(values))
        meta = VISION | {"num_hidden_layers_kept": 2}
        (folder / "vision_meta.json").write_text(json.dumps(meta))
        save_tokenizer(folder)
        return folder

    return write


@pytest.fixture(scope="session")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    torch.manual_seed(2)
    folder = tmp_path_factory.mktemp("qwen")
    model = Qwen2ForCausalLM(Qwen2Config(**TEXT, tie_word_embeddings=True)).eval()
    model.save_pretrained(folder)
    save_tokenizer(folder)
    return model, folder


@pytest.fixture(scope="session", params=["pair", "tower alone", "tower with a prefix"])
def siglip(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """Make SigLIP as published, text half and head included, and as towers alone."""
    torch.manual_seed(3)
    folder = tmp_path_factory.mktemp("siglip")
    vision = VISION | {"num_hidden_layers": 3}
    if request.param == "pair":
        text = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
        text |= {"num_attention_heads": 2, "vocab_size": 50_000}
        pair = SiglipModel(SiglipConfig(vision_config=vision, text_config=text))
        pair.save_pretrained(folder)
        return pair.vision_model.eval(), folder
    tower = SiglipVisionModel(SiglipVisionConfig(**vision)).eval()
    tower.save_pretrained(folder)
    if request.param == "tower with a prefix":
        weights = load_file(folder / "model.safetensors")
        weights = {f"vision_model.{key}": value for key, value in weights.items()}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return tower, folder


@pytest.fixture
def ask() -> Callable[..., Any]:
    """Make the inputs of a question about a video of random features."""

    def inputs(processor: Any, frames: int = 12, question: str = "What is it?") -> Any:
        prompt = processor.apply_chat_template(
            [
                {
                    "role": "user",
                    "content": [{"type": "video"}, {"type": "text", "text": question}],
                }
            ],
            tokenize=False,
            add_generation_prompt=True,
        )
        generator = torch.Generator().manual_seed(0)
        features = torch.randn(frames, 64, VISION["hidden_size"], generator=generator)
        return processor(text=[prompt], video_features=[features])

    return inputs
