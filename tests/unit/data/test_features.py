"""Files of features: what is written comes back, and what does not fit is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hour_llava.data.features import (
    CutFeaturesError,
    FeaturesHeader,
    Storage,
    open_features,
    tower_digest,
    write_features,
)
from hour_llava.errors import DataError

HEADER = FeaturesHeader(tower_digest="t", duration_seconds=5.5, video="v.mp4", content_digest="c")


def features(num_frames: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(num_frames, 4, 64, generator=generator)
    values[..., 3] *= 40  # SigLIP's features have a few large channels
    values[0, 0] = 0
    return values


def write(path: Path, storage: Storage = "bf16") -> Path:
    write_features(path, features(), torch.arange(6), HEADER, storage=storage)
    return path


@pytest.mark.parametrize(("storage", "worst"), [("bf16", 0.002), ("int8", 0.02), ("fp8", 0.03)])
def test_features_come_back_within_their_storages_precision(
    tmp_path: Path, storage: Storage, worst: float
) -> None:
    file = open_features(write(tmp_path / "a/b.safetensors", storage))
    assert (file.header, file.shape, file.storage) == (HEADER, (6, 4, 64), storage)
    assert file.times().tolist() == [0, 1, 2, 3, 4, 5]
    found, wanted = file.read(), features()
    assert found.dtype == torch.bfloat16
    error = (found.float() - wanted).norm() / wanted.norm()
    assert float(error) < worst
    assert not bool(found[0, 0].any())
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b.safetensors"]


def test_a_byte_a_number_takes_half_the_room(tmp_path: Path) -> None:
    sizes = {}
    for storage in ("bf16", "int8", "fp8"):
        path = tmp_path / storage
        write_features(path, torch.randn(64, 64, 128), torch.arange(64), HEADER, storage=storage)
        sizes[storage] = path.stat().st_size
    assert sizes["int8"] == pytest.approx(0.515 * sizes["bf16"], rel=0.01)
    assert sizes["fp8"] == pytest.approx(sizes["int8"], rel=0.001)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_is_refused_when_written_and_when_read(tmp_path: Path, value: float) -> None:
    from safetensors.torch import load_file, save_file

    broken = features()
    broken[4, 2, 7] = value
    with pytest.raises(DataError, match=r"frame 4 \(1 of 6 frames\)"):
        write_features(tmp_path / "x", broken, torch.arange(6), HEADER)
    assert list(tmp_path.iterdir()) == []
    path = write(tmp_path / "y")
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    save_file({**load_file(path), "features": broken.bfloat16()}, path, metadata=metadata)
    with pytest.raises(DataError, match=r"y: NaN or infinity in the features of frame 4"):
        open_features(path).read()


def test_another_tower_or_shape_is_refused_with_both_numbers(tmp_path: Path) -> None:
    file = open_features(write(tmp_path / "x"))
    file.require(tower="t", tokens_per_frame=4, feature_size=64)
    with pytest.raises(DataError, match="the tower t, the model's is u"):
        file.require(tower="u", tokens_per_frame=4, feature_size=64)
    with pytest.raises(DataError, match="4 tokens x 64 a frame, the model reads 64 x 1152"):
        file.require(tower=None, tokens_per_frame=64, feature_size=1152)


def test_another_rate_is_refused_with_both_numbers(tmp_path: Path) -> None:
    file = open_features(write(tmp_path / "x"))
    file.require(tower="t", tokens_per_frame=4, feature_size=64, fps=1.0)
    with pytest.raises(DataError, match=r"made at 1 frames a second, asked are 0\.5"):
        file.require(tower="t", tokens_per_frame=4, feature_size=64, fps=0.5)


def test_a_file_that_goes_while_it_is_read_is_named(tmp_path: Path) -> None:
    file = open_features(write(tmp_path / "x"))
    (tmp_path / "x").unlink()
    for read in (file.read, file.times):
        with pytest.raises(DataError, match="x: cannot be read"):
            read()


def test_foreign_cut_and_missing_files_are_named(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    cut = write(tmp_path / "cut")
    cut.write_bytes(cut.read_bytes()[:-10])
    save_file({"features": torch.zeros(2, 2, 2), "times": torch.zeros(2)}, tmp_path / "foreign")
    (tmp_path / "text").write_text("hello")
    for name, is_cut in (("cut", True), ("text", True), ("foreign", False), ("none", False)):
        with pytest.raises(DataError, match=name) as error:
            open_features(tmp_path / name)
        assert isinstance(error.value, CutFeaturesError) == is_cut
    with pytest.raises(DataError, match="do not fit 5 times"):
        write_features(tmp_path / "z", features(), torch.arange(5), HEADER)


def test_others_may_read_what_is_written_and_leftovers_of_a_killed_writer_go(
    tmp_path: Path,
) -> None:
    leftover = tmp_path / ".x.part" / ".tmpABC"
    leftover.parent.mkdir()
    leftover.write_bytes(b"half")
    (tmp_path / "other").touch()
    path = write(tmp_path / "x")
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode
    assert sorted(file.name for file in tmp_path.iterdir()) == ["other", "x"]


def test_a_towers_name_is_its_weights_not_their_type(tiny_model: Path) -> None:
    from hour_llava.model.modeling_hour_llava import HourLlavaForConditionalGeneration

    model = HourLlavaForConditionalGeneration.from_pretrained(tiny_model)
    name = tower_digest(model)
    assert tower_digest(model.bfloat16()) == name
    with torch.no_grad():
        next(model.model.vision_tower.parameters()).add_(1)
    assert tower_digest(model) != name
