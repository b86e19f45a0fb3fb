"""The repository and its file: what is saved is what is opened, and nothing broken is believed."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hour_llava.errors import MemoryFileError, ResourceError
from hour_llava.memory import MemoryFileWriter, MemoryHeader, MemoryRepository
from hour_llava.memory.file import DATA_START, METADATA_KEY
from hour_llava.schema import DamagedSpan

MakeMemory = Callable[..., MemoryRepository]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_saved_memory_opens_as_it_was(
    make_memory: MakeMemory, tmp_path: Path, dtype: torch.dtype
) -> None:
    memory = make_memory(41, dtype)
    path = memory.save(tmp_path / "lecture.hlm")
    opened = MemoryRepository.open(path)
    opened.verify()
    assert names(tmp_path) == ["lecture.hlm"]
    assert torch.equal(opened.features_FPD, memory.features_FPD)
    assert opened.features_FPD.dtype == dtype
    assert torch.equal(opened.times_F, memory.times_F)
    assert opened.header == memory.header
    assert opened.thumbnails == memory.thumbnails
    assert opened.num_bytes == 41 * 4 * 6 * dtype.itemsize
    assert opened.path == path


def test_the_file_is_plain_safetensors_with_one_key(
    make_memory: MakeMemory, tmp_path: Path
) -> None:
    memory = make_memory(7, torch.float16)
    path = memory.save(tmp_path / "a.hlm")
    tensors = load_file(path)
    assert torch.equal(tensors["features"], memory.features_FPD)
    assert torch.equal(tensors["times"], memory.times_F)
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    metadata = json.loads(raw[8 : 8 + length])["__metadata__"]
    assert list(metadata) == [METADATA_KEY]
    assert json.loads(metadata[METADATA_KEY])["header"]["info"]["codec"] == "h264"


def test_writes_to_opened_features_do_not_reach_the_file(
    make_memory: MakeMemory, tmp_path: Path
) -> None:
    path = make_memory().save(tmp_path / "a.hlm")
    MemoryRepository.open(path).features_FPD.zero_()
    MemoryRepository.open(path).verify()


def test_an_opened_memory_outlives_the_replacement_of_its_file(
    make_memory: MakeMemory, tmp_path: Path
) -> None:
    memory = make_memory()
    opened = MemoryRepository.open(memory.save(tmp_path / "a.hlm"))
    make_memory(9).save(tmp_path / "a.hlm")
    assert torch.equal(opened.features_FPD, memory.features_FPD)
    assert torch.equal(opened.frames(30, 40), memory.features_FPD[30:])


def test_crop_keeps_times_damage_and_thumbnails_of_the_stretch(
    make_memory: MakeMemory, tmp_path: Path
) -> None:
    memory = make_memory()
    for whole in (memory, MemoryRepository.open(memory.save(tmp_path / "a.hlm"))):
        part = whole.crop(10.0, 20.5)
        assert part.times_F[0] == pytest.approx(10.04)
        assert part.num_frames == 11
        assert part.duration_seconds == pytest.approx(10.5)
        assert part.damage == ()
        assert part.thumbnails == whole.thumbnails[1:]
        assert torch.equal(part.features_FPD, memory.features_FPD[10:21])
        assert torch.equal(part[3:5].frames(1, 2), memory.features_FPD[14:15])
        assert whole.crop(None, 6.0).damage == whole.damage
        assert whole.crop().num_frames == whole.num_frames
        with pytest.raises(ValueError, match=r"no frame between 90.000 s and 99.000 s"):
            whole.crop(90.0, 99.0)


def test_what_stands_still_is_seen_in_a_stretch_where_nothing_comes_on_screen() -> None:
    times = [0.0, 1.0, 5.0, 5.0, 5.0, 60.0]
    header = MemoryHeader(duration_seconds=61.0)
    memory = MemoryRepository(
        features_FPD=torch.arange(6.0).view(6, 1, 1), times_F=times, header=header
    )
    part = memory.crop(20.0, 40.0)
    assert part.features_FPD.flatten().tolist() == [2.0, 3.0, 4.0]
    assert part.duration_seconds == 20.0
    with pytest.raises(ValueError, match="no frame between"):
        memory.crop(61.0, 70.0)
    with pytest.raises(ValueError, match="end is 10 s and start 20 s"):
        memory.crop(20.0, 10.0)
    with pytest.raises(ValueError, match=r"no frame between 500.000 s and 500.000 s"):
        memory.crop(500.0)


def test_slices_take_steps_and_refuse_what_is_no_slice(make_memory: MakeMemory) -> None:
    memory = make_memory()
    assert torch.equal(memory[::5].features_FPD, memory.features_FPD[::5])
    assert memory[::5].duration_seconds == pytest.approx(memory.duration_seconds)
    with pytest.raises(TypeError, match="cut by slices"):
        memory[3]  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="are no frames"):
        memory[9:9]


def test_append_and_concatenate(make_memory: MakeMemory) -> None:
    memory = make_memory()
    longer = memory.append(torch.ones(2, 4, 6), [40.04, 41.04])
    assert longer.num_frames == 42
    assert longer.duration_seconds == pytest.approx(42.0)
    joined = MemoryRepository.concatenate([memory[:15], memory[15:]])
    assert torch.equal(joined.features_FPD, memory.features_FPD)
    assert joined.duration_seconds == pytest.approx(memory.duration_seconds)
    with pytest.raises(ValueError, match="times may not fall"):
        MemoryRepository.concatenate([memory, memory])
    twice = MemoryRepository.concatenate([memory, memory], rebase=True)
    assert twice.duration_seconds == pytest.approx(80.0)
    assert float(twice.times_F[40]) == pytest.approx(40.04)
    assert [span.start_seconds for span in twice.damage] == [5.0, 45.0]
    other = MemoryRepository(features_FPD=torch.zeros(1, 4, 7), times_F=[0.0])
    with pytest.raises(ValueError, match="different vision towers"):
        MemoryRepository.concatenate([memory, other])


def test_a_memory_refuses_counts_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"features \(3, 2, 4\) .* \(2,\) times"):
        MemoryRepository(features_FPD=torch.zeros(3, 2, 4), times_F=[0.0, 1.0])
    with pytest.raises(ValueError, match="at least 1 frame"):
        MemoryRepository(features_FPD=torch.zeros(0, 2, 4), times_F=[])
    with pytest.raises(ValueError, match=r"frame 2 is at 0.500 s, before frame 1 at 1.000 s"):
        MemoryRepository(features_FPD=torch.zeros(3, 2, 4), times_F=[0.0, 1.0, 0.5])
    assert (
        MemoryRepository(features_FPD=torch.zeros(3, 2, 4), times_F=[0, 1, 2]).duration_seconds == 3
    )


def test_a_long_damage_report_is_folded_and_still_fits(
    make_memory: MakeMemory, tmp_path: Path
) -> None:
    memory = make_memory()
    spans = tuple(
        DamagedSpan(start_seconds=i, end_seconds=i + 1, reason="corrupt packet " * 5)
        for i in range(5000)
    )
    memory = MemoryRepository(
        features_FPD=memory.features_FPD, times_F=memory.times_F, header=MemoryHeader(damage=spans)
    )
    opened = MemoryRepository.open(memory.save(tmp_path / "a.hlm"))
    assert len(opened.damage) == 200
    assert opened.damage[:199] == spans[:199]
    assert opened.damage[-1].end_seconds == 5000
    assert opened.damage[-1].reason.startswith("4801 more")


def spoil(path: Path, change: Callable[[bytearray], bytes]) -> Path:
    spoiled = path.with_name("spoiled.hlm")
    spoiled.write_bytes(change(bytearray(path.read_bytes())))
    return spoiled


def rewrite_version(raw: bytearray) -> bytes:
    return bytes(raw).replace(b'\\"version\\":1', b'\\"version\\":7')


BROKEN = {
    "empty": (lambda raw: b"", "0 bytes"),
    "a few bytes": (lambda raw: bytes(raw[:5]), "5 bytes"),
    "cut header": (lambda raw: bytes(raw[:9000]), r"9000 bytes, its header alone needs 65536"),
    "cut data": (lambda raw: bytes(raw[:-1]), r"truncated: \d+ bytes, its header says \d+"),
    "longer": (lambda raw: bytes(raw) + b"x", r"longer than it says"),
    "an mp4": (lambda raw: b"\0\0\0\x20ftypisom" + bytes(99), "not a memory file"),
    "a pickle": (lambda raw: pickle.dumps({"a": 1}) * 20, "not a memory file"),
    "newer": (rewrite_version, r"version 7, this hour-llava reads up to 1: upgrade"),
    "changed header": (lambda raw: bytes(raw).replace(b"lecture", b"lesture"), "checksum"),
    "changed time": (
        lambda raw: bytes(raw[: DATA_START + 40 * 48] + b"\7" + raw[DATA_START + 40 * 48 + 1 :]),
        "times",
    ),
    "never finished": (lambda raw: bytes(DATA_START) + bytes(raw[DATA_START:]), "never finished"),
}


@pytest.mark.parametrize(("change", "says"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_refused_in_one_line_that_names_it(
    make_memory: MakeMemory, tmp_path: Path, change: Callable[[bytearray], bytes], says: str
) -> None:
    path = spoil(make_memory().save(tmp_path / "a.hlm"), change)
    with pytest.raises(MemoryFileError, match=says) as caught:
        MemoryRepository.open(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_verify_finds_a_changed_feature(make_memory: MakeMemory, tmp_path: Path) -> None:
    def flip(raw: bytearray) -> bytes:
        raw[DATA_START + 17] ^= 1
        return bytes(raw)

    path = spoil(make_memory().save(tmp_path / "a.hlm"), flip)
    with pytest.raises(MemoryFileError, match="its data has digest"):
        MemoryRepository.open(path).verify()


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    save_file({"features": torch.zeros(3, 2, 4)}, tmp_path / "weights.hlm")
    with pytest.raises(MemoryFileError, match="not a memory file"):
        MemoryRepository.open(tmp_path / "weights.hlm")
    with pytest.raises(MemoryFileError, match=r"cannot be opened: No such file"):
        MemoryRepository.open(tmp_path / "none.hlm")
    with pytest.raises(MemoryFileError, match="it is a folder"):
        MemoryRepository.open(tmp_path)
    os.mkfifo(tmp_path / "pipe.hlm")
    with pytest.raises(MemoryFileError, match="it is not a regular file"):
        MemoryRepository.open(tmp_path / "pipe.hlm")


def make_writer(path: Path, header: MemoryHeader, **changes: object) -> MemoryFileWriter:
    sizes = {"tokens_per_frame": 2, "feature_size": 3, "dtype": torch.float32, "commit_every": 4}
    return MemoryFileWriter(path, header=header, **(sizes | changes))  # pyright: ignore


def frame(i: int) -> torch.Tensor:
    return torch.full((1, 2, 3), float(i))


def test_a_stopped_writer_is_resumed_where_it_was(header: MemoryHeader, tmp_path: Path) -> None:
    path = tmp_path / "a.hlm"
    with pytest.raises(KeyboardInterrupt), make_writer(path, header) as writer:
        for i in range(6):
            writer.add(frame(i), [i], ((i, b"jpeg%d" % i),))
        raise KeyboardInterrupt
    assert not path.exists()
    with make_writer(path, header) as writer:
        assert writer.num_frames == 6
        for i in range(6, 9):
            writer.add(frame(i), [i])
        writer.finish(duration_seconds=9.5, damage=())
    memory = MemoryRepository.open(path)
    memory.verify()
    assert memory.features_FPD[:, 0, 0].tolist() == list(range(9))
    assert memory.thumbnails == tuple((i, b"jpeg%d" % i) for i in range(6))
    assert (memory.duration_seconds, memory.damage) == (9.5, ())
    assert names(tmp_path) == ["a.hlm"]


def test_another_tower_begins_anew(header: MemoryHeader, tmp_path: Path) -> None:
    path = tmp_path / "a.hlm"
    with make_writer(path, header) as writer:
        writer.add(frame(0), [0])
    other = MemoryHeader(content_digest="c0ffee", tower_digest="other", sampling=header.sampling)
    with make_writer(path, other) as writer:
        assert writer.num_frames == 0
        writer.add(frame(5), [0])
        writer.finish()
    assert MemoryRepository.open(path).features_FPD[0, 0, 0] == 5


@pytest.mark.parametrize("damage", ["torn journal", "changed features", "cut features"])
def test_a_damaged_commit_is_dropped_with_all_after_it(
    header: MemoryHeader, tmp_path: Path, damage: str
) -> None:
    path = tmp_path / "a.hlm"
    writer = make_writer(path, header)
    for i in range(12):
        writer.add(frame(i), [i])
    writer.close()
    partial, journal = tmp_path / "a.hlm.partial", tmp_path / "a.hlm.partial.journal"
    if damage == "torn journal":
        journal.write_bytes(journal.read_bytes()[:-9])
    elif damage == "changed features":
        raw = bytearray(partial.read_bytes())
        raw[DATA_START + 9 * 24] ^= 1
        partial.write_bytes(raw)
    else:
        partial.write_bytes(partial.read_bytes()[:-1])
    with make_writer(path, header) as writer:
        assert writer.num_frames == 8
        for i in range(8, 10):
            writer.add(frame(i), [i])
    with make_writer(path, header) as writer:
        assert writer.num_frames == 10
        writer.finish()
    memory = MemoryRepository.open(path)
    memory.verify()
    assert memory.features_FPD[:, 0, 0].tolist() == list(range(10))


WRITE_FOREVER = """
import sys, torch
from hour_llava.memory import MemoryFileWriter, MemoryHeader
w = MemoryFileWriter(sys.argv[1], header=MemoryHeader(content_digest="c", tower_digest="t"),
                     tokens_per_frame=2, feature_size=3, dtype=torch.float32, commit_every=4)
i = w.num_frames
while True:
    w.add(torch.full((1, 2, 3), float(i)), [i])
    i += 1
"""


def test_a_writer_killed_at_any_moment_is_resumed(tmp_path: Path) -> None:
    path = tmp_path / "a.hlm"
    header = MemoryHeader(content_digest="c", tower_digest="t")
    journal = tmp_path / "a.hlm.partial.journal"
    with make_writer(path, header) as writer:
        for i in range(5):
            writer.add(frame(i), [i])
    size = journal.stat().st_size
    child = subprocess.Popen([sys.executable, "-c", WRITE_FOREVER, str(path)])
    while journal.stat().st_size < size + 3000:
        assert child.poll() is None
        time.sleep(0.002)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not path.exists()
    writer = make_writer(path, header)
    committed = writer.num_frames
    assert committed > 5
    assert committed % 4 == 1
    writer.close()
    with make_writer(path, header) as writer:
        writer.finish()
    memory = MemoryRepository.open(path)
    memory.verify()
    assert memory.features_FPD[:, 1, 2].tolist() == list(range(committed))
    assert memory.times_F.tolist() == list(range(committed))


def test_a_full_disk_is_one_line_with_both_numbers_and_is_resumed(
    header: MemoryHeader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.hlm"
    with pytest.raises(
        ResourceError, match=r"56,000,000,131,072 bytes are needed, [\d,]+ are free"
    ):
        make_writer(path, header, num_frames_expected=10**12)
    assert names(tmp_path) == []

    def refuse(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    writer = make_writer(path, header)
    for i in range(6):
        writer.add(frame(i), [i])
    with monkeypatch.context() as full, pytest.raises(ResourceError, match=r"disk is full"):
        full.setattr(os, "fsync", refuse)
        with writer:
            writer.add(torch.zeros(4, 2, 3), [6, 7, 8, 9])
    with make_writer(path, header) as again:
        assert again.num_frames == 4


@pytest.mark.parametrize("num_thumbnails", [0, 40])
def test_the_room_asked_for_covers_thumbnails_and_journal(
    header: MemoryHeader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_thumbnails: int
) -> None:
    num_frames, image = 200, bytes(range(256)) * 8
    expected = {
        "num_frames_expected": num_frames,
        "thumbnails_expected": (num_thumbnails, num_thumbnails * len(image)),
    }
    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as full, pytest.raises(ResourceError, match="are needed") as caught:
        full.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0))
        make_writer(tmp_path / "a.hlm", header, **expected)
    asked = int(str(caught.value).split(" bytes")[0].rpartition(" ")[2].replace(",", ""))
    with make_writer(tmp_path / "a.hlm", header, **expected) as writer:
        for i in range(num_frames):
            images = ((i / 7, image),) if i < num_thumbnails else ()
            writer.add(frame(i), [i / 7], images)
        writer.commit()
        journal = writer.journal_path.stat().st_size
        taken = journal + writer.finish().stat().st_size
    assert taken <= asked <= 1.2 * taken + 65_536


def test_a_full_disk_behind_a_file_of_the_users_is_not_resumed(
    make_memory: MakeMemory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0))
    with pytest.raises(ResourceError, match=r"name a file on another disk$"):
        make_memory(9).save(tmp_path / "a.hlm")


def test_a_memory_is_saved_whole_or_not_at_all(
    make_memory: MakeMemory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    memory = make_memory(9)
    memory.save(tmp_path / "a.hlm")
    with monkeypatch.context() as full, pytest.raises(ResourceError):
        full.setattr(os, "fsync", refuse)
        make_memory(11).save(tmp_path / "a.hlm")
    assert names(tmp_path) == ["a.hlm"]
    assert MemoryRepository.open(tmp_path / "a.hlm").num_frames == 9
    with pytest.raises(ResourceError, match="cannot be written: No such file"):
        memory.save(tmp_path / "nowhere" / "a.hlm")
