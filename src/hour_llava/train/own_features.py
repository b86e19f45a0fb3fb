"""Features that a run cannot use are refused when it starts, not where their turn comes.

They are of another tower, shape or rate, of another video than the row's, or the tower is trained:
then they are not what it makes. A folder of features that has none for any row is refused too.

One file of each stream is looked at: those of a stream were extracted together, and the headers of
all of them would take hours to read.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hour_llava.data.extraction import other_content
from hour_llava.data.features import FeaturesFile, open_features, tower_digest_of
from hour_llava.data.manifest import Manifest, features_path, is_file, read_manifest
from hour_llava.errors import ConfigError, DataError, VideoError
from hour_llava.model.checkpoints import read_numbers
from hour_llava.train.config import TrainConfig
from hour_llava.train.start import TOWER, Start, read_start

NUM_LOOKED_AT = 1000


def require_own_features(config: TrainConfig) -> None:
    """Refuse a run whose features its model did not make, or makes anew at each step.

    Raises:
        ConfigError: The tower is trained; the first file is named. No row that was looked at has
            features where `data.features` is given.
        DataError: Another tower, shape, rate or video; the file and both are named. A manifest
            cannot be read.
        ModelNotFoundError, CheckpointError: See `read_start`.

    Cost: rows of each stream until one has features, `NUM_LOOKED_AT` at most; where one has, the
    tower's weights are read.
    """
    data = config.data
    manifests = [*data.manifest, *([data.validation] if data.validation else [])]
    opened = [read_manifest(path, root=data.root, features=data.features) for path in manifests]
    found = [first for manifest in opened if (first := first_features(manifest)) is not None]
    if not found:
        if data.features is not None:
            _require_place(data.features, opened)
        return
    rate = config.optim.lr_vision
    if rate > 0:
        raise ConfigError(
            f"{found[0][0].path} holds what the tower made before training; with --optim.lr-vision "
            f"{rate:g} it changes from step to step: freeze it (0), or read the videos"
        )
    start = read_start(config.model)
    tower = start_tower_digest(start)
    for file, video in found:
        file.require(
            tower=tower,
            fps=data.fps,
            tokens_per_frame=start.config.pool_size**2,
            feature_size=start.config.vision_config.hidden_size,
        )
        _require_of(file, video)


def first_features(manifest: Manifest) -> tuple[FeaturesFile, str | None] | None:
    """Open the first whole file of features among rows from all over a manifest.

    Returns:
        It and its row's video.
    """
    for index in _looked_at(manifest):
        try:
            sample = manifest[index]
            if sample.features is not None and Path(sample.features).is_file():
                return open_features(sample.features), sample.video
        except DataError:  # the run replaces, counts and names what cannot be read
            continue
    return None


def _looked_at(manifest: Manifest) -> range:
    return range(0, len(manifest), -(-len(manifest) // NUM_LOOKED_AT))


def _require_of(file: FeaturesFile, video: str | None) -> None:
    """Refuse features of another video: two manifests may call two files by one path."""
    if video is None or not is_file(Path(video)):
        return
    try:
        other = other_content(Path(video), file)
    except (VideoError, ImportError):  # broken, or no decoder here: its features are there
        return
    if other:
        raise DataError(
            f"{file.path}: made of {file.header.video}, the row's video is {video}, which shows "
            "something else: give each manifest's features a folder and a run of their own, or "
            "name them in its rows (`features`)"
        )


def _require_place(folder: Path, manifests: Sequence[Manifest]) -> None:
    """Refuse a folder of features in which no row looked at has any; text and images need none."""
    for manifest in manifests:
        for index in _looked_at(manifest):
            try:
                video = manifest.raw(index).video
                if video is not None:
                    raise ConfigError(
                        f"--data.features {folder} has features for no row that was looked at: "
                        f"{features_path(folder, video)}, for one, is not there; `hour-llava "
                        f"extract {manifest.where(index).rpartition(':')[0]} --out {folder}` "
                        "makes them by the manifest's own paths"
                    )
            except DataError:
                continue


def start_tower_digest(start: Start) -> str:
    """Name the tower that training starts from, as `tower_digest` does; only it is read."""
    weights = {
        key.removeprefix(TOWER): read_numbers(entry, name=start.source_names[key])
        for key, entry in start.entries.items()
        if key.startswith(TOWER)
    }
    return tower_digest_of(start.config, weights)
