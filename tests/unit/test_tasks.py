from __future__ import annotations

from collections import Counter

import pytest

from hour_llava.errors import HourLlavaError
from hour_llava.tasks import SOURCES, TASKS, TOPICS, task_named, tasks_of_topic

SHORT_FORM = {
    "Temporal Perception",
    "Spatial Perception",
    "Object Recognition",
    "Object Attribute",
    "Object Interaction",
    "Action Recognition",
    "Scene Recognition",
}


def test_there_are_the_papers_22_tasks():
    assert Counter(task.topic for task in TASKS) == dict(
        zip(TOPICS, (5, 2, 6, 4, 2, 3), strict=True)
    )
    assert {task.name for task in TASKS if task.form == "short"} == SHORT_FORM
    assert {task.form for task in TASKS} == {"short", "long"}
    assert len({task.slug for task in TASKS}) == 22
    assert all(set(task.source) <= set(SOURCES) and task.source for task in TASKS)


def test_all_but_the_summary_come_in_both_formats():
    only_open = [task.slug for task in TASKS if task.formats != ("oe", "mc")]
    assert only_open == ["overall_summarization"]
    assert task_named("Overall Summarization").formats == ("oe",)


def test_the_computed_tasks_are_those_of_times_orders_and_existence():
    assert [task.slug for task in TASKS if task.is_computed] == [
        "duration_perception",
        "temporal_gap_estimation",
        "temporal_order",
        "object_existence",
        "action_localization",
        "action_sequence",
        "event_sequence",
    ]


@pytest.mark.parametrize("name", ["scene_transition", "Scene Transition", " SCENE transition "])
def test_a_task_is_found_by_name_or_slug(name: str):
    assert task_named(name).slug == "scene_transition"


def test_an_unknown_task_or_topic_names_the_known_ones():
    with pytest.raises(HourLlavaError, match=r"'smell'.*temporal_order"):
        task_named("smell")
    with pytest.raises(HourLlavaError, match=r"'Smell'.*Spatiality"):
        tasks_of_topic("Smell")


def test_topics_part_the_tasks_in_their_order():
    assert tuple(task for topic in TOPICS for task in tasks_of_topic(topic)) == TASKS
