"""What training does with what cannot be trained on: a clear end, or a counted, named skip.

`hour-llava train` with real files, in this process: its exit code and what it says.
"""

from __future__ import annotations

import json
import resource
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import save_file

from hour_llava.cli import main
from hour_llava.data.features import FORMAT, FeaturesHeader, tower_digest, write_features
from hour_llava.recipes.debug import make_model
from hour_llava.train import checkpoint
from hour_llava.train.export import export
from hour_llava.train.watching.log import read_log

Row = dict[str, Any]


def talk(*values: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[n % 2], "value": value} for n, value in enumerate(values)]


@dataclass(frozen=True)
class Start:
    """The tiny model, and a folder of good and bad files."""

    folder: Path
    tower: str

    @property
    def model(self) -> str:
        return str(self.folder / "model")

    def image(self, name: str) -> Row:
        return {"id": name, "images": [name], "conversations": talk("<image>\nwhat", "red")}

    def features(self, name: str) -> Row:
        return {"id": name, "features": name, "conversations": talk("<video>\nwhat", "red")}

    def good(self) -> Row:
        return {"id": "good", "conversations": talk("what color", "red")}

    def train(self, rows: list[Row | str], out: Path, *flags: object, stage: int = 1) -> int:
        manifest = out.with_suffix(".jsonl")
        manifest.write_text(
            "".join(f"{r if isinstance(r, str) else json.dumps(r)}\n" for r in rows)
        )
        given = ["--data.manifest", manifest, "--data.root", self.folder, "--out", out]
        given += ["--model.start", self.model, "--watch.reports", *flags]
        return main(["train", f"debug_stage{stage}", *map(str, given)])


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Start:
    folder = tmp_path_factory.mktemp("start")
    model, processor = make_model()
    model.save_pretrained(folder / "model")
    processor.save_pretrained(folder / "model")
    tower = tower_digest(model)
    for name, mode, size in (
        *(("good.png", "RGB", (40, 30)), ("alpha.png", "RGBA", (40, 30))),
        *(("dot.png", "RGB", (1, 1)), ("line.png", "L", (1, 900))),
    ):
        Image.new(mode, size).save(folder / name)
    (folder / "broken.png").write_bytes(b"\x89PNG broken")
    Image.radial_gradient("L").save(folder / "cut.png")
    (folder / "cut.png").write_bytes((folder / "cut.png").read_bytes()[:2000])
    bomb = struct.pack("<2sIHHI", b"BM", 54, 0, 0, 54)
    bomb += struct.pack("<IiiHHIIiiII", 40, 20_000, 20_000, 1, 24, 0, 0, 0, 0, 0, 0)
    (folder / "bomb.bmp").write_bytes(bomb)
    (folder / "broken.mp4").write_bytes(b"broken")
    numbers_FPD = torch.randn(40, 4, 32, generator=torch.Generator().manual_seed(0))
    for name, made_by, features_FPD in (
        ("good.st", tower, numbers_FPD),
        ("other tower.st", "of another tower", numbers_FPD),
        ("other shape.st", tower, numbers_FPD.repeat(1, 2, 1)),
    ):
        header = FeaturesHeader(tower_digest=made_by, duration_seconds=40)
        write_features(folder / name, features_FPD, torch.arange(40), header)
    spoilt_FPD = numbers_FPD.bfloat16()
    spoilt_FPD[7, 1, 2] = torch.nan
    document = {"version": 1, "tower_digest": tower, "duration_seconds": 40, "fps": 1.0}
    save_file(
        {"features": spoilt_FPD, "times": torch.arange(40).double()},
        folder / "nan.st",
        metadata={FORMAT: json.dumps(document | {"video": "", "content_digest": ""})},
    )
    (folder / "cut.st").write_bytes((folder / "good.st").read_bytes()[:3000])
    return Start(folder=folder, tower=tower)


def test_every_bad_sample_is_replaced_counted_and_named_and_odd_ones_are_learned(
    start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad: list[tuple[Row | str, str]] = [
        (start.image("none.png"), "none.png cannot be read"),
        (start.image("broken.png"), "broken.png cannot be read"),
        (start.image("cut.png"), "cut.png cannot be read"),
        (start.image("bomb.bmp"), "bomb.bmp cannot be read: Image size (400000000 pixels)"),
        (
            start.image("good.png")
            | {"conversations": [{"from": "system", "value": "an <image>"}, *talk("what", "red")]},
            "the system's turn holds a placeholder",
        ),
        ({"id": "mp4", "video": "broken.mp4", "conversations": talk("q", "a")}, "broken.mp4"),
        (start.features("none.st"), "none.st"),
        (start.features("cut.st"), "cut.st"),
        (start.features("nan.st"), "nan.st"),
        (start.features("other tower.st"), "of another tower"),
        (start.features("other shape.st"), "other shape.st"),
        ({"id": "roles", "conversations": [{"from": "robot", "value": "x"}]}, "roles: "),
        ({"id": "asks nothing", "conversations": talk("", "a")}, "asks nothing: turn 0"),
        ({"id": "is empty", "conversations": talk("q", "")}, "is empty: turn 1"),
        ({"id": "two", "video": ["a.mp4", "b.mp4"], "conversations": talk("q", "a")}, "2 videos"),
        (
            {"id": "of two", "video": "a.mp4", "conversations": talk("<video><video>q", "a")},
            "2 <video> in it",
        ),
        ({"id": "half", "conversations": talk("q\ud800?", "a")}, "turn 0 holds \\ud800"),
        (start.image("i" * 5000), "iii cannot be read: File name too long"),
        (start.features("f" * 5000), "fff: no such file"),
        ({"id": "mp4", "video": "v" * 5000, "conversations": talk("q", "a")}, "vvv' is no usable"),
        ({"id": "long", "conversations": talk("q", "word " * 4000)}, "the limit is 4,096"),
        ('{"id": "no JSON', "no JSON"),
    ]
    odd = [start.image(name) for name in ("alpha.png", "dot.png", "line.png")]
    fine = [start.good(), start.image("good.png"), start.features("good.st"), *odd]
    rows = [row for n, (one, _) in enumerate(bad) for row in (one, fine[n % len(fine)])]
    rows += [start.good()] * (-len(rows) % 4)
    flags = ("--data.broken-allowed", len(bad), "--batch.max-steps", len(rows) // 4)
    out = tmp_path / "my out"
    assert start.train(rows, out, *flags, stage=3) == 0
    steps = [line for line in read_log(out / "log.jsonl") if line["kind"] == "step"]
    notes = [note for line in steps for note in line.get("broken_samples", [])]
    assert len(notes) == len(bad)
    for _, words in bad:
        assert sum(words in note for note in notes) == 1, (words, notes)
    assert steps[-1]["broken"] == len(bad)
    assert all(line["loss"] < 10 for line in steps)
    said = capsys.readouterr().err
    assert said.count("replaced: ") == len(bad)
    assert said.endswith(f"next: hour-llava ask VIDEO QUESTION --model '{out}/model'\n")
    assert "20,0" in next(note for note in notes if "4,096" in note)  # both numbers


def test_more_bad_samples_than_allowed_end_the_run_and_point_at_the_check(
    start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert start.train([start.image("none.png"), start.good()], out) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("hour-llava: error: ")
    assert "0 are allowed" in said
    assert "none.png" in said
    assert "hour-llava data check" in said
    assert [line["reason"] for line in read_log(out / "log.jsonl") if line["kind"] == "end"] == [
        "failed"
    ]


REFUSED: dict[str, tuple[list[str], tuple[object, ...], str]] = {
    "an empty manifest": ([], (), "the manifest is empty"),
    "no row that can be read": (["{"] * 9, (), "can be read, the first: "),
    "a report that does not exist": (["good"], ("tensorbord",), "reports are tensorboard"),
    "a batch that does not divide": (["good"], ("--batch.micro-batch-size", 3), "3"),
    "a folder without weights": (["good"], ("--model.start", "/tmp"), "/tmp"),
    "a hub id that is not there": (["good"], ("--model.start", "nobody/nothing"), "nobody/nothing"),
    "halves that are not there, which take the start's place": (
        ["good"],
        ("--model.language-model", "nobody/words", "--model.vision-tower", "nobody/eyes"),
        "nobody/words",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_with_one_line_before_training(
    name: str,
    start: Start,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    rows, flags, words = REFUSED[name]
    given: list[Row | str] = [start.good() if row == "good" else row for row in rows]
    assert start.train(given, tmp_path / "out", *flags) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("hour-llava: error: ")
    assert words in said
    assert not (tmp_path / "out" / "log.jsonl").exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("other tower.st", ": made by the tower of another tower, the model's is {tower}: extract"),
        ("other shape.st", ": features of 8 tokens x 32 a frame, the model reads 4 x 32: extract"),
    ],
)
@pytest.mark.parametrize("flags", [(), ("--dry-run",)])
def test_foreign_features_are_refused_at_the_start_though_broken_samples_are_allowed(
    name: str,
    words: str,
    flags: tuple[object, ...],
    start: Start,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = [start.good(), start.features("none.st"), start.features("cut.st")]
    rows: list[Row | str] = [*before, start.features(name), start.features("good.st")]
    flags = ("--data.broken-allowed", 9, *flags)
    assert start.train(rows, tmp_path / "out", *flags, stage=3) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert f"{name}{words.format(tower=start.tower)}" in said
    assert not (tmp_path / "out" / "log.jsonl").exists()


def test_an_output_folder_that_cannot_be_is_refused_by_name(
    start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.touch()
    assert start.train([start.good()], out) == 1
    assert f"--out {out} cannot be made a folder (File exists)" in capsys.readouterr().err


def test_a_full_disk_at_a_checkpoint_ends_the_run_and_leaves_the_checkpoint_before(
    start: Start,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real: Callable[..., None] = checkpoint._finish
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fills_up(part: Path, final: Path, facts: checkpoint.CheckpointFacts) -> None:
        real(part, final, facts)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))  # no larger file from now on

    monkeypatch.setattr(checkpoint, "_finish", fills_up)
    out = tmp_path / "out"
    flags = ("--checkpoints.every-steps", 2, "--batch.max-steps", 5)
    try:
        assert start.train([start.good(), start.image("good.png")], out, *flags) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    said = capsys.readouterr().err.splitlines()[-1]
    assert "the checkpoint of step 4 cannot be written" in said
    assert "step-00000002 is whole" in said
    assert [p.name for p in (out / "checkpoints").iterdir()] == ["step-00000002"]
    monkeypatch.undo()
    assert start.train([start.good(), start.image("good.png")], out, *flags, "--resume") == 0
    steps = [line["step"] for line in read_log(out / "log.jsonl") if line["kind"] == "step"]
    assert steps == [1, 2, 3, 4, 5]


def test_a_full_disk_at_the_end_names_the_checkpoint_that_has_all_steps(
    start: Start,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fills_up(*given: Any, **options: Any) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
        export(*given, **options)

    out, flags = tmp_path / "out", ("--batch.max-steps", 1)
    with monkeypatch.context() as patched:
        patched.setattr("hour_llava.train.run.export", fills_up)
        try:
            assert start.train([start.good()], out, *flags) == 1
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"{out}/model cannot be written: " in said and "File too large" in said
    assert said.endswith("in the last checkpoint: free some space and go on with --resume")
    assert not list(out.glob("model*"))
    assert start.train([start.good()], out, *flags, "--resume") == 0
    assert (out / "model" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"), "micro-batch-size"),
        (MemoryError(), "--dry-run"),
        (OSError(28, "No space left on device"), "is full: free some space and go on with"),
        (
            SafetensorError("Error while serializing: I/O error: No space left (os error 28)"),
            "is full: free some space and go on with",
        ),
    ],
)
def test_what_the_machine_lacks_is_told_with_what_helps_in_training(
    error: Exception,
    words: str,
    start: Start,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("hour_llava.train.run.train", fail)
    assert start.train([start.good()], tmp_path / "out") == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert words in said
    assert "--max-memory" not in said


def test_a_checkpoint_of_another_recipe_is_refused_and_left_alone(
    start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, rows = tmp_path / "out", [start.good(), start.image("good.png")]
    assert start.train(rows, out, "--batch.max-steps", 1) == 0
    before = (out / "log.jsonl").read_bytes()
    for flags, words in (((), "--resume"), (("--resume",), "of a run with other settings (")):
        capsys.readouterr()
        assert start.train(rows, out, "--batch.max-steps", 1, *flags, stage=2) == 1
        assert words in capsys.readouterr().err.splitlines()[-1]
    assert (out / "log.jsonl").read_bytes() == before
