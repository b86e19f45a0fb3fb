"""Statistics, review and check over a whole build: counted by hand here, faults planted."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hour_llava.errors import BuildError
from hour_llava.tasks import TASKS
from hour_llava.videomarathon.checking import check_build
from hour_llava.videomarathon.checks.table import check_row
from hour_llava.videomarathon.checks.tables import Tables
from hour_llava.videomarathon.records import QAPair, Record, SetAside, Span, Verdict, qa_id
from hour_llava.videomarathon.review import (
    PUBLISHED,
    PUBLISHED_RATE,
    Answer,
    AnswerFile,
    Judgement,
    describe,
    draw_sample,
    report,
    review,
    wilson_interval,
)
from hour_llava.videomarathon.settings import BuildSettings
from hour_llava.videomarathon.stats import Usage, collect

Footage = Any


@dataclass(kw_only=True)
class MemoryBuild:
    settings: BuildSettings = field(default_factory=lambda: BuildSettings(source="."))
    stages: dict[str, list[Record]] = field(default_factory=dict)

    def rows(self, stage: str) -> Iterator[Record]:
        yield from self.stages.get(stage, [])


def settled(row: QAPair, footage: Footage) -> QAPair:
    """Check a row and accept it, as verify does for what passes."""
    tables = Tables(
        video=footage.video,
        captions=tuple(scene.caption for scene in footage.scenes),
        events=tuple(part.event for part in footage.parts),
        global_caption=footage.summary,
    )
    verdicts = check_row(row, tables)
    shortened = any(v.rule == "long_form" and v.outcome == "fail" for v in verdicts)
    changes: dict[str, Any] = {"status": "accepted", "verdicts": verdicts}
    if shortened:
        changes |= {"form": "short", "reasons": ("long_form",)}
    return row.model_copy(update=changes)


@pytest.fixture
def build(make_footage: Callable[[int], Footage]) -> MemoryBuild:
    """Three videos with a row of each task and format, and one file set aside."""
    made = MemoryBuild()
    for stage in ("ingest", "caption_check", "event_captions", "global_caption", "balance"):
        made.stages[stage] = []
    for footage in map(make_footage, (100, 101, 102)):
        made.stages["ingest"].append(footage.video.model_copy(update={"path": footage.video.id}))
        made.stages["caption_check"] += [scene.caption for scene in footage.scenes]
        made.stages["event_captions"] += [part.event for part in footage.parts]
        made.stages["global_caption"].append(footage.summary)
        for task in TASKS:
            for fmt in task.formats:
                made.stages["balance"].append(settled(footage.row(task.slug, fmt), footage))
    aside = SetAside(stage="ingest", path="x.mp4", reason="too_short", detail="1 s")
    made.stages["ingest"].append(aside)
    return made


def rows_of(build: MemoryBuild) -> list[QAPair]:
    return [row for row in build.stages["balance"] if isinstance(row, QAPair)]


def change_row(build: MemoryBuild, index: int, **changes: Any) -> QAPair:
    row = rows_of(build)[index].model_copy(update=changes)
    build.stages["balance"][index] = row
    return row


# --- stats


def test_the_figures_are_those_counted_by_hand(build: MemoryBuild) -> None:
    rejected = change_row(build, 0, status="rejected", reasons=("quote_found",))
    change_row(build, 1, status="rejected", reasons=("blind",))
    change_row(build, 2, status="rejected", reasons=("near_duplicate",))
    change_row(build, 3, status="rejected", reasons=("yes_rate",))
    found = collect(build, name="ours")
    rows = rows_of(build)
    assert [step.num_rows for step in found.funnel] == [129, 128, 127, 126, 125]
    assert found.funnel[-1].num_rows == sum(row.status == "accepted" for row in rows)
    assert found.reasons == {"blind": 1, "near_duplicate": 1, "quote_found": 1, "yes_rate": 1}
    assert (found.num_files, found.num_videos, found.set_aside) == (4, 3, {"too_short": 1})
    assert sum(t.num_open_ended + t.num_multiple_choice for t in found.tasks) == 125
    assert sum(topic.num_rows for topic in found.topics) == 125
    assert sum(topic.share for topic in found.topics) == pytest.approx(1, abs=1e-3)
    assert sum(topic.target for topic in found.topics) == pytest.approx(1)
    said = Counter((v.rule, v.outcome) for row in rows for v in row.verdicts)
    assert {(r.rule, "pass"): r.num_passed for r in found.rules if r.num_passed} == {
        key: number for key, number in said.items() if key[1] == "pass"
    }
    assert len(found.events_per_video) == len(found.durations_minutes) == 3
    ours = found.table_1[-1]
    assert (ours.name, ours.num_open_ended + ours.num_multiple_choice) == ("ours", 125)
    assert found.hours == pytest.approx(sum(found.durations_minutes) / 60, abs=1e-3)
    assert rejected.id in {row.id for row in rows}


def test_the_papers_table_stands_before_ours(build: MemoryBuild) -> None:
    names = [row.name for row in collect(build).table_1]
    assert names == [
        "LLaVA-Hound",
        "ShareGPT4Video",
        "LLaVA-Video-178K",
        "VideoMarathon",
        "this build",
    ]


def test_figures_are_plain_json(build: MemoryBuild) -> None:
    used = Usage(stage="qa", num_calls=3, num_prompt_tokens=10, num_completion_tokens=2, usd=None)
    values = json.loads(json.dumps(collect(build, usage=[used]).as_dict()))
    assert values["usage"] == [
        {
            "stage": "qa",
            "num_calls": 3,
            "num_prompt_tokens": 10,
            "num_completion_tokens": 2,
            "usd": None,
        }
    ]


def test_an_empty_build_has_figures_too() -> None:
    found = collect(MemoryBuild())
    assert (found.num_videos, found.hours, found.yes_rate) == (0, 0, None)
    assert all(step.num_rows == 0 for step in found.funnel)


# --- review


def test_the_sample_takes_every_task_in_turn_and_a_larger_one_begins_with_it(
    build: MemoryBuild,
) -> None:
    rows = rows_of(build)
    sample = draw_sample(rows, 43)
    assert len({(row.task, row.format) for row in sample}) == 43
    assert draw_sample(list(reversed(rows)), 80)[:43] == sample
    assert draw_sample(rows, 43, seed=1) != sample
    assert {row.format for row in draw_sample(rows, 20, formats=("mc",))} == {"mc"}


def test_only_accepted_rows_are_reviewed(build: MemoryBuild) -> None:
    row = change_row(build, 0, status="rejected", reasons=("blind",))
    assert row.id not in {each.id for each in draw_sample(rows_of(build), 1000)}


def test_each_answer_is_on_disk_before_the_next_row_is_shown(
    build: MemoryBuild, tmp_path: Path
) -> None:
    file, sample = AnswerFile(tmp_path / "a" / "review.jsonl"), draw_sample(rows_of(build), 3)
    typed = iter(["r", "", "x", "wrong", "the colour is off", "q"])
    seen: list[int] = []

    def show(text: str) -> None:
        if " of 3 " in text:
            seen.append(len(file.read()))

    assert review(sample, {}, file, ask=lambda _: next(typed), show=show) == 2
    assert seen == [0, 1, 2]
    assert file.read()[sample[1].id] == Answer(
        row=sample[1].id, judgement="wrong", note="the colour is off"
    )


def test_a_review_goes_on_where_it_stopped(build: MemoryBuild, tmp_path: Path) -> None:
    file, sample = AnswerFile(tmp_path / "review.jsonl"), draw_sample(rows_of(build), 3)
    shown: list[str] = []

    def end(_: str) -> str:
        raise EOFError

    typed = iter(["u", ""])
    assert review(sample[:1], {}, file, ask=lambda _: next(typed), show=shown.append) == 1
    assert review(sample, {}, file, ask=end, show=shown.append) == 0
    assert sample[1].question in shown[-1]


def test_a_line_cut_short_by_a_crash_loses_only_itself(tmp_path: Path) -> None:
    file = AnswerFile(tmp_path / "review.jsonl")
    file.add(Answer(row="a", judgement="right"))
    with file.path.open("a") as torn:
        torn.write('{"row": "b", "judg')
    assert set(file.read()) == {"a"}


def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path) -> None:
    file = AnswerFile(tmp_path / "review.jsonl")
    file.path.write_text('{"row": 1}\n{"row": "a", "judgement": "right", "note": ""}\n')
    with pytest.raises(BuildError, match="line 1"):
        file.read()


def test_precision_leaves_out_the_unsure_and_has_the_wilson_interval(build: MemoryBuild) -> None:
    rows = draw_sample(rows_of(build), 12)
    said: list[Judgement] = ["right"] * 8 + ["wrong"] * 2 + ["unsure"] * 2
    answers = {
        row.id: Answer(row=row.id, judgement=word) for row, word in zip(rows, said, strict=True)
    }
    whole = report(rows_of(build), answers)[0]
    assert (whole.rate, whole.num_unsure) == (0.8, 2)
    # by hand: p = .8, n = 10, z = 1.96
    assert whole.interval == pytest.approx((0.4902, 0.9433), abs=1e-3)
    assert wilson_interval(0, 0) == (0, 1)
    assert wilson_interval(10, 10)[1] == pytest.approx(1)


def test_the_published_figure_is_within_rounding_of_63_in_80() -> None:
    assert PUBLISHED.rate == pytest.approx(PUBLISHED_RATE, abs=0.0006)


def test_a_reviewer_sees_question_options_and_where_to_look(build: MemoryBuild) -> None:
    row = next(r for r in rows_of(build) if r.format == "mc" and r.evidence)
    text = describe(row, None, 1, 9)
    assert row.question in text
    assert all(option in text for option in row.options or ())
    assert text.count("=>") == 1
    assert row.evidence[0].quote in text


# --- check


def test_a_build_in_order_is_counted(build: MemoryBuild) -> None:
    found = check_build(build)
    assert (found.num_videos, found.num_rows, found.num_accepted) == (3, 129, 129)


def _second_answer(build: MemoryBuild) -> None:
    index = next(i for i, row in enumerate(rows_of(build)) if row.format == "mc")
    options = rows_of(build)[index].options or ()
    change_row(build, index, options=(*options, rows_of(build)[index].answer))


def _beyond(build: MemoryBuild) -> None:
    index = next(i for i, row in enumerate(rows_of(build)) if row.evidence)
    row = rows_of(build)[index]
    far = row.evidence[0].model_copy(update={"span": Span(start_ms=1, end_ms=10**9)})
    change_row(build, index, evidence=(far, *row.evidence[1:]))


def _misquoted(build: MemoryBuild) -> None:
    index = next(i for i, row in enumerate(rows_of(build)) if row.evidence)
    row = rows_of(build)[index]
    other = row.evidence[0].model_copy(update={"quote": "A zebra sings."})
    change_row(build, index, evidence=(other, *row.evidence[1:]))


def _reworded(build: MemoryBuild) -> None:
    change_row(build, 0, question="Something else?")


def _without_reason(build: MemoryBuild) -> None:
    change_row(build, 0, status="rejected", reasons=())


def _failing(build: MemoryBuild) -> None:
    fail = Verdict(rule="no_leak", outcome="fail", detail="planted")
    change_row(build, 0, verdicts=(fail,))


def _twice(build: MemoryBuild) -> None:
    build.stages["balance"].append(build.stages["balance"][0])


def _orphan(build: MemoryBuild) -> None:
    row = rows_of(build)[0]
    name = qa_id("nowhere", row.task, row.format, row.question)
    change_row(build, 0, video_id="nowhere", id=name)


def _long_event(build: MemoryBuild) -> None:
    event = build.stages["event_captions"][-1]
    span = Span(start_ms=0, end_ms=10**9)
    build.stages["event_captions"][-1] = event.model_copy(update={"span": span})


def _other_length(build: MemoryBuild) -> None:
    index = next(i for i, row in enumerate(rows_of(build)) if row.task == "duration_perception")
    claim = rows_of(build)[index].claim
    assert claim is not None
    change_row(build, index, claim=claim.model_copy(update={"value": "999999"}))


@pytest.mark.parametrize(
    ("plant", "words"),
    [
        (_second_answer, "one_right_option"),
        (_beyond, "span_inside"),
        (_misquoted, "quote_found"),
        (_reworded, "changed by hand"),
        (_without_reason, "without a reason"),
        (_failing, "fails no_leak"),
        (_twice, "two rows are called"),
        (_orphan, "nowhere"),
        (_long_event, "1000000000 ms"),
        (_other_length, "claim_recomputed"),
    ],
)
def test_a_planted_fault_is_named(
    build: MemoryBuild, plant: Callable[[MemoryBuild], None], words: str
) -> None:
    plant(build)
    with pytest.raises(BuildError, match=words) as caught:
        check_build(build)
    assert "\n" not in str(caught.value)


def test_a_build_without_videos_says_what_to_do() -> None:
    with pytest.raises(BuildError, match="synth run"):
        check_build(MemoryBuild())
