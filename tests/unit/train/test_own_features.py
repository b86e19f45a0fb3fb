"""Which features of a manifest are looked at before a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hour_llava.data.features import FeaturesHeader, write_features
from hour_llava.data.manifest import Sample, manifest_of, write_manifest
from hour_llava.errors import ConfigError
from hour_llava.recipes.debug import debug_stage2
from hour_llava.train import own_features

HEADER = FeaturesHeader(tower_digest="t", duration_seconds=2)


class Counted:
    """A manifest that counts its rows as they are read."""

    def __init__(self, samples: list[Sample], root: Path) -> None:
        self.rows, self.num_read = manifest_of(samples, root=root), 0

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Sample:
        self.num_read += 1
        return self.rows[index]


def sample(features: str | None = None) -> Sample:
    turns = ({"from": "human", "value": "what"}, {"from": "gpt", "value": "red"})
    return Sample(id="x", conversations=turns, features=features)


def test_the_first_whole_file_is_taken_and_a_long_manifest_is_not_read_through(
    tmp_path: Path,
) -> None:
    (tmp_path / "broken").write_bytes(b"no features")
    write_features(tmp_path / "whole", torch.zeros(2, 4, 8), torch.arange(2), HEADER)
    names = (None, "missing", "broken", "whole", "broken")
    found = own_features.first_features(manifest_of(map(sample, names), root=tmp_path))
    assert found is not None and found.path == tmp_path / "whole"
    texts = Counted([sample()] * 2500, tmp_path)
    assert own_features.first_features(texts) is None  # pyright: ignore[reportArgumentType]
    assert 500 < texts.num_read <= own_features.NUM_LOOKED_AT


def test_rows_with_features_are_refused_where_the_tower_is_trained(tmp_path: Path) -> None:
    write_features(tmp_path / "v", torch.zeros(2, 4, 8), torch.arange(2), HEADER)
    write_manifest(tmp_path / "texts.jsonl", [sample()])
    write_manifest(tmp_path / "videos.jsonl", [sample(), sample("v")])
    texts, videos = (tmp_path / f"{name}.jsonl" for name in ("texts", "videos"))
    config = debug_stage2()
    fine = replace(config, data=replace(config.data, manifest=(texts,)))
    own_features.require_own_features(fine)
    for data in (
        replace(config.data, manifest=(texts, videos)),
        replace(config.data, manifest=(texts,), validation=videos),
    ):
        with pytest.raises(ConfigError, match=r"/v holds .* --optim.lr-vision 0.0001 it changes"):
            own_features.require_own_features(replace(config, data=data))
