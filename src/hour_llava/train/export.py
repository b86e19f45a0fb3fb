"""What a run leaves behind: a folder that answers questions, or an adapter to merge.

A folder appears under its name when it is whole; until then it ends in `.partial`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from huggingface_hub import save_torch_state_dict
from safetensors import SafetensorError
from torch import Tensor, nn

from hour_llava.errors import CheckpointError, ResourceError
from hour_llava.model.checkpoints import HEAD
from hour_llava.model.modeling_hour_llava import HourLlavaForConditionalGeneration
from hour_llava.model.processing_hour_llava import HourLlavaProcessor
from hour_llava.model.tensor_files import open_to_others
from hour_llava.train.config import LoraConfig, ModelConfig
from hour_llava.train.initialise import initialise
from hour_llava.train.lora import (
    add_lora,
    has_adapters,
    load_adapter,
    merge_lora,
    read_base,
    require_peft,
    write_adapter,
)
from hour_llava.train.start import read_start


def export(
    model: HourLlavaForConditionalGeneration,
    processor: HourLlavaProcessor,
    folder: Path,
    *,
    model_config: ModelConfig | None = None,
    seed: int = 0,
    state_dict: Mapping[str, Tensor] | None = None,
    dtype: torch.dtype | None = None,
    remedy: str = "free some space or name a folder elsewhere",
) -> None:
    """Write the trained model: all of it, or with LoRA the adapter.

    Args:
        model: unwrapped; where its weights are sharded, hand `state_dict`.
        processor: its own.
        folder: an earlier one of that name is replaced.
        model_config: what the run began with; an adapter cannot be saved without.
        seed: of the run.
        state_dict: the whole weights by the model's names; None: the model's own.
        dtype: of the weights in the file; None: as they are.
        remedy: what a user can do where the disk is full.

    Raises:
        ResourceError: the folder cannot be written; an earlier one stays as it was.
    """
    weights = dict(model.state_dict() if state_dict is None else state_dict)
    if dtype is not None:
        weights = {k: v.to(dtype) if v.is_floating_point() else v for k, v in weights.items()}
    with _appearing(folder, remedy) as partial:
        processor.save_pretrained(partial)
        if has_adapters(model):
            if model_config is None:
                raise ValueError("an adapter is saved with the model_config it was trained from")
            write_adapter(
                partial,
                weights,
                model_config=model_config,
                seed=seed,
                trained_whole=_trained_besides(model),
            )
        else:
            _write_model(model, weights, partial)


def _trained_besides(model: nn.Module) -> list[str]:
    """Name the parts besides projector, MemAug and language model that were trained."""
    tower = model.get_submodule("model.vision_tower")
    return ["vision_tower"] if any(p.requires_grad for p in tower.parameters()) else []


def _write_model(
    model: HourLlavaForConditionalGeneration, weights: dict[str, Tensor], folder: Path
) -> None:
    if model.config.tie_word_embeddings:
        weights.pop(HEAD, None)
    stored = weights["model.memory_maker.newline"].dtype
    config = type(model.config).from_dict(model.config.to_dict())
    config.dtype = stored
    config.architectures = [HourLlavaForConditionalGeneration.__name__]
    config.save_pretrained(folder)
    if model.generation_config is not None:
        model.generation_config.save_pretrained(folder)
    save_torch_state_dict(
        {name: value.detach() for name, value in weights.items()},
        folder,
        metadata={"format": "pt"},
    )
    open_to_others(*folder.glob("*.safetensors"))


@contextmanager
def _appearing(folder: Path, remedy: str) -> Iterator[Path]:
    """Give a folder to fill that takes its name when it is whole."""
    final = folder.absolute()
    partial = final.with_name(final.name + ".partial")
    replaced = final.with_name(final.name + ".replaced")
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        yield partial
        shutil.rmtree(replaced, ignore_errors=True)
        if final.exists():
            final.rename(replaced)
        partial.rename(final)
        shutil.rmtree(replaced, ignore_errors=True)
    except (OSError, SafetensorError) as error:  # a full disk is no OSError of safetensors
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise ResourceError(f"{folder} cannot be written: {reason}; {remedy}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def merge_adapter(
    adapter: Path, out: Path, *, base: str | None = None, dtype: torch.dtype | None = None
) -> None:
    """Make a plain model of an adapter and the model it was trained on.

    Weights are added in float32.

    Args:
        adapter: the folder of a LoRA run's model.
        out: a folder that does not exist yet, or is empty.
        base: where the model it was trained on lies now; None: where the run found it.
        dtype: of the weights written; None: as the base has them.

    Raises:
        ModelNotFoundError: the base is not where it was.
        CheckpointError: adapter and base do not belong together; `out` is taken.
        ResourceError: `out` cannot be written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CheckpointError(f"{out} exists: name a folder that does not, or an empty one")
    config, seed = read_base(adapter, base)
    require_peft()
    plain = replace(config, lora=LoraConfig())
    if dtype is None:
        stored = {entry.dtype for entry in read_start(plain).entries.values()}
        dtype = torch.bfloat16 if stored == {"BF16"} else torch.float32
    model, processor = initialise(plain, seed=seed)
    add_lora(model, config.lora, seed=seed)
    load_adapter(model, adapter)
    merge_lora(model)
    export(model, processor, out, dtype=dtype)
