"""`hour-llava extract`: real videos, resumed, shared, and the broken ones listed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from hour_llava.cli import main
from hour_llava.data.extraction import Extracted, extract, jobs_of_folder, jobs_of_manifest
from hour_llava.data.features import open_features
from hour_llava.data.manifest import Sample, read_manifest, write_manifest
from hour_llava.errors import DataError
from hour_llava.session import load


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from hour_llava.world.timeline import make_timeline
    from hour_llava.world.video_file import write_video

    folder = tmp_path_factory.mktemp("videos")
    for seed, name in enumerate(("a.mp4", "sub/b.mp4")):
        (folder / name).parent.mkdir(exist_ok=True)
        write_video(make_timeline(16, seed), folder / name)
    (folder / "broken.mp4").write_bytes(b"no video")
    turns = ({"from": "human", "value": "<video>\nwhy"}, {"from": "gpt", "value": "so"})
    names = ("a.mp4", "sub/b.mp4", "a.mp4", "broken.mp4", "missing.mp4")
    write_manifest(
        folder / "m.jsonl",
        [Sample(id=str(n), video=name, conversations=turns) for n, name in enumerate(names)],
    )
    return folder


def test_videos_become_the_features_that_the_model_makes_and_broken_ones_are_listed(
    videos: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "features"
    arguments = ["extract", str(videos / "m.jsonl"), "--out", str(out), "--model", str(tiny_model)]
    assert main(arguments) == 1
    said = capsys.readouterr()
    assert said.out == f"{out}\n"
    assert "2 videos extracted (32 frames" in said.err
    assert "error: 2 of 4 videos are broken" in said.err
    listed = [json.loads(line) for line in (out / "broken-0-of-1.jsonl").read_text().splitlines()]
    assert [Path(row["video"]).name for row in listed] == ["broken.mp4", "missing.mp4"]
    file = open_features(out / "sub/b.mp4.safetensors")
    assert file.shape == (16, 4, 16)
    assert file.times().tolist() == pytest.approx(range(16), abs=0.2)
    assert file.header.duration_seconds == pytest.approx(16, abs=0.3)
    memory = load(str(tiny_model)).remember(videos / "sub/b.mp4", use_cache=False)
    wanted = memory.features_FPD
    wanted = wanted if isinstance(wanted, torch.Tensor) else wanted.read(0, 16)
    assert torch.equal(file.read(), wanted.bfloat16())

    manifest = read_manifest(videos / "m.jsonl", features=out)
    assert [bool(sample.features) for sample in manifest] == [True, True, True, False, False]
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    assert main(arguments) == 1
    assert "0 videos extracted (0 frames, 0 B), 2 were there" in capsys.readouterr().err
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    assert main([*arguments, "--storage", "int8"]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert main([*arguments, "--storage", "int8", "--overwrite"]) == 1
    assert open_features(out / "a.mp4.safetensors").storage == "int8"


def test_shares_are_disjoint_and_whole_and_a_cut_file_is_made_again(
    videos: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "features"
    for number, files in enumerate((["a.mp4.safetensors"], ["sub/b.mp4.safetensors"])):
        shard = ["--shard", f"{number * 2}/3"]
        main(["extract", str(videos), "--out", str(out), "--model", str(tiny_model), *shard])
        for file in files:
            assert (out / file).is_file()
    assert len(list(out.rglob("*.safetensors"))) == 2
    cut = out / "a.mp4.safetensors"
    whole = cut.read_bytes()
    cut.write_bytes(whole[:-9])
    main(["extract", str(videos / "a.mp4"), "--out", str(out)])
    assert "a manifest is a" in capsys.readouterr().err
    main(["extract", str(videos), "--out", str(out), "--model", str(tiny_model), "--shard", "0/3"])
    assert cut.read_bytes() == whole


def test_a_file_that_is_no_features_of_ours_is_replaced_with_overwrite_alone(
    videos: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "features"
    out.mkdir()
    foreign = out / "a.mp4.safetensors"
    save_file({"features": torch.zeros(2, 2, 2)}, foreign)
    before = foreign.read_bytes()
    arguments = ["extract", str(videos), "--out", str(out), "--model", str(tiny_model)]
    arguments += ["--shard", "0/3"]
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert "a.mp4.safetensors: not of hour-llava's making" in said and "--overwrite" in said
    assert foreign.read_bytes() == before
    assert main([*arguments, "--overwrite"]) == 0
    assert open_features(foreign).shape[0] > 0
    arguments[arguments.index(str(out))] = str(tiny_model)
    assert main(arguments) == 1
    assert "is a model's folder" in capsys.readouterr().err


def test_what_cannot_be_done_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["extract", str(tmp_path), "--out", str(tmp_path / "o")]) == 1
    assert "names no videos" in capsys.readouterr().err
    (tmp_path / "v.mp4").touch()
    assert main(["extract", str(tmp_path), "--out", str(tmp_path / "o"), "--shard", "8/8"]) == 1
    assert "--shard 8/8" in capsys.readouterr().err


class BlankEncoder:
    """Stands in for a tower: what is extracted matters not here."""

    batch_frames = 64

    def encode_frames(self, frames: Sequence[np.ndarray]) -> torch.Tensor:
        return torch.zeros(len(frames), 1, 1)


def extract_folder(folder: Path, out: Path, *, overwrite: bool = False) -> Extracted:
    jobs = jobs_of_folder(folder, out)
    return extract(jobs, BlankEncoder(), tower="t", broken_list=out / "broken", overwrite=overwrite)


def test_features_of_another_video_of_the_same_name_are_refused_or_replaced(
    videos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "features"
    for name, source in {"one": "a.mp4", "two": "sub/b.mp4", "moved": "a.mp4"}.items():
        (tmp_path / name).mkdir()
        shutil.copy(videos / source, tmp_path / name / "0001.mp4")
    assert extract_folder(tmp_path / "one", out).num_done == 1
    made = open_features(out / "0001.mp4.safetensors").header
    with pytest.raises(DataError, match=r"one/0001\.mp4 .*two/0001\.mp4 .*--overwrite"):
        extract_folder(tmp_path / "two", out)
    assert open_features(out / "0001.mp4.safetensors").header == made
    assert extract_folder(tmp_path / "moved", out).num_there == 1
    (tmp_path / "two/0001.mp4").replace(tmp_path / "one/0001.mp4")  # as old as ever: re-encoded
    with pytest.raises(DataError, match="--overwrite"):
        extract_folder(tmp_path / "one", out)
    assert extract_folder(tmp_path / "one", out, overwrite=True).num_done == 1
    assert open_features(out / "0001.mp4.safetensors").header.content_digest != made.content_digest
    assert extract_folder(tmp_path / "one", out).num_there == 1


def test_a_deleted_video_keeps_its_features_and_a_missing_one_takes_no_other_s(
    videos: Path, tmp_path: Path
) -> None:
    turns = ({"from": "human", "value": "<video>\nwhy"}, {"from": "gpt", "value": "so"})
    for name in ("one", "two"):
        row = Sample(id="0", video="v.mp4", conversations=turns)
        write_manifest(tmp_path / name / "m.jsonl", [row])
    shutil.copy(videos / "a.mp4", tmp_path / "one/v.mp4")
    extract_folder(tmp_path / "one", tmp_path / "out")
    (tmp_path / "one/v.mp4").unlink()
    for name, wanted in {"one": (1, 0), "two": (0, 1)}.items():
        jobs, _ = jobs_of_manifest(read_manifest(tmp_path / name / "m.jsonl"), tmp_path / "out")
        done = extract(jobs, BlankEncoder(), tower="t", broken_list=tmp_path / "broken")
        assert (done.num_there, len(done.broken)) == wanted


def test_a_row_that_is_no_sample_is_listed_and_the_others_are_extracted(
    videos: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest, out = tmp_path / "m.jsonl", tmp_path / "features"
    bad = ['{"video": "a.mp4"}', '{"id": cut']
    manifest.write_text("\n".join(bad))
    arguments = ["extract", str(manifest), "--out", str(out), "--model", str(tiny_model)]
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert (
        f"no videos to extract features of; 2 rows are no samples, the first: {manifest}:1" in said
    )
    good = (videos / "m.jsonl").read_text().splitlines()[0]
    manifest.write_text("\n".join([bad[0], good, bad[1]]))
    assert main([*arguments, "--root", str(videos)]) == 1
    said = capsys.readouterr().err
    assert "1 videos extracted (16 frames" in said
    assert f"error: 0 of 1 videos are broken and 2 rows are no samples, listed in {out}" in said
    assert f"the first is {manifest}:1: no `conversations`" in said
    listed = [json.loads(line) for line in (out / "broken-0-of-1.jsonl").read_text().splitlines()]
    assert [row["row"] for row in listed] == [f"{manifest}:1", f"{manifest}:3"]
    assert all(row["error"] for row in listed)


def test_a_video_that_was_cut_off_is_listed_and_leaves_no_features(
    videos: Path, tmp_path: Path
) -> None:
    (tmp_path / "one").mkdir()
    whole = (videos / "a.mp4").read_bytes()
    (tmp_path / "one/cut.mp4").write_bytes(whole[: len(whole) * 6 // 10])
    found = extract_folder(tmp_path / "one", tmp_path / "features")
    ((name, reason),) = found.broken
    assert name.endswith("cut.mp4") and "the file ends early" in reason
    assert "at most 5% is taken" in reason
    assert not list((tmp_path / "features").rglob("*.safetensors"))
