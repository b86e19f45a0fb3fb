"""A run: does what is not done, stops in order, says why, and repeats nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hour_llava.commands.synth.run import run
from hour_llava.errors import BudgetError, BuildError, EndpointError, HourLlavaError
from hour_llava.videomarathon.calls.budget import BudgetCaps
from hour_llava.videomarathon.calls.ledger import Spent
from hour_llava.videomarathon.records import SetAside, Video, digest
from hour_llava.videomarathon.retry import clear_failures
from hour_llava.videomarathon.stage import UnitError
from hour_llava.videomarathon.status import read_status


def failing(unit_part: str, error: Exception) -> Any:
    def act(unit: str) -> None:
        if unit_part in unit:
            raise error

    return act


def test_a_second_run_does_nothing(bench: Any) -> None:
    bench.videos("a", "b")
    assert bench.run().exit_code == 0
    assert len(bench.script.ran) == 2 * 10 + 2 + 1
    report = bench.run()
    assert report.is_idle
    assert bench.script.ran == []


def test_a_changed_setting_repeats_its_stage_and_what_reads_it(bench: Any) -> None:
    bench.videos("a")
    bench.run()
    bench.script.prefix = "other"
    assert bench.run().num_run == {"captions": 10, "caption_check": 1, "gather": 1}
    bench.script.prefix = "seen"
    assert bench.run().is_idle  # the earlier parts still stand


def test_equal_results_end_the_repetition(bench: Any) -> None:
    bench.videos("a")
    bench.script.act = lambda unit: "the same words"
    bench.run()
    bench.script.prefix = "other"
    assert bench.run().num_run == {"captions": 10}


def test_a_new_video_adds_its_units_alone(bench: Any) -> None:
    bench.videos("a")
    bench.run()
    bench.videos("a", "b")  # writes the first one anew, too: it is looked at, no more
    report = bench.run()
    assert report.num_run == {
        "ingest": 2,
        "clips": 1,
        "captions": 10,
        "caption_check": 1,
        "gather": 1,
    }


def test_of_equal_videos_the_first_by_path_is_kept(bench: Any) -> None:
    bench.videos("a", "a", "b")
    bench.run()
    rows = list(bench.open().rows("ingest"))
    kept = sorted(row.path for row in rows if isinstance(row, Video))
    aside = [row for row in rows if isinstance(row, SetAside)]
    assert kept == ["0.mp4", "2.mp4"]
    assert [(row.path, row.reason) for row in aside] == [("1.mp4", "duplicate")]
    assert aside[0].video_id is None  # it is the kept video's id as well
    assert "0.mp4" in aside[0].detail


def test_a_video_set_aside_has_no_units_further_on(bench: Any) -> None:
    bench.videos("a", "")
    assert bench.run().exit_code == 0
    assert bench.script.ran.count("gather") == 1
    assert [row.reason for row in read_status(bench.open()).set_aside] == ["empty"]


def test_one_bad_clip_in_ten_is_quarantined_and_the_video_goes_on(bench: Any) -> None:
    bench.videos("a")
    bench.script.act = failing(":3000-", UnitError("three bad answers", failure="content"))
    report = bench.run()
    assert (report.exit_code, report.num_failed) == (3, 1)
    assert len(list(bench.open().rows("gather"))) == 9
    assert any("three bad answers" in line for line in bench.notes.said)
    again = bench.run()
    assert (again.exit_code, again.num_run) == (3, {})


def test_too_many_bad_clips_hold_the_video_up(bench: Any) -> None:
    bench.videos("a", "b")
    first = digest("a")
    bench.script.act = failing(f"{first}:", UnitError("bad", failure="content"))
    report = bench.run()
    assert (report.exit_code, report.num_failed, report.num_held_up) == (3, 10, 1)
    assert len(list(bench.open().rows("gather"))) == 10


def test_retry_gives_failed_units_another_chance(bench: Any) -> None:
    bench.videos("a")
    bench.script.act = failing(":3000-", UnitError("bad", failure="content"))
    bench.run()
    assert read_status(bench.open()).next_step.startswith("hour-llava synth retry")
    bench.script.act = lambda unit: None
    assert clear_failures(bench.open()) == 1
    report = bench.run()
    assert (report.exit_code, report.num_run["captions"]) == (0, 1)
    assert len(list(bench.open().rows("gather"))) == 10
    assert clear_failures(bench.open()) == 0


def test_a_transient_failure_is_tried_by_the_next_run(bench: Any) -> None:
    bench.videos("a")
    bench.script.act = failing(":3000-", UnitError("503", failure="transient"))
    report = bench.run()
    assert (report.exit_code, report.num_held_up) == (3, 1)
    assert "check " + digest("a") not in bench.script.ran
    bench.script.act = lambda unit: None
    assert bench.run().exit_code == 0


def test_a_bug_in_a_stage_fails_its_unit_alone(bench: Any) -> None:
    bench.videos("a")
    bench.script.act = failing(":3000-", KeyError("oops"))
    report = bench.run()
    assert (report.exit_code, report.num_failed) == (3, 1)
    assert "KeyError" in read_status(bench.open()).failures[0].message


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BudgetError("--max-usd 1 is spent"), 4),
        (EndpointError("wrong key"), 5),
        (OSError(28, "No space left on device"), 5),
    ],
)
def test_what_stops_a_run_drains_it_and_the_next_one_goes_on(
    bench: Any, error: Exception, code: int
) -> None:
    bench.videos("a")
    bench.script.act = failing(":9000-", error)
    report = bench.run()
    assert report.exit_code == code
    assert str(error) in report.message or "No space" in report.message
    num_done = sum(1 for stage, _ in bench.notes.units if stage == "captions")
    bench.script.act = lambda unit: None
    after = bench.run()
    assert after.exit_code == 0
    assert after.num_run["captions"] == 10 - num_done


def test_the_first_interrupt_ends_what_is_under_way(bench: Any) -> None:
    bench.videos(*"abcd")

    def act(unit: str) -> None:
        if unit.startswith(digest("b")) and ":2000-" in unit:
            os.kill(os.getpid(), signal.SIGINT)

    bench.script.act = act
    report = bench.run()
    assert report.exit_code == 130
    assert any("once more ends at once" in line for line in bench.notes.said)
    ran = set(bench.script.ran)
    bench.script.act = lambda unit: None
    assert bench.run().exit_code == 0
    assert not ran & set(bench.script.ran)


HOLD = """
import sys, time
from hour_llava.videomarathon.build import Build
with Build.open(sys.argv[1], stages=()).lock():
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_second_run_at_once_is_refused_and_names_the_first(bench: Any) -> None:
    bench.videos("a")
    command = [sys.executable, "-c", HOLD, str(bench.folder)]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(BuildError, match=f"pid {holder.pid}"):
            bench.run()
    finally:
        holder.kill()
        holder.communicate()
    assert bench.run().exit_code == 0  # a killed run's lock is free


READ_ONLY = """
import os, sys
from hour_llava.cli import main
import hour_llava.commands.synth.run
from hour_llava.videomarathon.pipeline import pipeline
main(["synth", "run", "--help"])
pipeline()
os.setgid(65534)
os.setuid(65534)
sys.exit(main(["synth", "run", sys.argv[1]]))
"""


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs to change its user")
def test_a_folder_that_may_not_be_written_is_refused(bench: Any) -> None:
    bench.videos("a")
    for folder in (bench.folder, *bench.folder.parents):
        if folder.stat().st_uid == 0 and str(folder).startswith("/tmp/pytest"):
            folder.chmod(0o755)
    command = [sys.executable, "-c", READ_ONLY, str(bench.folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 1
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_source_without_videos_is_refused(bench: Any) -> None:
    with pytest.raises(BuildError, match="holds no video"):
        bench.run()
    bench.source.rmdir()
    with pytest.raises(BuildError, match="no folder of videos"):
        bench.run()


def test_until_stops_after_a_stage(bench: Any) -> None:
    bench.videos("a")
    assert bench.run(until="clips").num_run == {"ingest": 1, "clips": 1}
    with pytest.raises(BuildError, match="no stage 'clip'"):
        bench.run(until="clip")


def test_odd_names_are_no_obstacle(bench: Any) -> None:
    for name in ("a b.mp4", 'quote".mp4', "new\nline.mp4", "日本.mp4", "a.b.c.mp4"):
        (bench.source / name).write_text(name)
    (bench.source / "notes.txt").write_text("no video")
    (bench.source / ".hidden.mp4").write_text("x")
    assert bench.run().exit_code == 0
    assert len(bench.captions()) == 50


@pytest.mark.parametrize("limit", [{"max_usd": float("nan")}, {"max_calls": -3}, {"max_tokens": 0}])
def test_a_limit_that_allows_nothing_is_refused(tmp_path: Path, limit: dict[str, Any]) -> None:
    with pytest.raises(HourLlavaError, match="a limit is above 0"):
        run(tmp_path, **limit)


def test_a_name_that_is_not_utf8_stops_nothing(bench: Any) -> None:
    bench.videos("a")
    (bench.source / os.fsdecode(b"na\xefve.mp4")).write_text("")
    assert bench.run().exit_code == 0


def test_dollars_cannot_be_capped_where_earlier_ones_are_unknown(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.videos("a")
    bench.run()
    (bench.open().folder / "calls").mkdir()
    unpriced = {"captions": Spent(calls=7, num_unpriced=3)}
    monkeypatch.setattr("hour_llava.videomarathon.runner.read_spent", lambda folder: unpriced)
    with pytest.raises(BudgetError, match="price of 3 of the build's 7 calls was unknown"):
        bench.run(caps=BudgetCaps(max_usd=60.0))
