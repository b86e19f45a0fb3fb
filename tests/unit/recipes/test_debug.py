"""The debug recipes make model and data themselves, the same ones whenever they are asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hour_llava.data.collate import NOT_FOR_THE_MODEL, Collator, TrainingData
from hour_llava.data.features import tower_digest
from hour_llava.data.manifest import read_manifest
from hour_llava.data.mixture import Mixture, Stream
from hour_llava.errors import ConfigError
from hour_llava.model.checkpoints import load_pretrained
from hour_llava.recipes import debug, debug_data
from hour_llava.train.own_features import require_own_features


@pytest.fixture(scope="module")
def stage3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("stage3")
    debug.prepare(debug.debug_stage3(), out)
    return out


def test_stage_3_has_samples_of_every_kind_that_its_model_learns_from(stage3: Path) -> None:
    config = debug.prepare(debug.debug_stage3(), stage3)
    model, processor = load_pretrained(config.model.start)
    collator = Collator(processor, tower=tower_digest(model), feature_size=32)
    streams = [Stream(name=m.stem, samples=read_manifest(m)) for m in config.data.manifest]
    mixture = Mixture(streams)
    data = TrainingData(mixture, collator)
    model.train()
    for first, stream in zip(mixture.starts, mixture.streams, strict=False):
        encoded = [data[int(first) + number] for number in range(2)]
        assert not any(sample.broken for sample in encoded), stream.name
        batch = collator(encoded)
        inputs = {name: batch[name] for name in batch if name not in NOT_FOR_THE_MODEL}
        assert torch.isfinite(model(**inputs).loss), stream.name
    assert [s.name for s in streams] == ["images", "pairs", "texts", "clips", "long"]


def test_what_is_there_is_not_made_again(stage3: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in stage3.rglob("*") if path.suffix}
    first = debug.prepare(debug.debug_stage3(), stage3)
    assert first == debug.prepare(debug.debug_stage3(), stage3)
    assert before == {path: path.stat().st_mtime_ns for path in stage3.rglob("*") if path.suffix}


def test_the_same_seed_makes_the_same_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        debug.prepare(debug.debug_stage1(), tmp_path / name)
    made = sorted(p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*.*"))
    assert len(made) > 20
    for path in made:
        if path.suffix != ".lock":
            assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes()


def test_a_half_made_folder_is_made_again(tmp_path: Path) -> None:
    config = debug.prepare(debug.debug_stage1(), tmp_path)
    (tmp_path / "material" / "material.json").unlink()
    (tmp_path / "material" / "start" / "material.json").unlink()
    Path(config.data.manifest[0]).write_text("{")
    debug.prepare(debug.debug_stage1(), tmp_path)
    assert len(read_manifest(config.data.manifest[0])) == 32


def test_the_material_of_another_stage_or_seed_is_refused(tmp_path: Path) -> None:
    debug.prepare(debug.debug_stage1(), tmp_path)
    with pytest.raises(ConfigError, match="'stage': 1"):
        debug.prepare(debug.debug_stage2(), tmp_path)
    with pytest.raises(ConfigError, match="another seed than 5"):
        debug.prepare(replace(debug.debug_stage1(), seed=5), tmp_path)


def test_features_are_of_the_tower_that_training_starts_from(tmp_path: Path) -> None:
    model, processor = debug.make_model(seed=3)
    model.save_pretrained(tmp_path / "start")
    processor.save_pretrained(tmp_path / "start")
    config = debug.debug_stage3()
    config = replace(config, model=replace(config.model, start=str(tmp_path / "start")))
    made = debug.prepare(config, tmp_path / "run")
    collator = Collator(processor, tower=tower_digest(model), feature_size=32)
    assert collator.encode(read_manifest(made.data.manifest[-1])[0]).video is not None


def test_without_pyav_clips_are_features_of_a_frozen_tower_and_not_there_for_a_trained_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(debug_data, "has_decoder", lambda: False)
    monkeypatch.setattr(debug_data, "NUM_LONG", 0)
    made = debug.prepare(debug.debug_stage2(), tmp_path / "two")
    assert [path.stem for path in made.data.manifest] == ["images", "pairs", "texts"]
    assert "debug_stage2 without short videos: PyAV" in capsys.readouterr().err
    require_own_features(made)
    made = debug.prepare(debug.debug_stage3(), tmp_path / "three")
    clips = read_manifest(made.data.manifest[3])
    assert all(clips[number].features is not None for number in range(len(clips)))
    assert capsys.readouterr().err == ""


def test_the_byte_tokenizer_knows_any_text_and_gives_a_newline_its_released_id() -> None:
    tokenizer = debug.make_tokenizer()
    assert tokenizer("\n")["input_ids"] == [198]
    ids = tokenizer("Hé, 你好\t<|im_end|>\n")["input_ids"]
    assert tokenizer.decode(ids) == "Hé, 你好\t<|im_end|>\n"
