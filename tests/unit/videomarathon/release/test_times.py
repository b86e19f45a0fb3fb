"""Chapters and cues keep to what WebVTT's and YouTube's readers ask."""

from __future__ import annotations

import json
import re

import pytest

from hour_llava.videomarathon.records import Aspects, ClipCaption, Event, Provenance, Span
from hour_llava.videomarathon.release.chapters import make_chapters
from hour_llava.videomarathon.release.webvtt import write_chapters, write_clips

BY = Provenance(stage="events", stage_version=1, backend="truth")


def _events(*spans: tuple[float, float], title: str = "part") -> list[Event]:
    return [
        Event(
            id=f"v:e{index:03}",
            video_id="v",
            index=index,
            span=Span(start_ms=int(start * 1000), end_ms=int(end * 1000)),
            title=f"{title} {index}",
            clip_ids=(),
            provenance=BY,
        )
        for index, (start, end) in enumerate(spans)
    ]


def test_chapters_start_at_zero_and_pass_the_hour() -> None:
    chapters = make_chapters(_events((3, 600), (600, 3600), (3600, 4000)), 4_000_000)

    assert chapters.lines == ("00:00 part 0", "10:00 part 1", "1:00:00 part 2")


def test_a_late_first_event_gets_an_opening_before_it() -> None:
    chapters = make_chapters(_events((40, 60), (60, 90)), 90_000)

    assert chapters.lines == ("00:00 Opening", "00:40 part 0", "01:00 part 1")


def test_short_events_join_the_chapter_before_them() -> None:
    chapters = make_chapters(_events((0, 20), (20, 24), (24, 50), (50, 81), (81, 88)), 88_000)

    assert chapters.lines == ("00:00 part 0", "00:20 part 1", "00:50 part 3")


def test_too_few_chapters_are_refused_with_the_numbers() -> None:
    chapters = make_chapters(_events((0, 100), (100, 180)), 180_000)

    assert chapters.lines == ()
    assert chapters.refusal == "2 of at least 3 chapters of 10 s or more: 2 events in 180 s"


def test_no_events_are_refused_too() -> None:
    assert make_chapters([], 180_000).refusal is not None


def test_a_title_is_one_line() -> None:
    events = _events((0, 20), (20, 40), (40, 60), title="a\nb\u2028c\t")

    assert make_chapters(events, 60_000).lines[0] == "00:00 a b c 0"


def test_chapter_cues_do_not_overlap_and_escape_tags() -> None:
    text = write_chapters(_events((0, 50), (45, 90), (90, 120), title="<b> & --> x"), "a note")

    times = re.findall(r"^(\S+) --> (\S+)$", text, flags=re.MULTILINE)
    assert times == [
        ("00:00:00.000", "00:00:45.000"),
        ("00:00:45.000", "00:01:30.000"),
        ("00:01:30.000", "00:02:00.000"),
    ]
    assert "&lt;b&gt; &amp; --&gt; x 0" in text
    assert text.startswith("WEBVTT\n\nNOTE a note\n\nevent-0\n")


@pytest.mark.parametrize("words", ["plain", 'a "quote"', "x --> y", "one\n\ntwo", "名前"])
def test_clip_cues_hold_json_in_one_line(words: str) -> None:
    aspects = Aspects(**dict.fromkeys(Aspects.model_fields, words))
    caption = ClipCaption(
        clip_id="v:0-30000",
        video_id="v",
        span=Span(start_ms=0, end_ms=3_600_000),
        aspects=aspects,
        provenance=BY,
    )

    head, cue = write_clips([caption]).split("\n\n")

    name, times, payload = cue.rstrip("\n").split("\n")
    assert (head, name, times) == ("WEBVTT", "clip-0", "00:00:00.000 --> 01:00:00.000")
    assert "-->" not in payload
    assert json.loads(payload)["scene"] == words
