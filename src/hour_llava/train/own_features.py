"""Features that a run cannot use are refused when it starts, not where their turn comes.

They are of another tower, shape or rate, or the tower is trained: then they are not what it makes.

One file of each stream is looked at: those of a stream were extracted together, and the headers of
all of them would take hours to read.
"""

from __future__ import annotations

from pathlib import Path

from hour_llava.data.features import FeaturesFile, open_features, tower_digest_of
from hour_llava.data.manifest import Manifest, read_manifest
from hour_llava.errors import ConfigError, DataError
from hour_llava.model.checkpoints import read_numbers
from hour_llava.train.config import TrainConfig
from hour_llava.train.start import TOWER, Start, read_start

NUM_LOOKED_AT = 1000


def require_own_features(config: TrainConfig) -> None:
    """Refuse a run whose features its model did not make, or makes anew at each step.

    Raises:
        ConfigError: The tower is trained; the first file is named.
        DataError: Another tower, shape or rate; the file and both are named. A manifest cannot be
            read.
        ModelNotFoundError, CheckpointError: See `read_start`.

    Cost: rows of each stream until one has features, `NUM_LOOKED_AT` at most; where one has, the
    tower's weights are read.
    """
    data = config.data
    manifests = [*data.manifest, *([data.validation] if data.validation else [])]
    opened = (read_manifest(path, root=data.root, features=data.features) for path in manifests)
    files = [file for manifest in opened if (file := first_features(manifest)) is not None]
    if not files:
        return
    rate = config.optim.lr_vision
    if rate > 0:
        raise ConfigError(
            f"{files[0].path} holds what the tower made before training; with --optim.lr-vision "
            f"{rate:g} it changes from step to step: freeze it (0), or read the videos"
        )
    start = read_start(config.model)
    tower = start_tower_digest(start)
    for file in files:
        file.require(
            tower=tower,
            fps=data.fps,
            tokens_per_frame=start.config.pool_size**2,
            feature_size=start.config.vision_config.hidden_size,
        )


def first_features(manifest: Manifest) -> FeaturesFile | None:
    """Open the first whole file of features among rows from all over a manifest."""
    step = -(-len(manifest) // NUM_LOOKED_AT)
    for index in range(0, len(manifest), step):
        try:
            path = manifest[index].features
            if path is not None and Path(path).is_file():
                return open_features(path)
        except DataError:  # the run replaces, counts and names what cannot be read
            continue
    return None


def start_tower_digest(start: Start) -> str:
    """Name the tower that training starts from, as `tower_digest` does; only it is read."""
    weights = {
        key.removeprefix(TOWER): read_numbers(entry, name=start.source_names[key])
        for key, entry in start.entries.items()
        if key.startswith(TOWER)
    }
    return tower_digest_of(start.config, weights)
