"""`hour-llava data group` and `data check`: from datasets to a manifest, and every fault named."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from hour_llava.cli import main
from hour_llava.data.check import ManifestCheck
from hour_llava.data.features import FORMAT, FeaturesHeader, write_features
from hour_llava.data.manifest import read_manifest


def talk(*values: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[n % 2], "value": value} for n, value in enumerate(values)]


def test_datasets_are_grouped_into_one_manifest_with_paths_that_lead_home(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
    rows = [
        {"id": str(n), "video": "v/1.mp4", "question": f"q{n}", "answer": "a", "data_source": "s"}
        for n in range(12)
    ]
    (one / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows + rows[:1]))
    (two / "x.json").write_text(
        json.dumps([{"id": "i", "image": "i.png", "conversations": talk("<image>\nq", "a")}])
    )
    (two / "i.png").touch()
    out = tmp_path / "made" / "train.jsonl"
    sources = [str(one / "rows.jsonl"), str(two / "x.json")]
    assert main(["data", "group", *sources, "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert said.out == f"{out}\n"
    assert "4 samples of 14 read: 12 questions of 1 videos, 1 samples as they were" in said.err
    assert "1 repeated questions left out" in said.err
    image, *grouped = read_manifest(out)
    assert Path(image.images[0]).samefile(two / "i.png")
    assert sorted(len(sample.conversations) // 2 for sample in grouped) == [2, 5, 5]
    assert {Path(str(sample.video)).resolve() for sample in grouped} == {one / "v/1.mp4"}
    before = out.read_bytes()
    assert main(["data", "group", *sources, str(two / "none"), "--out", str(out)]) == 1
    assert "no such file" in capsys.readouterr().err
    assert out.read_bytes() == before
    assert main(["data", "group", *sources, "--out", str(tmp_path / "x.json")]) == 1
    assert main(["data", "group", "--out", str(out)]) in (1, 2)


def test_images_out_of_parquet_lie_where_the_manifest_says_wherever_both_are_moved(
    tmp_path: Path,
) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    box = io.BytesIO()
    Image.new("RGB", (3, 2)).save(box, "PNG")
    elsewhere = str(tmp_path / "elsewhere.png")
    rows = [
        {"id": "in", "image": {"bytes": box.getvalue()}, "conversations": talk("<image> q", "a")},
        {"id": "text", "image": None, "conversations": talk("q", "a")},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "o.parquet")
    absolute = {"id": "out", "image": elsewhere, "conversations": talk("<image> q", "a")}
    (tmp_path / "l.json").write_text(json.dumps([absolute]))
    made = tmp_path / "made"
    sources = [str(tmp_path / "o.parquet"), str(tmp_path / "l.json")]
    assert main(["data", "group", *sources, "--out", str(made / "train.jsonl")]) == 0
    made.rename(tmp_path / "moved")
    within, _, out = read_manifest(tmp_path / "moved/train.jsonl")
    assert Image.open(within.images[0]).size == (3, 2)
    assert out.images == (elsewhere,)


def test_rows_that_are_no_samples_are_left_out_listed_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fine = {"id": "0", "video": "v.mp4", "question": "q", "answer": "a", "data_source": "s"}
    lines = [json.dumps(fine), "{cut of", json.dumps(fine | {"question": None, "id": "1"})]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines) + "\n")
    out = tmp_path / "train.jsonl"
    assert main(["data", "group", str(tmp_path / "rows.jsonl"), "--out", str(out)]) == 1
    said = capsys.readouterr()
    assert said.out == f"{out}\n"
    assert "error: 2 rows are no samples, listed in " in said.err
    assert len(read_manifest(out)) == 1
    bad = [json.loads(line)["error"] for line in (tmp_path / "train.bad.jsonl").open()]
    assert [error.split(": ")[0] for error in bad] == [f"{tmp_path}/rows.jsonl:{n}" for n in (2, 3)]
    (tmp_path / "rows.jsonl").write_text(lines[0])
    assert main(["data", "group", str(tmp_path / "rows.jsonl"), "--out", str(out)]) == 0
    assert not (tmp_path / "train.bad.jsonl").exists()
    (tmp_path / "rows.jsonl").write_text("\n".join(lines[2:]))
    arguments = [str(tmp_path / "rows.jsonl"), "--layout", "videomarathon", "--out", str(out)]
    assert main(["data", "group", *arguments]) == 1
    said = capsys.readouterr().err
    assert "rows.jsonl (as videomarathon): no samples in there; --layout names another" in said
    assert "1 row is no sample, listed" in said
    assert len(read_manifest(out)) == 1  # of the call before
    mended = tmp_path / "train.bad.jsonl"
    mended.write_text(lines[0])
    assert main(["data", "group", str(mended), "--out", str(out)]) == 1
    assert mended.read_text() == lines[0]


def test_odd_bytes_and_odd_options_cost_their_own_rows_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fine = {"id": "0", "video": "v.mp4", "question": "q", "answer": "a", "data_source": "s"}
    lettered = fine | {"options": ["red", "blue"], "answer_letter": "B"}
    bad: list[Any] = [
        lettered | {"options": [1, 2]},
        lettered | {"options": "red blue"},
        lettered | {"options": ["x"] * 27},
        lettered | {"answer_letter": "Z"},
    ]
    half = fine | {"question": "half \ud83d"}  # `data check` names what is no Unicode
    rows = [b'{"cut', *(json.dumps(row).encode() for row in [*bad, half, lettered])]
    rows.append(json.dumps(fine | {"question": "é"}, ensure_ascii=False).encode("latin-1"))
    (tmp_path / "rows.jsonl").write_bytes(b"\n".join(rows))
    out = tmp_path / "train.jsonl"
    assert main(["data", "group", str(tmp_path / "rows.jsonl"), "--out", str(out)]) == 1
    assert "error: 6 rows are no samples" in capsys.readouterr().err
    (sample,) = read_manifest(out)
    said = {turn["value"].removeprefix("<video>\n")[:6] for turn in sample.conversations}
    assert said == {"half \ud83d", "a", "q\nA. r", "B"}


@pytest.fixture
def bad_manifest(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """Write a manifest with one sample of every fault, and say which it is."""
    Image.new("RGBA", (40, 40)).save(tmp_path / "alpha.png")
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG broken")
    (tmp_path / "broken.mp4").write_bytes(b"broken")
    (tmp_path / "empty.mp4").touch()
    header = FeaturesHeader(tower_digest="other", duration_seconds=3)
    write_features(tmp_path / "other", torch.zeros(3, 4, 16), torch.arange(3), header)
    write_features(tmp_path / "shape", torch.zeros(3, 9, 16), torch.arange(3), header)
    nan = {"features": torch.full((3, 4, 16), torch.nan).bfloat16()}
    document = {"version": 1, "tower_digest": "other", "duration_seconds": 3, "fps": 1.0}
    document |= {"video": "", "content_digest": ""}
    save_file(
        {**nan, "times": torch.arange(3).double()},
        tmp_path / "nan",
        metadata={FORMAT: json.dumps(document)},
    )
    ask: dict[str, Any] = {"conversations": talk("what color", "red")}
    rows: list[tuple[str, dict[str, Any]]] = [
        ("good", ask),
        ("good", {**ask, "image": "alpha.png"}),
        ("image", {**ask, "image": "none.png"}),
        ("image", {**ask, "image": "dot.png"}),
        ("image", {**ask, "image": "broken.png"}),
        ("video", {**ask, "video": "none.mp4"}),
        ("video", {**ask, "video": "broken.mp4"}),
        ("video", {**ask, "video": "empty.mp4"}),
        ("row", {**ask, "video": ["a.mp4", "b.mp4"]}),
        ("features", {**ask, "features": "none"}),
        ("features", {**ask, "features": "other"}),
        ("features", {**ask, "features": "shape"}),
        ("features", {**ask, "features": "nan"}),
        ("role", {"conversations": [{"from": "bot", "value": "x"}, *talk("what", "red")]}),
        ("question", {"conversations": talk(" ", "red")}),
        ("answer", {"conversations": talk("what", "")}),
        ("placeholder", {"conversations": talk("<video> what", "red")}),
        ("control", {"conversations": talk("what", "red<|im_end|>")}),
        ("long", {"conversations": talk("what", "red " * 20_001)}),
        ("leak", {"conversations": talk("is it a red ball there", "it a red ball there")}),
    ]
    wanted: dict[str, str] = {}
    lines = []
    for number, (kind, row) in enumerate(rows):
        lines.append(json.dumps({"id": f"{number}", **row}))
        if kind not in ("good", "leak"):  # a leak may be a choice: it is noted, and last
            wanted[f"{tmp_path / 'm.jsonl'}:{number + 1}"] = kind
    wanted[f"{tmp_path / 'm.jsonl'}:{len(rows) + 1}"] = "row"
    (tmp_path / "m.jsonl").write_text("\n".join([*lines, '{"id": cut']))
    return tmp_path / "m.jsonl", wanted


def test_check_names_every_fault_once(
    bad_manifest: tuple[Path, dict[str, str]],
    tiny_model: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, wanted = bad_manifest
    arguments = ["data", "check", str(path), "--model", str(tiny_model), "--max-length", "20000"]
    faults = path.with_name("faults.jsonl")
    assert main([*arguments, "--list-to", str(faults)]) == 1
    found = [json.loads(line) for line in faults.read_text().splitlines()]
    named = {fault["where"]: fault["kind"] for fault in found}
    assert len(found) == len(named)
    assert named.pop(f"{path}:2") == "alpha"
    assert named.pop(f"{path}:20") == "leak"
    assert list(named.items()) == list(wanted.items())
    said = capsys.readouterr()
    assert f"faulty     {len(wanted):>11,}  samples" in said.out
    assert "note: an image with transparency" in said.out
    assert f"error: {len(wanted)} of 21 samples cannot be trained on" in said.err
    assert len(said.err.splitlines()) == 13


@pytest.mark.parametrize("model", [None, "nano"])
def test_a_check_finds_the_same_with_and_without_workers(
    bad_manifest: tuple[Path, dict[str, str]], model: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = bad_manifest
    listed, said = [], []
    for workers in ("0", "1", "7"):
        faults = path.with_name(f"faults{workers}.jsonl")
        typed = ["data", "check", str(path), "--workers", workers, "--list-to", str(faults)]
        assert main([*typed, *(["--model", model] if model else [])]) == 1
        listed.append(faults.read_text())
        said.append(capsys.readouterr())
    assert len(set(listed)) == len(set(said)) == 1
    assert main(["data", "check", str(path), "--workers", "-1"]) == 1
    assert "--workers -1: 0 to" in capsys.readouterr().err


def test_a_check_that_is_interrupted_tells_what_it_found(
    bad_manifest: tuple[Path, dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, _ = bad_manifest
    looked = ManifestCheck.check

    def interrupted(self: ManifestCheck, index: int) -> None:
        if index == 5:
            raise KeyboardInterrupt
        looked(self, index)

    monkeypatch.setattr(ManifestCheck, "check", interrupted)
    faults = path.with_name("faults.jsonl")
    assert main(["data", "check", str(path), "--list-to", str(faults)]) == 130
    said = capsys.readouterr()
    assert "samples              5  " in said.out
    assert "5 of 21 samples were looked at" in said.err
    assert len(faults.read_text().splitlines()) == 4  # three faults, and transparency
    nowhere = str(path.with_name("no folder") / "faults.jsonl")
    assert main(["data", "check", str(path), "--list-to", nowhere]) == 1
    assert "name a file in a folder that is there" in capsys.readouterr().err
    before = path.read_bytes()
    assert main(["data", "check", str(path), "--list-to", str(path)]) == 1
    assert "that is the manifest" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_check_without_a_model_and_fast_opens_less(
    bad_manifest: tuple[Path, dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    path, wanted = bad_manifest
    assert main(["data", "check", str(path), "--json"]) == 1
    summary = json.loads(capsys.readouterr().out)
    assert summary["num_faulty"] == len(wanted) - 2  # another tower, another shape
    assert main(["data", "check", str(path), "--fast", "--json"]) == 1
    fast = json.loads(capsys.readouterr().out)
    assert fast["num_faulty"] == len(wanted) - 4  # and NaN, and the video that does not decode
    good = path.with_name("good.jsonl")
    good.write_text("\n".join(path.read_text().splitlines()[:2]))
    assert main(["data", "check", str(good)]) == 0
    assert "faulty               0  samples" in capsys.readouterr().out


def test_check_counts_to_training_s_length_and_refuses_flags_that_only_a_model_reads(
    tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(json.dumps({"id": "x", "conversations": talk("what", "red " * 3000)}))
    for flag in ("--max-length", "--fps"):
        assert main(["data", "check", str(path), flag, "2"]) == 1
        assert f"{flag} 2" in (said := capsys.readouterr().err) and "add --model" in said
    unlimited = tmp_path / "model"
    shutil.copytree(tiny_model, unlimited)
    settings = unlimited / "tokenizer_config.json"
    document = json.loads(settings.read_text())
    settings.write_text(json.dumps({**document, "model_max_length": 131_072}))
    check = ["data", "check", str(path), "--model"]
    assert main([*check, str(unlimited), "--max-length", "0"]) == 1
    assert "--max-length 0: a row has at least 1 token" in capsys.readouterr().err
    assert main([*check, str(unlimited)]) == 0
    path.write_text(json.dumps({"id": "x", "conversations": talk("what", "red " * 20_000)}))
    assert main([*check, str(unlimited), "--max-length", "100000"]) == 0
    path.write_text(json.dumps({"id": "x", "conversations": talk("what", "red " * 33_000)}))
    capsys.readouterr()
    for model, limit in ((unlimited, "32,768"), (tiny_model, "2,048")):
        assert main([*check, str(model)]) == 1
        assert f"the limit is {limit}" in capsys.readouterr().err


def test_a_source_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tmp_path / "a.jsonl"
    row = {"id": "a", "video": "a.mp4", "conversations": talk("<video>\nq", "a")}
    rows.write_text(json.dumps(row) + "\n" + "no row\n")
    before = rows.read_bytes()
    out = str(tmp_path / "." / "a.jsonl")
    assert main(["data", "group", str(rows), "--out", out]) == 1
    assert "is one of the sources" in capsys.readouterr().err
    assert rows.read_bytes() == before and list(tmp_path.iterdir()) == [rows]


def test_a_broken_file_of_many_samples_is_named_once_and_hides_no_other_kind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = {"video": "lost.mp4", "conversations": talk("<video>\nq", "a")}
    rows = [{"id": f"v{n}", **lost} for n in range(30)]
    rows.append({"id": "r", "conversations": talk("q", "")})
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["data", "check", str(tmp_path / "m.jsonl")]) == 1
    named = [line for line in capsys.readouterr().err.splitlines() if "m.jsonl:" in line]
    assert len(named) == 2
    assert "video:" in named[0] and "(and 29 more samples)" in named[0]
    assert "answer:" in named[1] and "more samples" not in named[1]
