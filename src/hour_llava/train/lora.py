"""LoRA on the language model, by peft; projector and MemAug are trained whole beside it.

Adapters are put into the model in place: its class and the names of its other parameters stay. On
disk it is peft's own format, with the parts that are trained whole as `modules_to_save`, so
`PeftModel.from_pretrained(model, folder)` reads it too; `merge_adapter` makes a plain model of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from hour_llava.errors import CheckpointError, ConfigError
from hour_llava.model.checkpoints import listing
from hour_llava.model.released_layout import read_json
from hour_llava.model.tensor_files import open_to_others
from hour_llava.train.config import LoraConfig, ModelConfig

BASE_FILE = "training_base.json"
WEIGHTS_FILE, CONFIG_FILE = "adapter_model.safetensors", "adapter_config.json"
ALWAYS_WHOLE = ("memory_maker", "memaug")
_PLACES = ("start", "language_model", "vision_tower")
_ADAPTER_NAME = "default"
_PREFIX = "base_model.model."


def is_adapter(name: str) -> bool:
    """Say whether a parameter of this name belongs to an adapter."""
    return ".lora_" in name


def has_adapters(model: nn.Module) -> bool:
    """Say whether `add_lora` was here."""
    return any(is_adapter(name) for name, _ in model.named_parameters())


def add_lora(model: nn.Module, lora: LoraConfig, *, seed: int) -> None:
    """Put adapters into the language model, and freeze the rest of it.

    At first they change nothing: one of each pair is 0.

    Args:
        model: a whole Hour-LLaVA; it is changed in place.
        lora: rank, alpha, dropout and targets.
        seed: of the other of each pair.

    Raises:
        ConfigError: peft is not installed, or a target is no linear layer of the language model.
    """
    targets = _targets(model, lora)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    peft = require_peft()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        is_meta = next(model.parameters()).is_meta
        peft.inject_adapter_in_model(
            _peft_config(lora, targets), model, _ADAPTER_NAME, low_cpu_mem_usage=is_meta
        )
    for name, parameter in model.named_parameters():
        is_language = name.startswith(("model.language_model.", "lm_head."))
        parameter.requires_grad_(is_adapter(name) or (name in trained and not is_language))


def require_peft() -> Any:
    """Import peft.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import peft
    except ImportError as error:
        raise ConfigError(
            "LoRA needs peft, which is not installed: pip install 'hour-llava[train]', or train "
            "without --model.lora.rank"
        ) from error
    return peft


def _targets(model: nn.Module, lora: LoraConfig) -> str:
    """Make the expression that matches the language model's layers alone.

    MemAug and the tower have layers of the same names.
    """
    names = "|".join(map(re.escape, lora.targets))
    expression = rf"model\.language_model\..*\.(?:{names})"
    linear = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name.startswith("model.language_model.")
    ]
    for target in lora.targets:
        if not any(name.endswith(f".{target}") for name in linear):
            known = ", ".join(sorted({name.rsplit(".", 1)[1] for name in linear}))
            raise ConfigError(
                f"--model.lora.targets {target}: the language model has no such linear layer; it "
                f"has {known}"
            )
    return expression


def _peft_config(lora: LoraConfig, targets: str, **more: Any) -> Any:
    return require_peft().LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets,
        bias="none", **more,
    )  # fmt: skip


# ------------------------------------------------------------------- on disk


def write_adapter(
    folder: Path,
    weights: Mapping[str, Tensor],
    *,
    model_config: ModelConfig,
    seed: int,
    trained_whole: Iterable[str] = (),
) -> None:
    """Write adapters, and the parts trained whole, as peft reads them.

    Args:
        folder: exists, and is empty.
        weights: of the whole model or more than is needed, by the model's names.
        model_config: what the training began with; `merge_adapter` begins with it again.
        seed: of that.
        trained_whole: modules of the model besides projector and MemAug, such as `vision_tower`.
    """
    parts = tuple(dict.fromkeys((*ALWAYS_WHOLE, *trained_whole)))
    lora = model_config.lora
    names = "|".join(map(re.escape, lora.targets))
    saved = _peft_config(
        lora,
        rf"model\.language_model\..*\.(?:{names})",
        base_model_name_or_path=_absolute(model_config.start or model_config.language_model),
        modules_to_save=list(parts),
        inference_mode=True,
    )
    saved.save_pretrained(str(folder))
    prefixes = tuple(f"model.{part}." for part in parts)
    kept = {
        _PREFIX + name.replace(f".{_ADAPTER_NAME}.", "."): value.detach().cpu().contiguous()
        for name, value in weights.items()
        if is_adapter(name) or name.startswith(prefixes)
    }
    save_file(kept, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    open_to_others(folder / WEIGHTS_FILE)
    places = {n: _absolute(getattr(model_config, n)) for n in _PLACES}
    base = {"model": asdict(replace(model_config, **places)), "seed": seed}
    (folder / BASE_FILE).write_text(json.dumps(base, indent=1) + "\n", encoding="utf-8")


def _absolute(name: str | None) -> str | None:
    """Give a local folder's whole path: the adapter is merged from anywhere."""
    return str(Path(name).absolute()) if name and Path(name).is_dir() else name


def read_base(folder: Path, base: str | None = None) -> tuple[ModelConfig, int]:
    """Say which model an adapter was trained on, and the seed of that model's new weights.

    Args:
        folder: of an adapter.
        base: where the model lies now, if elsewhere.

    Raises:
        CheckpointError: the folder is no adapter of ours.
    """
    if not (folder / CONFIG_FILE).is_file():
        raise CheckpointError(
            f"{folder} has no {CONFIG_FILE}: it is no LoRA adapter; name the folder `model` of a "
            "run with --model.lora.rank"
        )
    values = read_json(folder / BASE_FILE)
    try:
        own = dict(values["model"])
        lora = dict(own.pop("lora"))
        lora["targets"] = tuple(lora["targets"])
        config = ModelConfig(**own, lora=LoraConfig(**lora))
        seed = int(values["seed"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{folder / BASE_FILE} does not say what was trained: {error}"
        ) from error
    if base is not None:
        config = replace(config, start=base, layout="auto", language_model=None, vision_tower=None)
    return config, seed


def load_adapter(model: nn.Module, folder: Path) -> None:
    """Read an adapter's weights into a model that `add_lora` prepared; every one is accounted for.

    Raises:
        CheckpointError: names what is missing, extra, or of a wrong shape.
    """
    own = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    path = folder / WEIGHTS_FILE
    whole = _parts_in(folder)
    wanted = {
        name for name in own if is_adapter(name) or name.startswith(whole)
    } & model.state_dict().keys()
    try:
        with safe_open(path, framework="pt") as file, torch.no_grad():
            names = {_our_name(key): key for key in file.keys()}  # noqa: SIM118
            _check(path, wanted, set(names))
            for name, key in names.items():
                value = file.get_tensor(key)
                if value.shape != own[name].shape:
                    raise CheckpointError(
                        f"{path} has {key} {tuple(value.shape)}, and the base wants "
                        f"{tuple(own[name].shape)}: name the base it was trained on with --base"
                    )
                own[name].copy_(value)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def _parts_in(folder: Path) -> tuple[str, ...]:
    parts = read_json(folder / CONFIG_FILE).get("modules_to_save") or ()
    return tuple(f"model.{part}." for part in parts)


def _our_name(key: str) -> str:
    name = key.removeprefix(_PREFIX)
    return re.sub(r"(\.lora_[A-Za-z_]+)\.", rf"\1.{_ADAPTER_NAME}.", name)


def _check(path: Path, wanted: set[str], found: set[str]) -> None:
    faults = [
        listing("is missing", list(wanted - found)),
        listing("has extra", list(found - wanted)),
    ]
    if any(faults):
        raise CheckpointError(
            f"{path} {'; '.join(fault for fault in faults if fault)}: it belongs to another base; "
            "name the right one with --base"
        )


@torch.no_grad()
def merge_lora(model: nn.Module) -> None:
    """Add the adapters to the layers they sit on, and take them out; in place."""
    from peft.tuners.lora import LoraLayer

    layers = [(n, m) for n, m in model.named_modules() if isinstance(m, LoraLayer)]
    for name, layer in layers:
        layer.merge(safe_merge=True)  # pyright: ignore[reportCallIssue]
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer.get_base_layer())
