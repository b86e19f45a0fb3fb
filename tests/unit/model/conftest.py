"""Tiny random models of both kinds: the released architecture, and nano's options."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from hour_llava.model.configuration_hour_llava import HourLlavaConfig
from hour_llava.model.modeling_hour_llava import HourLlavaForConditionalGeneration
from hour_llava.model.processing_hour_llava import HourLlavaProcessor

SPECIALS = ["<unk>", "<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEXT_WORDS = """system user assistant you are a helpful what colour is the ring ? red green blue .
1 2 3 You seconds"""
WORDS = SPECIALS + TEXT_WORDS.split()
VISION = {
    "model_type": "siglip_vision_model",
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 4,
    "vision_use_head": False,
}
TEXT = {
    "model_type": "qwen2",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "bos_token_id": None,
    "eos_token_id": 3,
    "pad_token_id": 1,
}


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        unk_token="<unk>",
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>"],
    )


@pytest.fixture(scope="session")
def make_config() -> Any:
    def make(**changes: Any) -> HourLlavaConfig:
        """The released architecture, tiny; placeholders outside the vocabulary."""
        text = TEXT | {"vocab_size": len(WORDS)} | changes.pop("text", {})
        values = {
            "image_token_id": len(WORDS),
            "video_token_id": len(WORDS) + 1,
            "pool_size": 2,
            "memaug_num_layers": 2,
            "min_memory_frames": 8,
            "spatial_forgetting": "uniform",
            "time_instruction": False,
        }
        return HourLlavaConfig(vision_config=VISION, text_config=text, **(values | changes))

    return make


@pytest.fixture(scope="session")
def make_model(make_config: Any) -> Any:
    def make(**changes: Any) -> HourLlavaForConditionalGeneration:
        torch.manual_seed(0)
        model = HourLlavaForConditionalGeneration(make_config(**changes)).eval()
        with torch.no_grad():  # lively weights: at 0.02 every answer looks alike
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.mul_(4.0)
        return model

    return make


@pytest.fixture(scope="session")
def model(make_model: Any) -> HourLlavaForConditionalGeneration:
    return make_model()


@pytest.fixture(scope="session")
def nano_options() -> dict[str, Any]:
    return {
        "projector_layer_norm": True,
        "tube_size": 2,
        "time_features": True,
        "log_n_reference": 20,
        "max_kept_frames": 3,
        "min_memory_frames": 4,
    }


@pytest.fixture(scope="session")
def processor(
    model: HourLlavaForConditionalGeneration, tokenizer: PreTrainedTokenizerFast
) -> HourLlavaProcessor:
    return HourLlavaProcessor.from_config(model.config, tokenizer)


@pytest.fixture
def features() -> torch.Tensor:
    return torch.randn(20, 4, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def ask(processor: HourLlavaProcessor) -> Any:
    def prompt(question: str = "what colour is the ring ?", kind: str | None = "video") -> str:
        content: list[dict[str, str]] = [{"type": kind}] if kind else []
        content.append({"type": "text", "text": question})
        messages = [{"role": "user", "content": content}]
        return processor.apply_chat_template(messages, add_generation_prompt=True)

    return prompt
