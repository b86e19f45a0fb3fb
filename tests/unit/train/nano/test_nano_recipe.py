from __future__ import annotations

import os
import signal
import time
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor

import hour_llava  # noqa: F401  (registers the Auto classes)
from hour_llava.recipes.nano import (
    FAMILIES,
    NanoSettings,
    _handing_on,
    _wait_for,
    make_tokenizer,
    train_nano,
)
from hour_llava.train.nano.lessons import LoopSettings, Stage
from hour_llava.train.nano.objective import Weights
from hour_llava.train.nano.tower import TowerSettings
from hour_llava.world.questions import ask
from hour_llava.world.timeline import make_timeline

SHARES = (0.5, 0.25, 0.25)
TINY = NanoSettings(
    image_size=32,
    patch_size=16,
    width=32,
    layers=1,
    tower_width=32,
    tower_layers=1,
    short=((14, 8),),
    scraps=(40, 24, 2),
    drills=(14, 1),
    held_out=((14, 1), (16, 1)),
    tower=(
        TowerSettings(num_steps=2, batch_size=8),
        TowerSettings(num_steps=2, batch_size=8, shares=SHARES, seed=1),
    ),
    loops=tuple(
        LoopSettings(
            stages=(Stage(num_steps=4, seconds=(14, 30)),),
            num_videos=2,
            num_rows=8,
            weights=weights,
            log_every=1,
            is_clock_held=seed == 0,
            save_every=1,
            seed=seed,
        )
        # As in the recipe, the first loop leaves some heads as they were drawn.
        for seed, weights in enumerate(
            (
                Weights(evidence_heads=1, asked=0.0, pairs=0.0, lengths=0.0),
                Weights(evidence_heads=1),
            )
        )
    ),
)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_tiny_run_writes_a_model_that_loads_and_goes_on_where_it_was(tmp_path: Path) -> None:
    train_nano(tmp_path, TINY)
    assert (tmp_path / "training.log").read_text().count("held out") == 4
    model = AutoModelForImageTextToText.from_pretrained(tmp_path)
    processor = AutoProcessor.from_pretrained(tmp_path)
    assert processor.tokenizer.chat_template == processor.chat_template
    first = {name: weight.clone() for name, weight in model.state_dict().items()}
    train_nano(tmp_path, TINY)  # every part is there already
    again = AutoModelForImageTextToText.from_pretrained(tmp_path).state_dict()
    assert all(torch.allclose(again[name], weight, atol=1e-5) for name, weight in first.items())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_that_is_killed_goes_on_and_ends_in_the_same_weights(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train_nano(whole, TINY)
    for name in ("frames", "features"):  # drawing and encoding again would only take time
        for path in (whole / "work").glob(f"{name}_*.npy"):
            (killed / "work").mkdir(parents=True, exist_ok=True)
            (killed / "work" / path.name).hardlink_to(path)
    process = get_context("spawn").Process(target=_run_in_own_group, args=(killed,))
    process.start()
    while process.is_alive() and not (killed / "work/loop_0/checkpoints/step-00000002").exists():
        time.sleep(0.05)
    assert process.pid is not None
    os.killpg(process.pid, signal.SIGKILL)
    process.join()
    assert not (killed / "model.safetensors").exists()
    train_nano(killed, TINY)
    one, other = (load_file(folder / "model.safetensors") for folder in (whole, killed))
    assert all(torch.equal(weight, other[name]) for name, weight in one.items())


def _run_in_own_group(out: Path) -> None:
    os.setsid()
    train_nano(out, TINY)


def test_nano_knows_every_word_of_its_questions() -> None:
    from random import Random

    tokenizer, rng = make_tokenizer(), Random(0)
    timelines = [make_timeline(120, seed) for seed in range(6)]
    for family in FAMILIES:
        for timeline in timelines:
            for wordings in ("train", "unseen"):
                question = ask(timeline, family, rng, wordings=wordings)
                text = "" if question is None else f"{question.question} {question.answer}"
                assert tokenizer.unk_token_id not in tokenizer(text).input_ids, text


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_to_the_run_ends_its_processes(
    sent: signal.Signals, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    process = get_context("spawn").Process(target=time.sleep, args=(60,))
    process.start()
    with pytest.raises(SystemExit) as ended, _handing_on([process]):
        os.kill(os.getpid(), sent)
        _wait_for([process])
    assert process.exitcode == -signal.SIGTERM
    assert ended.value.code == code
    assert "the same command goes on at what is done" in capsys.readouterr().err


def test_a_process_that_ends_while_it_is_looked_at_is_not_taken_for_a_success() -> None:
    class Ending:
        """Its exit code is there from the second look on."""

        def __init__(self) -> None:
            self.sentinel, other = os.pipe()
            os.close(other)
            self._codes = iter([None, *[-15] * 9])

        @property
        def exitcode(self) -> int | None:
            return next(self._codes)

    with pytest.raises(SystemExit) as ended:
        _wait_for([Ending()])  # type: ignore[list-item]
    assert ended.value.code == -15
