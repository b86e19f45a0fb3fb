"""Every verb as users type it, in this process to spare torch's start-up."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from hour_llava.cli import main

QUESTION = "What colour is the star?"
ASK_KEYS = {
    "answer": str,
    "abstained": bool,
    "model": str,
    "domain": str,
    "video": {"path": str, "duration_seconds": float, "num_frames": int, "damage": list},
    "memory": {"num_tokens": int, "num_bytes": int, "cached": bool},
    "kept_tokens": int,
    "evidence": list,
    "timings_seconds": {"decode": float, "encode": float, "augment": float, "generate": float},
}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep one cache for the module: these tests are about the verbs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOUR_LLAVA_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


class Runner:
    """Runs the command line in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str], model: Path) -> None:
        self.capsys, self.model = capsys, str(model)

    def __call__(self, *words: object) -> tuple[int, str, str]:
        code = main([str(word) for word in words])
        captured = self.capsys.readouterr()
        return code, captured.out, captured.err

    def ask(self, *words: object) -> tuple[int, str, str]:
        return self("ask", *words, "--model", self.model, "--max-new-tokens", 2)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tiny_model: Path) -> Runner:
    return Runner(capsys, tiny_model)


def shape_of(value: object) -> object:
    return {k: shape_of(v) for k, v in value.items()} if isinstance(value, dict) else type(value)


def test_ask_prints_the_answer_alone_on_stdout(run: Runner, minute_mp4: Path) -> None:
    code, out, err = run.ask(minute_mp4, QUESTION)
    assert code == 0
    answer, *evidence = out.splitlines()
    assert answer
    assert all(line.startswith("[") for line in evidence)
    assert "knows nothing: its weights are random only" in err
    assert "augment" in err


def test_ask_json_has_exactly_the_promised_keys(run: Runner, minute_mp4: Path) -> None:
    code, out, _ = run.ask(minute_mp4, QUESTION, "--json")
    assert code == 0
    assert out.count("\n") == 1
    answer = json.loads(out)
    assert shape_of(answer) == ASK_KEYS
    assert answer["video"]["num_frames"] == 60
    assert answer["memory"]["num_tokens"] == 128 * 5
    for span in answer["evidence"]:
        assert set(span) == {"start_seconds", "end_seconds", "score"}


def test_ask_chooses_among_options(run: Runner, minute_mp4: Path) -> None:
    code, out, _ = run.ask(minute_mp4, QUESTION, "--json", "--options", "red", "deep blue")
    assert code == 0
    assert json.loads(out)["answer"] in ("red", "deep blue")


def test_ask_draws_its_evidence(run: Runner, minute_mp4: Path, tmp_path: Path) -> None:
    code, _, err = run.ask(minute_mp4, QUESTION, "--evidence", tmp_path / "e.png")
    assert code == 0
    assert "evidence picture" in err
    with Image.open(tmp_path / "e.png") as image:
        assert image.width == 1200


def test_a_memory_file_travels(run: Runner, minute_mp4: Path, tmp_path: Path) -> None:
    file = tmp_path / "m.hlm"
    code, out, _ = run("remember", minute_mp4, "--out", file, "--model", run.model)
    assert (code, out) == (0, f"{file}\n")
    code, out, _ = run("info", file)
    assert code == 0
    assert "sound" in out and "60 frames" in out
    _, of_video, _ = run.ask(minute_mp4, QUESTION)
    code, of_file, _ = run.ask(file, QUESTION, "--evidence", tmp_path / "e.svg")
    assert (code, of_file) == (0, of_video)


def test_flags_of_watching_are_not_swallowed_by_a_memory_file(
    run: Runner, minute_mp4: Path, tmp_path: Path
) -> None:
    file = tmp_path / "half.hlm"
    code, _, err = run("remember", minute_mp4, "--out", file, "--fps", "0.5", "--model", run.model)
    assert code == 0, err
    code, out, err = run.ask(file, QUESTION, "--fps", "5")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "made at 0.5 frames a second, which --fps 5 cannot change" in err
    for words in ((), ("--fps", "0.5")):
        code, out, err = run.ask(file, QUESTION, *words, "--json")
        assert code == 0, err
        assert json.loads(out)["video"]["num_frames"] == 30
    code, out, err = run.ask(file, QUESTION, "--start", "20", "--no-cache", "--json")
    assert code == 0, err
    assert json.loads(out)["video"]["num_frames"] == 20
    assert "no cache has a part in it" in err


@pytest.mark.parametrize("damage", ["cut", "flipped", "foreign", "newer", "folder", "missing"])
def test_a_broken_memory_file_is_one_line(
    run: Runner, minute_mp4: Path, tmp_path: Path, damage: str
) -> None:
    file = tmp_path / "m.hlm"
    code, _, err = run("remember", minute_mp4, "--out", file, "--model", run.model)
    assert code == 0, err
    good = file.read_bytes()
    match damage:
        case "cut":
            file.write_bytes(good[:-1])
        case "flipped":
            file.write_bytes(good[:66_000] + bytes([good[66_000] ^ 1]) + good[66_001:])
        case "foreign":
            file.write_bytes(b"\x08" + b"hello" * 5)
        case "newer":
            file.write_bytes(good.replace(rb"\"version\":1", rb"\"version\":9", 1))
        case "folder":
            file.unlink()
            file.mkdir()
        case "missing":
            file.unlink()
    for words in (("info", file), ("ask", file, QUESTION, "--model", run.model)):
        code, out, err = run(*words)
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert str(file) in err


def odd_path(kind: str, folder: Path) -> str:
    match kind:
        case "folder":
            return str(folder)
        case "empty":
            return ""
        case "url":
            return "https://example.com/video.mp4"
        case "zero bytes":
            (folder / "zero.mp4").touch()
            return str(folder / "zero.mp4")
        case "text":
            (folder / "text.mp4").write_text("this is no video\n" * 50)
            return str(folder / "text.mp4")
        case "device":
            return "/dev/null"
        case "nul":
            return "a\0b.mp4"
        case "long":
            return "x" * 5000 + ".mp4"
    return str(folder / "none.mp4")


@pytest.mark.parametrize(
    "kind", ["missing", "folder", "empty", "url", "zero bytes", "text", "device", "nul", "long"]
)
def test_what_is_no_video_is_one_line(run: Runner, tmp_path: Path, kind: str) -> None:
    code, out, err = run.ask(odd_path(kind, tmp_path), QUESTION)
    assert (code, out, err.count("\n")) == (1, "", 1), err
    assert err.startswith("hour-llava: error: ")


@pytest.mark.parametrize("url", ["https://example.com/a//b.mp4", "http://x.org/m.hlm"])
@pytest.mark.parametrize("verb", ["ask", "remember", "probe"])
def test_a_url_is_named_as_it_was_typed(run: Runner, verb: str, url: str) -> None:
    code, out, err = run(verb, url, *([QUESTION] if verb == "ask" else []))
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert f"{url} is a URL; download" in err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("",), "empty"),
        (("x" * 50_000,), "50,000"),
        ((QUESTION, "--options", "red"), "1 option"),
        ((QUESTION, "--options", "red", "Red"), "same"),
        ((QUESTION, "--start", "100"), "start"),
        ((QUESTION, "--start", "20", "--end", "10"), "end"),
        ((QUESTION, "--max-memory", "1MB"), "at least"),
        ((QUESTION, "--model", ""), "the model's name is empty"),
        ((QUESTION, "--device", "abacus"), "abacus"),
        ((QUESTION, "--dtype", "int3"), "int3"),
        ((QUESTION, "--max-new-tokens", "0"), "max-new-tokens"),
        ((QUESTION, "--evidence", "/nowhere/e.png"), "/nowhere/e.png"),
        ((QUESTION, "--evidence", "e.docx"), "docx"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    run: Runner, minute_mp4: Path, words: tuple[str, ...], expected: str
) -> None:
    code, out, err = run("ask", minute_mp4, "--model", run.model, *words)
    assert (code, out, err.count("\n")) == (1, "", 1), err
    assert expected in err


@pytest.mark.parametrize(
    ("words", "expected"),
    [(("--max-memory", "1MB"), "give at least"), (("--max-new-tokens", "9999"), "give at most")],
)
def test_what_cannot_be_asked_afterwards_is_refused_before_watching(
    run: Runner,
    minute_mp4: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    expected: str,
) -> None:
    monkeypatch.setenv("HOUR_LLAVA_CACHE", str(tmp_path))
    code, out, err = run("ask", minute_mp4, QUESTION, *words, "--model", run.model)
    assert (code, out, err.count("\n")) == (1, "", 1), err
    assert expected in err
    assert {path.suffix for path in (tmp_path / "memories").iterdir()} <= {".lock"}


@pytest.mark.parametrize("question", ["这是什么?", "Qu'est-ce que c'est ?", "a\nb\tc", "🦊"])
def test_any_language_gets_an_answer(run: Runner, minute_mp4: Path, question: str) -> None:
    code, out, err = run.ask(minute_mp4, question)
    assert code == 0, err
    assert out.strip()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("ask",), 2),
        (("ask", "a.mp4"), 2),
        (("ask", "a.mp4", "b", "--fps", "-1"), 2),
        (("ask", "a.mp4", "b", "--start", "noon"), 2),
        (("ask", "a.mp4", "b", "--max-memory", "much"), 2),
        (("ask", "a.mp4", "b", "--jsn"), 2),
        (("info",), 2),
        (("ask", "--help"), 0),
        (("doctor", "--help"), 0),
    ],
)
def test_wrong_usage_exits_2_and_help_0(run: Runner, words: tuple[str, ...], code: int) -> None:
    found, out, err = run(*words)
    assert found == code
    assert bool(out) == (code == 0)
    assert err.count("\n") == (1 if code == 2 else 0), err


@pytest.mark.parametrize("change", ["missing", "empty", "no config", "cut weights", "other"])
def test_a_model_that_is_none_is_one_line(
    run: Runner, minute_mp4: Path, tiny_model: Path, tmp_path: Path, change: str
) -> None:
    folder = tmp_path / "model"
    if change == "empty":
        folder.mkdir()
    elif change != "missing":
        shutil.copytree(tiny_model, folder)
    if change == "no config":
        (folder / "config.json").unlink()
    elif change == "cut weights":
        weights = folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-100])
    elif change == "other":
        (folder / "config.json").write_text('{"model_type": "bert"}')
    code, out, err = run("ask", minute_mp4, QUESTION, "--model", folder)
    assert (code, out, err.count("\n")) == (1, "", 1), err
    assert "model" in err


@pytest.mark.parametrize("name", ["copy.mp4", "no_suffix", "missing/a.hlm"])
def test_remember_refuses_a_target_that_is_no_memory_file_before_any_work(
    run: Runner, minute_mp4: Path, tmp_path: Path, name: str
) -> None:
    target = tmp_path / name
    if name == "copy.mp4":
        target.write_bytes(b"precious")
    code, out, err = run("remember", minute_mp4, "--out", target, "--model", run.model)
    assert (code, out) == (1, "")
    assert str(target) in err
    assert "watch" not in err
    assert not target.exists() or target.read_bytes() == b"precious"


def test_ask_names_the_seconds_that_could_not_be_read(
    run: Runner, minute_mp4: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.mp4"
    data = bytearray(minute_mp4.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4000] = bytes(4000)
    broken.write_bytes(data)
    code, out, err = run.ask(broken, QUESTION, "--json")
    assert code == 0
    damage = json.loads(out)["video"]["damage"]
    assert damage
    assert f"damaged from {damage[0]['start_seconds']:.1f} s" in err
