"""Remembering: kept by content, resumed, shared, rebuilt when broken."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from hour_llava.errors import ResourceError, VideoError
from hour_llava.memory import MemoryRepository
from hour_llava.session import Assistant, Progress, remembering
from hour_llava.session import encoder as encoder_module
from hour_llava.session.options import RememberOptions


@pytest.fixture
def small_batches(assistant: Assistant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assistant.encoder, "batch_frames", 8)
    monkeypatch.setattr(remembering, "_COMMIT_FRAMES", 8)
    monkeypatch.setattr(remembering, "_COMMIT_SECONDS", 1e9)


class Interrupt:
    """Raises when so many frames are done, as Ctrl-C would."""

    def __init__(self, at: int) -> None:
        self.at, self.reports = at, []

    def __call__(self, report: Progress) -> None:
        self.reports.append(report)
        if report.num_done >= self.at:
            raise KeyboardInterrupt


def test_a_memory_has_a_frame_a_second_with_its_time(
    assistant: Assistant, minute_mp4: Path
) -> None:
    memory = assistant.remember(minute_mp4)
    assert memory.times_F.tolist() == [float(second) for second in range(60)]
    assert memory.shape == (60, 4, 16)
    assert memory.duration_seconds == pytest.approx(60.0)
    assert memory.model == "tiny"
    assert len(memory.thumbnails) == 60


def test_features_are_those_of_the_frames(assistant: Assistant, minute_mp4: Path) -> None:
    from hour_llava.video import read_frames

    with read_frames(minute_mp4) as reader:
        frames = [frame.rgb for frame in reader]
    memory = assistant.remember(minute_mp4)
    torch.testing.assert_close(memory.frames(0, 60), assistant.encode(frames))


@pytest.mark.parametrize("use_cache", [True, False])
def test_what_is_refused_before_watching_is_not_watched(
    assistant: Assistant, minute_mp4: Path, cache: Path, use_cache: bool
) -> None:
    def refuse(planned: MemoryRepository) -> None:
        seen.append(planned)
        raise ResourceError("too small")

    seen: list[MemoryRepository] = []
    reports: list[Progress] = []
    options = RememberOptions(
        start=5, progress=reports.append, use_cache=use_cache, before_watching=refuse
    )
    with pytest.raises(ResourceError, match="too small"):
        assistant.remember_with_report(minute_mp4, options)
    assert reports == []
    assert {path.suffix for path in cache.glob("*")} <= {".lock"}
    made = assistant.remember(minute_mp4, start=5)
    (planned,) = seen
    assert planned.shape == made.shape
    assert planned.times_F.tolist() == made.times_F.tolist()
    assert planned.duration_seconds == made.duration_seconds


def test_a_kept_memory_is_not_announced(assistant: Assistant, minute_mp4: Path) -> None:
    assistant.remember(minute_mp4, end=5)
    options = RememberOptions(end=5, before_watching=lambda _: pytest.fail("nothing is watched"))
    assert assistant.remember_with_report(minute_mp4, options).is_cached


def test_the_second_time_it_is_found(assistant: Assistant, minute_mp4: Path) -> None:
    first = assistant.remember_with_report(minute_mp4)
    second = assistant.remember_with_report(minute_mp4)
    assert (first.is_cached, second.is_cached) == (False, True)
    assert (first.num_encoded, second.num_encoded) == (60, 0)
    assert first.file == second.file


def test_a_renamed_copy_is_found_too(
    assistant: Assistant, minute_mp4: Path, tmp_path: Path
) -> None:
    assistant.remember(minute_mp4)
    copy = shutil.copy(minute_mp4, tmp_path / "another name.mp4")
    assert assistant.remember_with_report(copy).is_cached


def test_another_sampling_is_another_memory(assistant: Assistant, minute_mp4: Path) -> None:
    assistant.remember(minute_mp4)
    slower = assistant.remember_with_report(minute_mp4, RememberOptions(fps=0.5))
    part = assistant.remember_with_report(minute_mp4, RememberOptions(start=10, end=20))
    assert not slower.is_cached
    assert slower.memory.num_frames == 30
    assert part.memory.times_F.tolist() == [float(second) for second in range(10, 20)]
    assert part.memory.duration_seconds == 10.0


def test_without_the_cache_nothing_is_kept(
    assistant: Assistant, minute_mp4: Path, cache: Path
) -> None:
    kept = assistant.remember(minute_mp4)
    aside = assistant.remember_with_report(minute_mp4, RememberOptions(use_cache=False))
    assert not aside.is_cached
    assert len(list(cache.glob("*.hlm"))) == 1
    torch.testing.assert_close(aside.memory.features_FPD, kept.features_FPD)


@pytest.mark.usefixtures("small_batches")
def test_an_interrupted_memory_is_resumed_and_is_the_same(
    assistant: Assistant, minute_mp4: Path, cache: Path
) -> None:
    whole = assistant.remember(minute_mp4, use_cache=False)
    with pytest.raises(KeyboardInterrupt):
        assistant.remember(minute_mp4, progress=Interrupt(at=24))
    assert not list(cache.glob("*.hlm"))
    reports: list[Progress] = []
    resumed = assistant.remember_with_report(minute_mp4, RememberOptions(progress=reports.append))
    assert resumed.num_encoded == 60 - 24
    assert any("resuming" in (report.note or "") for report in reports)
    torch.testing.assert_close(resumed.memory.features_FPD, whole.features_FPD, rtol=0, atol=0)
    assert resumed.memory.times_F.tolist() == whole.times_F.tolist()
    assert resumed.memory.thumbnails == whole.thumbnails
    assert [path.name for path in cache.iterdir() if path.suffix not in (".hlm", ".lock")] == []


@pytest.mark.usefixtures("small_batches")
def test_interrupted_behind_the_last_frame_it_only_finishes(
    assistant: Assistant, minute_mp4: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        assistant.remember(minute_mp4, progress=Interrupt(at=60))
    resumed = assistant.remember_with_report(minute_mp4)
    assert resumed.num_encoded == 0
    assert resumed.memory.num_frames == 60


@pytest.mark.usefixtures("small_batches")
def test_the_cost_is_told_once_a_batch_was_timed(assistant: Assistant, minute_mp4: Path) -> None:
    reports: list[Progress] = []
    assistant.remember(minute_mp4, progress=reports.append)
    assert [report.num_done for report in reports] == [0, *range(8, 60, 8), 60]
    assert [report.seconds_left is None for report in reports[:3]] == [True, True, False]
    assert all(report.seconds_left is not None for report in reports[2:])
    assert reports[-1].seconds_left == 0


def test_a_broken_memory_is_noticed_and_made_again(assistant: Assistant, minute_mp4: Path) -> None:
    file = assistant.remember_with_report(minute_mp4, RememberOptions(end=10)).file
    assert file is not None
    good = file.read_bytes()
    flipped = bytearray(good)
    flipped[70_000] ^= 1
    for broken in (good[:-100], flipped, b"hello" * 99, b""):
        file.write_bytes(broken)
        reports: list[Progress] = []
        again = assistant.remember_with_report(
            minute_mp4, RememberOptions(end=10, progress=reports.append)
        )
        assert not again.is_cached
        (note,) = [report.note for report in reports if report.note]
        assert "made again" in note
        assert "delete it" not in note
        assert file.read_bytes() == good


def test_two_towers_do_not_share_memories(
    assistant: Assistant, minute_mp4: Path, tiny_model: Path
) -> None:
    from hour_llava.session import load

    other = load(str(tiny_model), device="cpu")
    with torch.no_grad():
        next(other.model.model.vision_tower.parameters()).add_(1e-3)
    assert other.encoder.tower_digest != assistant.encoder.tower_digest
    assistant.remember(minute_mp4, end=5)
    assert not other.remember_with_report(minute_mp4, RememberOptions(end=5)).is_cached


def test_equal_weights_give_equal_tower_digests(assistant: Assistant, tiny_model: Path) -> None:
    from hour_llava.session import load

    assert load(str(tiny_model)).encoder.tower_digest == assistant.encoder.tower_digest


def test_a_cache_that_cannot_be_written_is_one_clear_error(
    assistant: Assistant, minute_mp4: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("HOUR_LLAVA_CACHE", str(tmp_path / "file"))
    with pytest.raises(ResourceError, match="HOUR_LLAVA_CACHE"):
        assistant.remember(minute_mp4)
    assert assistant.remember(minute_mp4, use_cache=False).num_frames == 60


def test_a_crop_behind_the_end_is_refused(assistant: Assistant, minute_mp4: Path) -> None:
    with pytest.raises(VideoError, match="60"):
        assistant.remember(minute_mp4, start=100)


def test_large_frames_are_held_a_few_at_a_time(assistant: Assistant) -> None:
    encoder = assistant.encoder
    assert encoder.group_frames(320 * 180 * 3) == encoder.batch_frames
    held = encoder.group_frames(3840 * 2160 * 3)
    assert held * 3840 * 2160 * 3 <= 32 * 2**20
    assert encoder.batch_frames % held == 0
    assert encoder.group_frames(10**9) == 1


@pytest.mark.parametrize(("patches", "frames"), [(16, 64), (729, 16), (10**6, 1)])
def test_batches_fit_the_tower(patches: int, frames: int) -> None:
    assert encoder_module._batch_frames(patches) == frames


def test_damage_before_a_restart_stays_in_the_memory(tmp_path: Path) -> None:
    from hour_llava.schema import DamagedSpan
    from hour_llava.session.remembering import _DamageLog

    def seconds(*named: DamagedSpan) -> list[tuple[float, float]]:
        return [(s.start_seconds, s.end_seconds) for s in log.added_to(named, 1.0)]

    log = _DamageLog(tmp_path / "a.damage")
    assert seconds() == []
    log.add([5.0, 6.0])
    log.add([9.0, 12.0, 13.0])
    assert seconds() == [(5, 7), (9, 10), (12, 14)]
    named = DamagedSpan(start_seconds=8.5, end_seconds=12.0, reason="lost packets")
    assert seconds(named) == [(5, 7), (8.5, 12), (12, 14)]
    log.forget()
    assert seconds() == []


def test_a_saved_memory_is_the_same_memory(
    assistant: Assistant, minute_mp4: Path, tmp_path: Path
) -> None:
    memory = assistant.remember(minute_mp4)
    memory.save(tmp_path / "m.hlm")
    opened = assistant.open_or_remember(tmp_path / "m.hlm")
    assert opened.is_cached
    assert isinstance(opened.memory, MemoryRepository)
    torch.testing.assert_close(opened.memory.features_FPD, memory.features_FPD)


@pytest.mark.usefixtures("small_batches")
def test_an_interruption_in_the_middle_of_a_commit_writes_nothing_twice(
    assistant: Assistant, minute_mp4: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hour_llava.memory import writer

    calls: list[int] = []
    sync = writer._sync

    def interrupted_sync(file: object) -> None:
        sync(file)  # type: ignore[arg-type]
        calls.append(1)
        if len(calls) == 7:  # behind the journal's line of the third commit
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(writer, "_sync", interrupted_sync)
        with pytest.raises(KeyboardInterrupt):
            assistant.remember(minute_mp4)
    memory = assistant.remember(minute_mp4)
    assert memory.times_F.tolist() == [float(second) for second in range(60)]
