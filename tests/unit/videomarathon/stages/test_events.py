"""events, event_captions, global_caption: borders, re-asks, context, what is set aside."""

from __future__ import annotations

from typing import Any

import pytest

from hour_llava.videomarathon.prompts import fill
from hour_llava.videomarathon.records import SetAside
from hour_llava.videomarathon.stage import UnitError
from hour_llava.videomarathon.stages import event_captions, events, global_caption

SPLIT = {"0-61s": "A", "58-125s": "B", "118-180s": "C"}


def _spans(found: list[Any]) -> list[tuple[int, int]]:
    return [(e.span.start_ms // 1000, e.span.end_ms // 1000) for e in found]


def test_a_models_borders_move_to_the_clips(bench: Any, small: Any) -> None:
    found = bench.run(events.STAGE, small.video.id, small.inputs, lambda request: SPLIT)
    assert _spans(found) == [(0, 60), (60, 120), (120, 180)]
    assert [e.title for e in found] == ["A", "B", "C"]
    assert found[1].clip_ids == tuple(c.clip_id for c in small.captions[3:6])


def test_unsorted_overlong_and_nested_stretches_are_put_right(bench: Any, small: Any) -> None:
    answer = {
        "100-999s": "late",
        "0-150s": "early",
        "20-40s": "nested",
        "150-160": "inside late",
        "900-990s": "outside",
        "1:00-2:00": "nested too",
        "0-0s": "nothing",
    }
    bench.settings = bench.settings.model_copy(update={"min_events": 2})
    found = bench.run(events.STAGE, small.video.id, small.inputs, lambda request: answer)
    assert [e.title for e in found] == ["early", "late"]
    assert _spans(found) == [(0, 100), (100, 180)]  # an overlap of more than a clip is cut


def test_exact_times_stay_exact(bench: Any, small: Any) -> None:
    video = small.video.model_copy(update={"backend": "truth"})
    answer = {"0-12.5s": "A", "12.5-99s": "B", "99-180s": "C"}
    inputs = {**small.inputs, "ingest": [video]}
    found = bench.run(events.STAGE, video.id, inputs, lambda request: answer)
    assert [e.span.end_ms for e in found] == [12_500, 99_000, 180_000]


def test_too_few_events_set_the_video_aside(bench: Any, small: Any) -> None:
    (row,) = bench.run(
        events.STAGE, small.video.id, small.inputs, lambda request: {"0-180s": "All of it"}
    )
    assert isinstance(row, SetAside)
    assert row.reason == "too_few_events"
    assert row.detail == "1 events; a video needs 3"


def test_no_usable_caption_sets_the_video_aside_without_asking(bench: Any, small: Any) -> None:
    unusable = [c.model_copy(update={"is_usable": False}) for c in small.captions]
    inputs = {**small.inputs, "caption_check": unusable}
    (row,) = bench.run(events.STAGE, small.video.id, inputs)
    assert row.reason == "no_usable_captions"


def test_keys_that_are_no_stretches_are_asked_again_twice(bench: Any, small: Any) -> None:
    answers = iter([{"first": "A"}, {"0-60": "A", "later": "B"}, SPLIT])
    found = bench.run(events.STAGE, small.video.id, small.inputs, lambda request: next(answers))
    assert len(found) == 3
    assert [r.attempt for r in bench.requests] == [0, 1, 2]
    assert found[0].provenance.call_keys == ("key1", "key2", "key3")


def test_three_unusable_answers_fail_the_unit(bench: Any, small: Any) -> None:
    with pytest.raises(UnitError, match="'first' is no stretch") as caught:
        bench.run(events.STAGE, small.video.id, small.inputs, lambda request: {"first": "A"})
    assert caught.value.failure == "content"
    assert len(bench.requests) == 3


def test_a_retry_asks_beyond_the_answers_that_are_known(bench: Any, small: Any) -> None:
    bench.retries = 1
    found = bench.run(
        events.STAGE,
        small.video.id,
        small.inputs,
        lambda request: SPLIT if request.attempt == 4 else {"first": "A"},
    )
    assert len(found) == 3
    assert [request.attempt for request in bench.requests] == [0, 1, 2, 3, 4]


def test_neighbours_are_context_and_only_own_clips_are_told(bench: Any, small: Any) -> None:
    answer = {"Event-Level Description": "It happens."}
    found = bench.run(event_captions.STAGE, small.video.id, small.inputs, lambda request: answer)
    assert [e.narrative for e in found] == ["It happens."] * 3
    assert [e.span for e in found] == [e.span for e in small.events]
    middle = bench.requests[1]
    system, user = (text for _, text in fill(middle.prompt, middle.values))
    assert "use nothing else" in system
    assert 'Before it: [0-60s] "Cooking in the yard".' in user
    assert 'After it: [120-180s] "The evening light".' in user
    assert "[60-80s]\n  Temporality:" in user
    assert "[0-20s]\n" not in user
    assert bench.requests[0].values["previous"] == "nothing; the video begins here"
    assert bench.requests[2].values["next"] == "nothing; the video ends here"


def test_an_event_without_usable_clips_keeps_its_title(bench: Any, small: Any) -> None:
    inputs = {**small.inputs, "caption_check": small.captions[:6]}
    answer = {"Event-Level Description": "It happens."}
    found = bench.run(event_captions.STAGE, small.video.id, inputs, lambda request: answer)
    assert [e.narrative for e in found] == ["It happens.", "It happens.", "The evening light"]
    assert len(bench.requests) == 2


def test_the_whole_is_told_from_all_events(bench: Any, small: Any) -> None:
    answer = {"Global-Level Description": "All of it."}
    (row,) = bench.run(global_caption.STAGE, small.video.id, small.inputs, lambda request: answer)
    assert row.text == "All of it."
    assert row.event_ids == tuple(e.id for e in small.events)
    (request,) = bench.requests
    user = fill(request.prompt, request.values)[1][1]
    assert "[60-120s] Work at the fence: Work at the fence takes its time." in user


def test_calls_of_a_fault_free_run_are_counted(bench: Any, small: Any) -> None:
    from hour_llava.videomarathon.stage import Unit

    unit = Unit(id=small.video.id, inputs=small.inputs)
    truth = small.video.model_copy(update={"backend": "truth"})
    free = Unit(id=small.video.id, inputs={**small.inputs, "ingest": [truth]})
    for module, expected in ((events, 1), (event_captions, 3), (global_caption, 1)):
        count = module.STAGE.count_calls
        assert count is not None
        parameters = module.STAGE.parameters(bench.settings)
        assert count(unit, parameters) == expected
        assert count(free, parameters) == 0
