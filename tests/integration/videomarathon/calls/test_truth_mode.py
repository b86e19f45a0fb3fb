"""The mock's model with truth files: it tells what the world's truth says of the asked stretch."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from hour_llava.errors import HourLlavaError
from hour_llava.video import probe
from hour_llava.videomarathon.mock_answers import Asked
from hour_llava.videomarathon.mock_truth import TruthAnswers
from hour_llava.videomarathon.records import digest
from hour_llava.videomarathon.schemas import ClipAspects, EventSplit, json_schema
from hour_llava.world.captions import describe, events_of
from hour_llava.world.make import read_world


def asked(model: type[BaseModel], unit: str) -> Asked:
    return Asked(schema=json_schema(model), text="", unit=unit)


def test_captions_and_events_are_the_truths(world_videos: Path) -> None:
    (video,) = world_videos.rglob("video.mp4")
    timeline = read_world(video.parent).timeline
    name = digest(probe(video).content_digest)
    answers = TruthAnswers(world_videos)
    said = answers.answer(asked(ClipAspects, f"{name}:20000-50000"))
    assert said is not None
    caption = ClipAspects.model_validate_json(said)
    told = [s.text for statements in describe(timeline, 20, 50).values() for s in statements]
    sentences = [s for text in caption.model_dump().values() for s in text.split(". ")]
    assert all(any(sentence.rstrip(".") in one for one in told) for sentence in sentences)
    events = answers.answer(asked(EventSplit, name))
    assert events is not None
    titles = EventSplit.model_validate_json(events).root.values()
    assert list(titles) == [event.title for event in events_of(timeline)]


def test_what_no_truth_file_knows_is_left_to_others(world_videos: Path) -> None:
    assert TruthAnswers(world_videos).answer(asked(ClipAspects, "other:0-30000")) is None


def test_a_folder_without_truth_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HourLlavaError, match="no video with a truth file"):
        TruthAnswers(tmp_path)
