"""captions and caption_check: what is asked, what is asked again, what is not used."""

from __future__ import annotations

from typing import Any

import pytest

from hour_llava.videomarathon.prompts import fill
from hour_llava.videomarathon.records import Clip, Span, clip_id
from hour_llava.videomarathon.stage import UnitError
from hour_llava.videomarathon.stages import caption_check, captions

GOOD = {
    "Temporality": "The man slowly lifts the box and then puts it down again.",
    "Spatiality": "He stands to the left of a high shelf in the middle of the room.",
    "Object": "A man with a grey beard, a large cardboard box, a shelf of dark wood.",
    "Action": "The man is lifting a box and is putting it on the shelf.",
    "Scene": "A storeroom with white walls and a lamp at the ceiling.",
    "Summary": "A man moves a cardboard box in a storeroom.",
}
REFUSAL = dict.fromkeys(GOOD, "I'm sorry, but I can't assist with that.")


def _clip(video: Any) -> Clip:
    span = Span(start_ms=20_000, end_ms=50_000)
    return Clip(id=clip_id(video.id, span), video_id=video.id, index=1, span=span)


def test_a_clip_is_asked_for_with_its_pictures_and_its_seconds(bench: Any, small: Any) -> None:
    clip = _clip(small.video)
    inputs = {"ingest": [small.video], "clips": [clip]}
    (caption,) = bench.run(captions.STAGE, clip.id, inputs, lambda request: GOOD)
    assert caption.aspects.summary == GOOD["Summary"]
    assert caption.provenance.call_keys == ("key1",)
    (request,) = bench.requests
    assert request.images == (b"jpeg 0", b"jpeg 1", b"jpeg 2")
    user = fill(request.prompt, request.values)[1][1]
    assert "3 pictures from 20 s to 50 s" in user
    assert "in English" in user


def test_no_pictures_are_decoded_for_a_truth_file(bench: Any, small: Any) -> None:
    video = small.video.model_copy(update={"backend": "truth"})
    clip = _clip(video)
    bench.run(captions.STAGE, clip.id, {"ingest": [video], "clips": [clip]}, lambda r: GOOD)
    assert bench.requests[0].images == ()


def test_good_captions_are_not_asked_again(bench: Any, small: Any) -> None:
    found = bench.run(caption_check.STAGE, small.video.id, small.inputs)
    assert [c.aspects for c in found] == [c.aspects for c in small.captions]
    assert all(c.is_usable and c.verdicts for c in found)


def test_a_refusal_is_asked_once_more_and_told_why(bench: Any, small: Any) -> None:
    refused = {name.lower(): text for name, text in REFUSAL.items()}
    bad = small.captions[3].model_copy(
        update={"aspects": small.captions[3].aspects.model_copy(update=refused)}
    )
    inputs = {**small.inputs, "captions": [*small.captions[:3], bad, *small.captions[4:]]}
    found = bench.run(caption_check.STAGE, small.video.id, inputs, lambda request: GOOD)
    assert found[3].is_usable
    assert found[3].aspects.summary == GOOD["Summary"]
    assert found[3].provenance.call_keys == ("key1",)
    (request,) = bench.requests
    assert request.unit == bad.clip_id
    assert "refus" in request.values["note"].lower()


def test_what_stays_a_refusal_is_kept_and_not_used(bench: Any, small: Any) -> None:
    refused = {name.lower(): text for name, text in REFUSAL.items()}
    bad = small.captions[3].model_copy(
        update={"aspects": small.captions[3].aspects.model_copy(update=refused)}
    )
    inputs = {**small.inputs, "captions": [*small.captions[:3], bad, *small.captions[4:]]}
    found = bench.run(caption_check.STAGE, small.video.id, inputs, lambda request: REFUSAL)
    assert len(found) == 9
    assert [c.is_usable for c in found].count(False) == 1
    assert len(bench.requests) == 1


def test_a_failing_endpoint_is_not_taken_for_a_bad_caption(bench: Any, small: Any) -> None:
    refused = {name.lower(): text for name, text in REFUSAL.items()}
    bad = small.captions[0].model_copy(
        update={"aspects": small.captions[0].aspects.model_copy(update=refused)}
    )

    def answer(request: Any) -> Any:
        raise UnitError("down", failure="transient")

    with pytest.raises(UnitError, match="down"):
        bench.run(caption_check.STAGE, small.video.id, {**small.inputs, "captions": [bad]}, answer)
