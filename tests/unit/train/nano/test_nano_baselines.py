from __future__ import annotations

import json
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText

import hour_llava  # noqa: F401  (registers the Auto classes)
from hour_llava.errors import ConfigError, HourLlavaError
from hour_llava.model.modeling_hour_llava import HourLlavaForConditionalGeneration
from hour_llava.model.video_processing_hour_llava import HourLlavaVideoProcessor
from hour_llava.recipes.nano import FAMILIES, NanoSettings, make_config, make_tokenizer, save
from hour_llava.recipes.nano_baselines import (
    BASELINES,
    FewFrames,
    main,
    make_model,
    shortened,
    train_baseline,
)
from hour_llava.train.nano.bank import encode_group, render_group
from hour_llava.train.nano.lessons import LoopSettings, Stage
from hour_llava.train.nano.objective import Weights
from hour_llava.world.questions import ask
from hour_llava.world.timeline import make_timeline

TINY = NanoSettings(
    image_size=32,
    patch_size=16,
    width=32,
    layers=1,
    language_layers=1,
    tower_width=32,
    tower_layers=1,
    short=((14, 8),),
    scraps=(40, 24, 1),
    loops=(
        LoopSettings(
            stages=(Stage(num_steps=4, seconds=(36, 50)),),
            num_videos=2,
            num_rows=8,
            weights=Weights(evidence_heads=1),
            log_every=1,
        ),
    ),
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the recipe that has everything but training behind it."""
    out = tmp_path_factory.mktemp("nano")
    (out / "work").mkdir()
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    model = HourLlavaForConditionalGeneration(make_config(TINY, tokenizer)).eval()
    resize = HourLlavaVideoProcessor(TINY.image_size)
    for group in TINY.scrap_groups():
        render_group(group, out / "work", resize, is_degraded=False)
        encode_group(group, out / "work", out / "work", model.encode_video)
    save(model, tokenizer, out)
    return out


@pytest.mark.parametrize(
    "name",
    [
        "no_memaug",
        *(pytest.param(name, marks=pytest.mark.slow) for name in BASELINES if name != "no_memaug"),
    ],
)
def test_every_baseline_trains_on_a_finished_run(name, finished: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    folder = train_baseline(name, finished, tmp_path, TINY, share=0.5, log=lines.append)
    assert len(lines) == 2  # half of four steps
    about = json.loads((folder / "baseline.json").read_text())
    assert about["num_steps"] == 2
    main(nano=finished, out=tmp_path, names=(name,), share=0.5)  # it is there
    with pytest.raises(ConfigError, match=r"share 0\.5, now 1\.0\): name another --out"):
        main(nano=finished, out=tmp_path, names=(name,))
    model = AutoModelForImageTextToText.from_pretrained(folder)
    assert len(model.model.memaug.layers) == (0 if name == "no_memaug" else 1)
    shared = AutoModelForImageTextToText.from_pretrained(finished).model.vision_tower.state_dict()
    own = model.model.vision_tower.state_dict()
    assert all(torch.equal(own[weight], shared[weight]) for weight in shared)


def test_a_baseline_of_few_frames_keeps_their_times_and_what_they_show(finished: Path) -> None:
    model, tokenizer = make_model(BASELINES["uniform_32"], finished, TINY)
    composer = FewFrames(model.config, tokenizer, FAMILIES, 32)
    timeline = make_timeline(600, 1)
    asked = [ask(timeline, family, Random(0)) for family in ("colour", "summary")]
    features = torch.arange(600.0)[:, None, None].expand(600, 4, 32)
    batch = composer.compose([features], [[q for q in asked if q is not None]])
    kept = np.floor(np.linspace(0, 599, 32))
    (seen,) = batch.inputs["video_features"]
    assert np.array_equal(seen[:, 0, 0].numpy(), kept)
    assert np.array_equal(batch.inputs["video_seconds"][0].numpy(), kept)
    assert batch.naming.spans_VQF.shape[-1] == 32
    summary = asked[1]
    assert summary is not None
    is_evidence = [
        any(span.start_seconds <= second < span.end_seconds for span in summary.evidence)
        for second in kept
    ]
    assert (batch.naming.spans_VQF[0, 1] > 0).tolist() == is_evidence
    assert any(is_evidence)


def test_a_warm_baseline_takes_all_weights_it_has_a_place_for(finished: Path) -> None:
    warm, _ = make_model(BASELINES["no_memaug"], finished, TINY, is_warm=True)
    shared = AutoModelForImageTextToText.from_pretrained(finished).state_dict()
    assert all(torch.equal(weight, shared[name]) for name, weight in warm.state_dict().items())


def test_a_shorter_baseline_keeps_every_stage() -> None:
    loop = NanoSettings().loops[0]
    short = shortened(loop, 1e-9)
    assert [stage.num_steps for stage in short.stages] == [1] * len(loop.stages)


def test_a_folder_without_a_finished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HourLlavaError, match=r"no model\.safetensors"):
        make_model(BASELINES["no_rope"], tmp_path, TINY)
