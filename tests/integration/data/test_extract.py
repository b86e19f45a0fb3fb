"""`hour-llava extract`: real videos, resumed, shared, and the broken ones listed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from hour_llava.cli import main
from hour_llava.data.features import open_features
from hour_llava.data.manifest import Sample, read_manifest, write_manifest
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


def test_what_cannot_be_done_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["extract", str(tmp_path), "--out", str(tmp_path / "o")]) == 1
    assert "names no videos" in capsys.readouterr().err
    (tmp_path / "v.mp4").touch()
    assert main(["extract", str(tmp_path), "--out", str(tmp_path / "o"), "--shard", "8/8"]) == 1
    assert "--shard 8/8" in capsys.readouterr().err
