"""The built-in model as users meet it: right answers, from re-encoded files too, and its limits."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from hour_llava.cli import main
from hour_llava.commands import doctor
from hour_llava.session import Assistant, load
from hour_llava.world.questions import FAMILIES, Question, make_questions
from hour_llava.world.timeline import make_timeline
from hour_llava.world.video_file import write_video

SEED, SECONDS = 21, 120


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep one cache for the module, so that every question finds the memory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOUR_LLAVA_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("nano") / "world.mp4"
    write_video(make_timeline(SECONDS, SEED), path)
    return path


@pytest.fixture(scope="module")
def reencoded(video: Path) -> Path:
    """Return the video as another program might have saved it: codec, size, rate, container."""
    path = video.with_name("again.mkv")
    with av.open(str(video)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 426, 240, "yuv420p"
        stream.time_base, stream.bit_rate = Fraction(1, 5), 600_000
        next_index = 0
        for frame in source.decode(video=0):
            while frame.time is not None and next_index / 5 <= frame.time:
                image = frame.reformat(426, 240, "yuv420p")
                image.pts, image.time_base = next_index, Fraction(1, 5)
                target.mux(stream.encode(image))
                next_index += 1
        target.mux(stream.encode(None))
    return path


def questions(*formats: str) -> tuple[Question, ...]:
    timeline = make_timeline(SECONDS, SEED)
    return make_questions(
        timeline, SEED, per_family=1, formats=formats, wordings="unseen", families=FAMILIES
    )


@pytest.fixture(scope="module")
def assistant() -> Assistant:
    return load("nano", device="cpu")


@pytest.mark.parametrize("kind", ["video", "reencoded"])
def test_most_open_questions_are_answered_rightly(
    kind: str, assistant: Assistant, request: pytest.FixtureRequest
) -> None:
    memory = assistant.remember(request.getfixturevalue(kind))
    asked = questions("oe")
    given = [assistant.ask(memory, question.question).text for question in asked]
    right = [answer == question.answer for answer, question in zip(given, asked, strict=True)]
    assert sum(right) >= 0.6 * len(right), list(zip(given, asked, strict=True))


def test_most_choices_are_right(assistant: Assistant, video: Path) -> None:
    memory = assistant.remember(video)
    asked = questions("mc")
    given = [assistant.ask(memory, q.question, options=q.options).best_guess for q in asked]
    right = [answer == question.answer for answer, question in zip(given, asked, strict=True)]
    assert sum(right) >= 0.6 * len(right), list(zip(given, asked, strict=True))


def test_the_confidence_of_an_option_is_that_of_saying_it(
    assistant: Assistant, video: Path
) -> None:
    memory = assistant.remember(video)
    question = questions("oe")[0].question
    said = assistant.ask(memory, question)
    chosen = assistant.ask(memory, question, options=[said.best_guess, "mango"])
    assert chosen.best_guess == said.best_guess
    assert chosen.confidence == pytest.approx(said.confidence, rel=1e-3)


def test_the_evidence_of_a_colour_lies_where_the_shape_was(
    assistant: Assistant, video: Path
) -> None:
    (colour,) = (question for question in questions("oe") if question.family == "colour")
    answer = assistant.ask(assistant.remember(video), colour.question, evidence=True)
    truth = colour.evidence[0]
    assert answer.evidence[0].start_seconds <= truth.end_seconds + 2
    assert answer.evidence[0].end_seconds >= truth.start_seconds - 2


def test_of_other_videos_it_says_what_it_knows_and_declines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "street.mp4"
    noise = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=2)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for _ in range(40):
            pixels = noise.integers(0, 255, (30, 40, 3), np.uint8).repeat(8, 0).repeat(8, 1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    assert main(["ask", str(path), "Why did the policeman laugh at his neighbour?", "--json"]) == 0
    captured = capsys.readouterr()
    answer = json.loads(captured.out)
    assert answer["domain"] == "MarathonWorld"
    assert answer["abstained"] is True
    assert answer["answer"] == "I don't know"
    assert "knows MarathonWorld only" in captured.err


def test_doctor_finds_nano_well() -> None:
    status, detail = doctor._nano()
    assert status == "ok", detail
