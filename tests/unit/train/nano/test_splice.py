from __future__ import annotations

import itertools
from random import Random

import numpy as np
import pytest
import torch

from hour_llava.recipes.nano import FAMILIES
from hour_llava.train.nano.bank import ClipGroup, TokenGroup, training_timeline
from hour_llava.train.nano.batches import draw_questions
from hour_llava.train.nano.scraps import scrap_timeline
from hour_llava.train.nano.splice import Scrapbook, VideoSample
from hour_llava.train.nano.tower import MEMORY_SIZES, attribute_classes
from hour_llava.world.labels import attributes_per_second
from hour_llava.world.story_facts import interactions_of, performances_of, visits_of
from hour_llava.world.timeline import ACTIONS, CELLS, SHAPES, STORY, is_held_out

COLUMNS = list(MEMORY_SIZES)
NEIGHBOUR = COLUMNS.index("neighbour")  # the last: of a spliced video's background nothing is told


@pytest.fixture(scope="module")
def scraps() -> Scrapbook:
    """Pieces of clips whose only feature is the number of the frame."""
    groups: list[TokenGroup] = []
    first = 0
    for seconds, count, make in ((20, 100, training_timeline), (60, 150, scrap_timeline)):
        group = ClipGroup(seconds=seconds, num_clips=count, first_seed=seconds, make=make)
        timelines = group.timelines()
        numbers = torch.arange(first, first + seconds * count).float()
        first += seconds * count
        groups.append(
            TokenGroup(
                group=group,
                timelines=timelines,
                features_NFPD=numbers.view(count, seconds, 1, 1).expand(-1, -1, 4, 1),
                classes_NFPA=torch.stack(
                    [attribute_classes(attributes_per_second(one)) for one in timelines]
                ).to(torch.uint8),
            )
        )
    return Scrapbook(groups)


@pytest.fixture(scope="module", params=(14, 45, 400))
def videos(request: pytest.FixtureRequest, scraps: Scrapbook) -> list[VideoSample]:
    return scraps.videos(request.param, 5, Random(request.param))


def test_what_the_frames_show_is_what_the_truth_says(videos: list[VideoSample]) -> None:
    for video in videos:
        timeline = video.timeline
        shown = video.classes_FPA.long()
        told = attribute_classes(attributes_per_second(timeline)).long()
        assert len(shown) == timeline.duration_seconds
        for name in ("scene", "digit"):
            column = COLUMNS.index(name)
            assert torch.equal(shown[..., column], told[..., column])
        for name, classes in (("ringed", (1,)), ("pattern", (1, 2))):
            column = COLUMNS.index(name)
            for number in classes:
                assert torch.equal(shown[..., column] == number, told[..., column] == number)
        for appearance in timeline.appearances:
            seconds = slice(appearance.start_seconds, appearance.end_seconds)
            cell = CELLS.index(appearance.cell)
            own = slice(None) if appearance.role in STORY[:2] else slice(NEIGHBOUR)
            assert torch.equal(shown[seconds, cell, own], told[seconds, cell, own])
            if appearance.role in ("flash", "actor"):
                is_shown, is_told = (
                    classes[..., COLUMNS.index("shape")] == SHAPES.index(str(appearance.shape))
                    for classes in (shown, told)
                )
                assert torch.equal(is_shown, is_told)


def test_the_absent_shape_is_nowhere(videos: list[VideoSample]) -> None:
    for video in videos:
        absent = SHAPES.index(video.timeline.absent_shape)
        assert not (video.classes_FPA[..., COLUMNS.index("shape")] == absent).any()


def test_needles_keep_the_frames_of_their_clip_in_order(videos: list[VideoSample]) -> None:
    for video in videos:
        numbers = video.features_FPD[:, 0, 0].numpy()
        for needle in video.timeline.needles:
            own = numbers[needle.start_seconds : needle.end_seconds]
            assert (np.diff(own) == 1).all()


def test_the_story_keeps_its_rules(videos: list[VideoSample]) -> None:
    for video in videos:
        timeline = video.timeline
        acts = performances_of(timeline)
        assert acts == timeline.with_role("performer")
        assert len({(act.shape, act.colour) for act in acts}) <= 1
        assert len({act.action for act in acts}) == len(acts)
        for first, second in visits_of(timeline):
            assert first.colour == second.colour
            assert first.colour in {flash.colour for flash in timeline.with_role("flash")}
        meetings = interactions_of(timeline)
        for names in zip(*(one.slots.items() for one in meetings), strict=True):
            assert len(set(names)) == len(meetings)  # no agent, patient or verb twice


def test_nothing_that_is_asked_about_overlaps(videos: list[VideoSample]) -> None:
    for video in videos:
        spans = sorted(
            (one.start_seconds, one.end_seconds)
            for one in video.timeline.appearances
            if one.role != "patient"
        )
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))


def test_compositions_kept_for_exams_never_occur(videos: list[VideoSample]) -> None:
    for video in videos:
        for one in video.timeline.appearances:
            if one.action in ACTIONS:
                assert not is_held_out(str(one.shape), str(one.colour), str(one.action))


def test_all_families_can_be_asked(scraps: Scrapbook) -> None:
    rng = Random(0)
    asked = {
        question.family
        for video in scraps.videos(300, 5, rng)
        for question in draw_questions(video.timeline, 150, FAMILIES, rng)
    }
    assert asked | {"act_sequence"} == set(FAMILIES)  # three acts of one shape: too few clips here


def test_too_few_clips_are_named() -> None:
    group = ClipGroup(seconds=14, num_clips=1, first_seed=0)
    timelines = group.timelines()
    book = Scrapbook(
        [
            TokenGroup(
                group=group,
                timelines=timelines,
                features_NFPD=torch.zeros(1, 14, 4, 1),
                classes_NFPA=attribute_classes(attributes_per_second(timelines[0]))[None],
            )
        ]
    )
    with pytest.raises(RuntimeError, match="too few clips"):
        book.videos(600, 1, Random(0))


def test_a_thinned_video_keeps_all_that_can_be_asked_about(scraps: Scrapbook) -> None:
    whole = scraps.videos(1500, 3, Random(9))
    thinned = scraps.videos(1500, 3, Random(9), num_frames=400)
    rng = Random(0)
    for one, all_of_it in zip(thinned, whole, strict=True):
        seconds = one.seconds_F
        assert len(seconds) == len(one.features_FPD) == len(one.classes_FPA) == 400
        assert (seconds.diff() > 0).all()
        for question in draw_questions(one.timeline, 200, FAMILIES, rng):
            for span in question.evidence:
                asked = torch.arange(int(span.start_seconds), int(span.end_seconds))
                assert torch.isin(asked, seconds).all(), question
        longest_hole = seconds.diff().max()
        assert longest_hole < 60, "the rest is evenly spread"
        assert all_of_it.timeline.duration_seconds == one.timeline.duration_seconds == 1500


def test_a_thinned_video_shows_at_each_second_what_its_truth_says(scraps: Scrapbook) -> None:
    for video in scraps.videos(1500, 3, Random(4), num_frames=400):
        told = attribute_classes(attributes_per_second(video.timeline, video.seconds_F)).long()
        for name in ("scene", "digit"):
            column = COLUMNS.index(name)
            assert torch.equal(video.classes_FPA[..., column].long(), told[..., column])


def test_more_to_ask_about_than_frames_to_keep_makes_no_video(scraps: Scrapbook) -> None:
    with pytest.raises(RuntimeError, match="too few clips"):
        scraps.videos(1500, 1, Random(4), num_frames=40)
