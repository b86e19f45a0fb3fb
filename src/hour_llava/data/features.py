"""Features of a video on disk: one safetensors file, in bfloat16, or in a byte a number.

    features (F, P, D)   BF16 | I8 | F8_E4M3
    scale    (F, P)      F32, of I8 and F8: feature = stored x scale of its token
    times    (F,)        F64, presentation seconds

The file says which tower made it; training with another one is refused, for the numbers would fit
and mean nothing.

Letters: F frames, P tokens a frame, D feature size.
Source: arXiv 2506.05332, training stage 3 (features of long videos are extracted beforehand).
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from hour_llava.data.manifest import is_file, shown
from hour_llava.errors import DataError
from hour_llava.model.tensor_files import open_to_others

Storage = Literal["bf16", "int8", "fp8"]

FORMAT = "hour_llava_features"
VERSION = 1
# Raise it when frames become features in another way that no setting shows.
_DIGEST_VERSION = 1
_TOWER_SETTINGS = ("patch_size", "num_hidden_layers", "num_attention_heads", "hidden_act")
_LARGEST = {"int8": 127.0, "fp8": 448.0}
_STORED = {"bf16": "BF16", "int8": "I8", "fp8": "F8_E4M3"}
REMAKE = "delete it and run `hour-llava extract` again"


class CutFeaturesError(DataError):
    """A file of features is not whole: nothing is lost where it is made again."""


@dataclass(frozen=True, kw_only=True)
class FeaturesHeader:
    """What a file's features are of.

    Args:
        tower_digest: Of the tower that made them; see `tower_digest`.
        duration_seconds: Of the video.
        fps: Frames a second that were read.
        video: Path of the video when it was read.
        content_digest: Of the video stream's bytes; empty where it is not known.
    """

    tower_digest: str
    duration_seconds: float
    fps: float = 1.0
    video: str = ""
    content_digest: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class FeaturesFile:
    """An open file of features; the features are read when asked for."""

    path: Path
    header: FeaturesHeader
    storage: Storage
    shape: tuple[int, int, int]

    @property
    def num_frames(self) -> int:
        """Count the frames."""
        return self.shape[0]

    def read(self) -> Tensor:
        """Read the features (F, P, D) as bfloat16.

        Raises:
            DataError: they hold NaN or infinity; the first such frame is named. The file has gone,
                or cannot be read.
        """
        features_FPD = self._tensor("features")
        if self.storage != "bf16":
            features_FPD = (features_FPD.float() * self._tensor("scale")[..., None]).bfloat16()
        require_finite(features_FPD, self.path)
        return features_FPD

    def times(self) -> Tensor:
        """Read the presentation seconds (F,).

        Raises:
            DataError: the file has gone, or cannot be read.
        """
        return self._tensor("times")

    def _tensor(self, name: str) -> Tensor:
        try:
            with safe_open(self.path, framework="pt") as file:
                return file.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise DataError(f"{self.path}: cannot be read ({error}): {REMAKE}") from error

    def require(
        self,
        *,
        tower: str | None,
        tokens_per_frame: int,
        feature_size: int,
        fps: float | None = None,
    ) -> None:
        """Refuse features that a model cannot be trained on.

        Args:
            tower: The model's `tower_digest`; None: any.
            fps: Frames a second of the run; None: any.
            tokens_per_frame: P of the model.
            feature_size: D of the model.

        Raises:
            DataError: another tower, shape or rate; both are named.
        """
        if fps is not None and self.header.fps != fps:
            raise DataError(
                f"{self.path}: made at {self.header.fps:g} frames a second, asked are {fps:g}: set "
                "the rate to theirs, or extract them anew"
            )
        if self.shape[1:] != (tokens_per_frame, feature_size):
            raise DataError(
                f"{self.path}: features of {self.shape[1]} tokens x {self.shape[2]} a frame, the "
                f"model reads {tokens_per_frame} x {feature_size}: extract them anew with "
                "`hour-llava extract --model`"
            )
        if tower is not None and self.header.tower_digest != tower:
            raise DataError(
                f"{self.path}: made by the tower {self.header.tower_digest}, the model's is "
                f"{tower}: extract them anew with `hour-llava extract --model`"
            )


def write_features(
    path: Path,
    features_FPD: Tensor,
    times_F: Tensor,
    header: FeaturesHeader,
    *,
    storage: Storage = "bf16",
) -> None:
    """Write a file of features, whole or not at all.

    Args:
        path: Its folder is made where it is missing.
        features_FPD: Of any float type.
        times_F: Presentation seconds.
        header: What they are of.
        storage: How they are kept.

    Raises:
        DataError: NaN or infinity in the features; counts that differ.
    """
    if features_FPD.dim() != 3 or len(times_F) != len(features_FPD) or not len(times_F):
        raise DataError(
            f"{path}: features of shape {tuple(features_FPD.shape)} (F, P, D) do not fit "
            f"{len(times_F)} times"
        )
    require_finite(features_FPD, path)
    tensors = {"times": times_F.double().contiguous()}
    if storage == "bf16":
        tensors["features"] = features_FPD.bfloat16().contiguous()
    else:
        tensors["features"], tensors["scale"] = quantise(features_FPD, storage)
    metadata = {FORMAT: json.dumps({"version": VERSION, **asdict(header)}, sort_keys=True)}
    path.parent.mkdir(parents=True, exist_ok=True)
    # A folder, for what safetensors leaves when it is killed.
    unfinished = path.with_name(f".{path.name}.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    try:
        whole = unfinished / "features"
        save_file(tensors, whole, metadata=metadata)
        open_to_others(whole)
        whole.replace(path)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def quantise(features_FPD: Tensor, storage: Literal["int8", "fp8"]) -> tuple[Tensor, Tensor]:
    """Keep a byte a number, with one scale a token: (F, P, D) and (F, P) float32."""
    features = features_FPD.float()
    largest = features.abs().amax(-1, keepdim=True)
    scale = torch.where(largest > 0, largest / _LARGEST[storage], torch.ones_like(largest))
    scaled = features / scale
    if storage == "int8":
        stored = scaled.round().clamp(-127, 127).to(torch.int8)
    else:
        stored = scaled.clamp(-448, 448).to(torch.float8_e4m3fn)
    return stored.contiguous(), scale.squeeze(-1).contiguous()


def open_features(path: str | Path) -> FeaturesFile:
    """Open a file of features; only its header is read.

    Raises:
        CutFeaturesError: cut short, or no safetensors.
        DataError: missing, unreadable, foreign or newer; the message names the file.
    """
    file = Path(path)
    if not is_file(file):
        raise DataError(
            f"{shown(str(file))}: no such file of features; `hour-llava extract` makes it"
        )
    try:
        with safe_open(file, framework="pt") as opened:
            metadata: Mapping[str, str] = opened.metadata() or {}
            document = json.loads(metadata[FORMAT])
            found = opened.get_slice("features")
            shape, dtype = tuple(found.get_shape()), found.get_dtype()
            num_times = opened.get_slice("times").get_shape()[0]
        version = document.pop("version")
    except SafetensorError as error:
        raise CutFeaturesError(f"{file}: no whole file of features ({error}): {REMAKE}") from error
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file}: not of hour-llava's making ({error!r}): {REMAKE}") from error
    if version != VERSION:
        raise DataError(
            f"{file}: features of version {version}, this hour-llava reads {VERSION}: upgrade it"
        )
    storages: dict[str, Storage] = {_STORED[name]: name for name in ("bf16", "int8", "fp8")}
    names = {field.name for field in fields(FeaturesHeader)}
    if dtype not in storages or len(shape) != 3 or num_times != shape[0] or not shape[0]:
        raise DataError(f"{file}: features {dtype} {shape} with {num_times} times: {REMAKE}")
    if names != document.keys():
        raise DataError(f"{file}: its header has {sorted(names ^ document.keys())} wrong: {REMAKE}")
    return FeaturesFile(
        path=file,
        header=FeaturesHeader(**document),
        storage=storages[dtype],
        shape=(shape[0], shape[1], shape[2]),
    )


def require_finite(features_FPD: Tensor, path: Path) -> None:
    """Refuse NaN and infinity.

    Raises:
        DataError: names the first frame that has some.
    """
    if bool(torch.isfinite(features_FPD.sum(dtype=torch.float32))):
        return  # one NaN or infinity would have made the sum one
    bad = (~torch.isfinite(features_FPD)).flatten(1).any(1).nonzero()
    if len(bad):
        raise DataError(
            f"{path}: NaN or infinity in the features of frame {int(bad[0])} ({len(bad)} of "
            f"{len(features_FPD)} frames): {REMAKE}"
        )


def tower_digest(model: Any) -> str:
    """Name a model's tower and all else that turns frames into features.

    Weights count as bfloat16, so that a model loaded in float32 and in bfloat16 has one name.

    Args:
        model: `HourLlavaForConditionalGeneration`.
    """
    return tower_digest_of(model.config, model.model.vision_tower.state_dict())


def tower_digest_of(config: Any, weights: Mapping[str, Tensor]) -> str:
    """Name a tower by a model's configuration and the tower's weights; see `tower_digest`."""
    vision = config.vision_config
    settings = {
        "version": _DIGEST_VERSION,
        "pool_size": config.pool_size,
        "tile_size": config.tile_size,
        **{name: getattr(vision, name) for name in _TOWER_SETTINGS},
    }
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name, weight in sorted(weights.items()):
        digest.update(f"{name} {tuple(weight.shape)}".encode())
        stored = weight.detach().bfloat16().contiguous().cpu()
        digest.update(stored.view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]
