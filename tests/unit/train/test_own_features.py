"""Which features of a manifest are looked at before a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hour_llava.data.features import FeaturesHeader, tower_digest, write_features
from hour_llava.data.manifest import Sample, manifest_of, write_manifest
from hour_llava.errors import ConfigError, DataError
from hour_llava.recipes.debug import debug_stage2, make_model
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
    assert found is not None and found[0].path == tmp_path / "whole"
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


def test_features_of_another_video_that_is_called_the_same_are_refused(tmp_path: Path) -> None:
    from hour_llava.video import probe
    from hour_llava.world.timeline import make_timeline
    from hour_llava.world.video_file import write_video

    model, processor = make_model()
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    row = Sample(id="x", conversations=sample().conversations, video="v.mp4")
    for seed, name in enumerate(("one", "two")):
        (tmp_path / name).mkdir()
        write_video(make_timeline(16, seed), tmp_path / name / "v.mp4")
        write_manifest(tmp_path / name / "m.jsonl", [row])
    header = FeaturesHeader(
        tower_digest=tower_digest(model),
        duration_seconds=16,
        video=str(tmp_path / "one/v.mp4"),
        content_digest=probe(tmp_path / "one/v.mp4").content_digest,
    )
    features = torch.zeros(16, 4, 32)
    write_features(tmp_path / "F/v.mp4.safetensors", features, torch.arange(16), header)
    config = debug_stage2()
    config = replace(
        config,
        model=replace(config.model, start=str(tmp_path / "model")),
        optim=replace(config.optim, lr_vision=0.0),
    )
    one, two = (tmp_path / name / "m.jsonl" for name in ("one", "two"))
    data = replace(config.data, manifest=(one,), features=tmp_path / "F")
    own_features.require_own_features(replace(config, data=data))
    data = replace(data, manifest=(one, two))
    with pytest.raises(DataError, match=r"F/v\.mp4.* made of .*one/v\.mp4, .*two/v\.mp4"):
        own_features.require_own_features(replace(config, data=data))


def test_a_folder_with_features_of_no_row_is_refused_and_the_place_is_named(tmp_path: Path) -> None:
    row = Sample(id="x", conversations=sample().conversations, video="videos/v.mp4")
    write_manifest(tmp_path / "m.jsonl", [sample(), row])
    write_manifest(tmp_path / "texts.jsonl", [sample()])
    header = FeaturesHeader(tower_digest="t", duration_seconds=2)
    write_features(tmp_path / "F/v.mp4.safetensors", torch.zeros(2, 4, 8), torch.arange(2), header)
    config = debug_stage2()
    config = replace(config, optim=replace(config.optim, lr_vision=0.0))
    data = replace(config.data, manifest=(tmp_path / "m.jsonl",), features=tmp_path / "F")
    with pytest.raises(
        ConfigError, match=r"F/videos/v\.mp4\.safetensors, for one, .*m\.jsonl --out"
    ):
        own_features.require_own_features(replace(config, data=data))
    texts = replace(data, manifest=(tmp_path / "texts.jsonl",))
    own_features.require_own_features(replace(config, data=texts))
