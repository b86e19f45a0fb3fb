"""Checkpoint folders: found by name, checked key by key, loaded within their own size, converted.

Loading is strict: a missing or extra key, a wrong shape or another model is one clear error.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import AutoTokenizer, GenerationConfig, Qwen2Config
from transformers.utils import logging

from hour_llava.errors import (
    CheckpointError,
    HourLlavaError,
    ModelNotFoundError,
    ResourceError,
)
from hour_llava.model.configuration_hour_llava import SO400M_384, HourLlavaConfig
from hour_llava.model.modeling_hour_llava import HourLlavaForConditionalGeneration
from hour_llava.model.processing_hour_llava import HourLlavaProcessor
from hour_llava.model.released_layout import (
    RELEASED_TYPE,
    VISION_META,
    config_from_released,
    config_to_released,
    our_key,
    read_json,
    released_key,
)
from hour_llava.model.tensor_files import DTYPES, TensorEntry, read_folder, write_folder

Layout = Literal["hour-llava", "released"]

BUILTIN = Path(__file__).parent.parent / "builtin"
TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "merges.txt", "generation_config.json"),
)
HEAD, EMBEDDING = "lm_head.weight", "model.language_model.embed_tokens.weight"
NAMED_AT_MOST = 4


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint folder of either layout, read and checked: all but its weights are in memory.

    Args:
        folder: where it lies.
        layout: "hour-llava" or "released".
        config: in our form.
        tokenizer: its own.
        entries: where each tensor lies, by our names; a tied head is left out.
    """

    folder: Path
    layout: Layout
    config: HourLlavaConfig
    tokenizer: Any
    entries: dict[str, TensorEntry]

    @property
    def num_bytes(self) -> int:
        """Count the weights' bytes."""
        return sum(entry.num_bytes for entry in self.entries.values())

    def processor(self) -> HourLlavaProcessor:
        """Make the processor: the folder's own, or the released one's.

        Raises:
            CheckpointError: a folder of our layout lacks a file without which answers would change.
        """
        if self.layout == "released":
            return HourLlavaProcessor.from_config(self.config, self.tokenizer)
        for name in ("processor_config.json", "chat_template.jinja"):
            if not (self.folder / name).is_file():
                raise CheckpointError(
                    f"{self.folder} has no {name}: without it questions would be put otherwise "
                    "than in training; save the processor there, or copy the folder again"
                )
        return HourLlavaProcessor.from_pretrained(self.folder)


def find_folder(name: str | Path) -> Path:
    """Find a model by name: built in, a local folder, or a hub id.

    Raises:
        ModelNotFoundError: nothing of that name is here, and the hub does not have it or is away.
    """
    path = Path(name)
    if not str(name):
        raise ModelNotFoundError("the model's name is empty; name one, or leave --model out")
    if (BUILTIN / path).is_dir() and path.name == str(name):
        return BUILTIN / path
    if path.is_dir():
        return path
    if path.exists():
        raise ModelNotFoundError(f"{name} is a file; a model is a folder with config.json")
    if str(name).count("/") != 1 or str(name).startswith((".", "/", "~")):
        known = sorted(p.name for p in BUILTIN.glob("*") if p.is_dir())
        raise ModelNotFoundError(
            f"no model is called {name}: name a built-in one ({', '.join(known)}), a local folder, "
            "or a hub id like jylins/hourllava-qwen25-3b-s3"
        )
    return _from_hub(str(name))


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download

    patterns = ["*.json", "*.safetensors", "*.txt", "*.jinja"]
    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except Exception as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise ModelNotFoundError(
            f"{name} is no local folder, and the hub did not give it ({reason}): check the name "
            "and the connection, or pass a folder"
        ) from error


def read_checkpoint(name: str | Path) -> Checkpoint:
    """Read a checkpoint folder of either layout, and check its tensors one by one.

    Raises:
        ModelNotFoundError: nothing of that name.
        CheckpointError: names what is missing, extra, of a wrong shape, or of another model.
    """
    folder = find_folder(name)
    with naming_folder(folder):
        return _read_checkpoint(folder)


@contextmanager
def naming_folder(folder: Path) -> Iterator[None]:
    """Name the folder in whatever its broken files make the libraries raise."""
    try:
        yield
    except (HourLlavaError, MemoryError):
        raise
    except (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{folder} holds files that make no model ({type(error).__name__}: {reason}); copy or "
            "convert it again"
        ) from error


def read_config_json(folder: Path) -> dict[str, Any]:
    """Read a model folder's config.json.

    Raises:
        CheckpointError: it is missing or no JSON, or the folder is a LoRA adapter.
    """
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        raise CheckpointError(
            f"{folder} is a LoRA adapter, not a model: `hour-llava merge {folder} --out FOLDER` "
            "makes one of it"
        )
    return read_json(folder / "config.json")


def _read_checkpoint(folder: Path) -> Checkpoint:
    values = read_config_json(folder)
    model_type = values.get("model_type")
    if model_type not in (HourLlavaConfig.model_type, RELEASED_TYPE):
        is_llava = model_type == "llava_onevision" or "mm_vision_tower" in values
        hint = "; it has no MemAug, but training starts from it: --model.start" if is_llava else ""
        raise CheckpointError(
            f"{folder} holds a {model_type!r} model; Hour-LLaVA reads "
            f"{HourLlavaConfig.model_type!r} and {RELEASED_TYPE!r}{hint}"
        )
    entries = read_folder(folder)
    tokenizer = read_tokenizer(folder)
    if model_type == RELEASED_TYPE:
        config = config_from_released(values, folder, num_words=len(tokenizer))
        entries = {our_key(key): entry for key, entry in entries.items()}
        layout: Layout = "released"
    else:
        config, layout = HourLlavaConfig.from_dict(values), "hour-llava"
    entries = without_tied_head(folder, config, entries)
    _check(folder, config, entries, layout)
    return Checkpoint(
        folder=folder, layout=layout, config=config, tokenizer=tokenizer, entries=entries
    )


def read_tokenizer(folder: Path) -> Any:
    """Read the tokenizer; transformers would make an empty one where its files are missing."""
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        raise CheckpointError(f"{folder} has no tokenizer.json: copy the tokenizer's files there")
    try:
        # With a configuration of its own: transformers does not know the released one.
        return AutoTokenizer.from_pretrained(folder, config=Qwen2Config())
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise CheckpointError(f"the tokenizer in {folder} cannot be read: {reason}") from error


def without_tied_head(
    folder: Path, config: HourLlavaConfig, entries: dict[str, TensorEntry]
) -> dict[str, TensorEntry]:
    """Drop the copy of the embedding that some training runs write for a tied head."""
    if not config.tie_word_embeddings or HEAD not in entries:
        return entries
    if EMBEDDING in entries and not torch.equal(entries[HEAD].read(), entries[EMBEDDING].read()):
        raise CheckpointError(
            f"{folder} ties {HEAD} to the embedding in config.json, but holds another one: set "
            "tie_word_embeddings to false, or remove it"
        )
    return {key: entry for key, entry in entries.items() if key != HEAD}


def expected_shapes(config: HourLlavaConfig) -> dict[str, tuple[int, ...]]:
    """Name every tensor that a checkpoint of this configuration holds, with its shape."""
    with torch.device("meta"):
        model = HourLlavaForConditionalGeneration(config)
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    if config.tie_word_embeddings:
        shapes.pop(HEAD, None)
    return shapes


def _check(
    folder: Path, config: HourLlavaConfig, entries: Mapping[str, TensorEntry], layout: Layout
) -> None:
    wanted = expected_shapes(config)
    name = released_key if layout == "released" else str
    faults = [
        listing("is missing", [name(key) for key in wanted.keys() - entries.keys()]),
        listing("has extra", [name(key) for key in entries.keys() - wanted.keys()]),
        listing(
            "has wrong shapes:",
            [
                f"{name(key)} {entries[key].shape}, not {wanted[key]}"
                for key in wanted.keys() & entries.keys()
                if entries[key].shape != wanted[key]
            ],
        ),
    ]
    if any(faults):
        raise CheckpointError(
            f"{folder} {'; '.join(fault for fault in faults if fault)}: its weights do not belong "
            "to its config.json"
        )


def listing(what: str, names: list[str]) -> str:
    """Put the first few names behind `what`, and count the rest; nothing for no names."""
    if not names:
        return ""
    rest = f" and {len(names) - NAMED_AT_MOST} more" if len(names) > NAMED_AT_MOST else ""
    return f"{what} {', '.join(sorted(names)[:NAMED_AT_MOST])}{rest}"


def load_pretrained(
    name: str | Path,
    *,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
) -> tuple[HourLlavaForConditionalGeneration, HourLlavaProcessor]:
    """Load a model of either layout, ready to answer, and its processor.

    Args:
        name: built-in name, local folder, or hub id.
        dtype: of the weights; None: as stored.
        device: where to put the model; None: the CPU.

    Raises:
        ModelNotFoundError, CheckpointError: see `read_checkpoint`.

    Cost: the weights are read once, into place; memory peaks at about their size.
    """
    found = read_checkpoint(name)
    wanted = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    stored = DTYPES[found.entries["model.memory_maker.newline"].dtype]
    name_of = released_key if found.layout == "released" else str
    weights = {
        key: read_numbers(entry, name=name_of(key)).to(wanted or stored)
        for key, entry in found.entries.items()
    }
    with without_loading_bar():
        model = HourLlavaForConditionalGeneration.from_pretrained(
            None, config=found.config, state_dict=weights, dtype=wanted or stored
        )
    with naming_folder(found.folder):
        if (found.folder / "generation_config.json").is_file():
            model.generation_config = GenerationConfig.from_pretrained(found.folder)
        processor = found.processor()
    model.eval()
    if device is not None:
        model.to(torch.device(device))  # pyright: ignore[reportArgumentType]
    return model, processor


def read_numbers(entry: TensorEntry, *, name: str) -> Tensor:
    """Read a tensor, and refuse one that a broken training run or a damaged file left behind."""
    tensor = entry.read()
    ends = torch.stack(tensor.aminmax()) if tensor.numel() else tensor  # NaN wins both
    if not bool(ends.isfinite().all()):
        raise CheckpointError(
            f"{entry.path.parent} holds NaN or infinite numbers in {name}: whatever is asked, it "
            "could not answer; copy it again, or take an earlier checkpoint"
        )
    return tensor


@contextmanager
def without_loading_bar() -> Iterator[None]:
    """Keep transformers' progress bar off stderr: it counts tensors already read."""
    was_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            logging.enable_progress_bar()


def convert(source: str | Path, destination: Path, *, to: Layout = "hour-llava") -> Checkpoint:
    """Convert a checkpoint to the other layout: the same bytes under other names.

    The folder appears under its name when it is whole; until then it ends in `.partial`.

    Returns:
        The source, as it was read.

    Raises:
        CheckpointError: the source does not fit, has that layout already, or would lose something;
            the destination is taken, or lies in the source.
        ResourceError: the disk is too small, or the destination cannot be written.
    """
    found = read_checkpoint(source)
    if found.layout == to:
        raise CheckpointError(f"{source} has the {to} layout already: there is nothing to convert")
    config = config_to_released(found.config) if to == "released" else None
    if destination.resolve().is_relative_to(found.folder.resolve()):
        raise CheckpointError(
            f"{destination} lies in {source}, the checkpoint that is read; name a folder elsewhere"
        )
    partial = destination.absolute().with_name(destination.absolute().name + ".partial")
    if found.folder.resolve().is_relative_to(partial.resolve()):
        raise CheckpointError(
            f"{partial} is where {destination} would be written, and holds what is read; name "
            "another folder"
        )
    is_ours = False
    try:
        if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
            raise CheckpointError(
                f"{destination} exists: name a folder that does not, or an empty one"
            )
        partial.parent.mkdir(parents=True, exist_ok=True)
        _require_disk(partial.parent, found.num_bytes)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        is_ours = True
        _write(partial, found, config)
        if destination.exists():
            destination.rmdir()
        partial.rename(destination)
    except OSError as error:
        where = "" if error.filename is None else f" ({error.filename})"
        raise ResourceError(
            f"{destination} cannot be written: {error.strerror}{where}; name a folder elsewhere"
        ) from error
    finally:
        if is_ours:
            shutil.rmtree(partial, ignore_errors=True)
    return found


def _write(folder: Path, found: Checkpoint, released_config: dict[str, Any] | None) -> None:
    for name in TOKENIZER_FILES:
        if (found.folder / name).is_file():
            shutil.copyfile(found.folder / name, folder / name)
    if released_config is None:
        found.config.dtype = DTYPES[found.entries["model.memory_maker.newline"].dtype]
        found.config.architectures = [HourLlavaForConditionalGeneration.__name__]
        found.config.save_pretrained(folder)
        processor = found.processor()
        processor.to_json_file(folder / "processor_config.json")
        (folder / "chat_template.jinja").write_text(str(processor.chat_template), encoding="utf-8")
        write_folder(folder, found.entries)
        return
    text = json.dumps(released_config, indent=2, sort_keys=True)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")
    if any(getattr(found.config.vision_config, k) != v for k, v in SO400M_384.items()):
        _write_vision_meta(folder, found.config)
    write_folder(folder, {released_key(key): entry for key, entry in found.entries.items()})


def _write_vision_meta(folder: Path, config: HourLlavaConfig) -> None:
    vision = config.vision_config
    names = ("hidden_size", "intermediate_size", "num_attention_heads", "image_size", "patch_size")
    names += ("hidden_act", "layer_norm_eps", "num_channels")
    meta = {name: getattr(vision, name) for name in names}
    meta["num_hidden_layers_kept"] = vision.num_hidden_layers
    (folder / VISION_META).write_text(json.dumps(meta, indent=1) + "\n", encoding="utf-8")


def _require_disk(folder: Path, num_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise ResourceError(
            f"{folder} has {free / 1e9:.1f} GB free; the checkpoint needs {num_bytes / 1e9:.1f} GB"
        )
