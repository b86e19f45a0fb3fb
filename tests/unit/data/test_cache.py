"""The node's cache: whole copies only, within its size, between processes, whatever kills them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hour_llava.data import cache as cache_module
from hour_llava.data.cache import NodeCache
from hour_llava.data.collate import Collator
from hour_llava.data.features import FeaturesHeader, write_features
from hour_llava.data.manifest import Sample
from hour_llava.errors import ResourceError
from hour_llava.model.processing_hour_llava import HourLlavaProcessor

MEGABYTE = 10**6

FETCH_ALL = """
import sys
from pathlib import Path
from hour_llava.data.cache import NodeCache
cache = NodeCache(folder=Path(sys.argv[1]), max_bytes=int(sys.argv[2]))
for turn in range(3):
    for source in sorted(Path(sys.argv[3]).iterdir()):
        copy = cache.local(source)
        try:
            assert copy.read_bytes() == source.read_bytes(), source
        except FileNotFoundError:
            assert copy != source
        assert cache.num_bytes() <= int(sys.argv[2])
print("done")
"""

DIE_HALFWAY = """
import os, shutil, sys
from pathlib import Path
from hour_llava.data import cache
def half(wanted, file, size):
    file.write(wanted.read(1000))
    file.flush()
    os.kill(os.getpid(), 9)
shutil.copyfileobj = half
cache.NodeCache.open(Path(sys.argv[1]), gigabytes=1).local(sys.argv[2])
"""


def make_sources(folder: Path, count: int, size: int = MEGABYTE) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"v{number}.safetensors" for number in range(count)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number + 1]) * size)
    return paths


def make_cache(folder: Path, megabytes: float) -> NodeCache:
    return NodeCache.open(folder / "cache", gigabytes=megabytes / 1000)


def test_a_file_is_copied_once_and_read_from_the_copy(tmp_path: Path) -> None:
    (source,) = make_sources(tmp_path / "slow", 1)
    cache = make_cache(tmp_path, 10)
    copy = cache.local(source)
    assert copy != source and copy.read_bytes() == source.read_bytes()
    first = copy.stat().st_ino
    assert cache.local(source) == copy and copy.stat().st_ino == first
    assert cache.num_bytes() == MEGABYTE


def test_a_file_that_changed_is_copied_anew(tmp_path: Path) -> None:
    (source,) = make_sources(tmp_path / "slow", 1)
    cache = make_cache(tmp_path, 10)
    cache.local(source)
    source.write_bytes(b"another video")
    assert cache.local(source).read_bytes() == b"another video"


def test_the_least_recently_used_leave_when_the_next_does_not_fit(tmp_path: Path) -> None:
    sources = make_sources(tmp_path / "slow", 4)
    cache = make_cache(tmp_path, 3.5)
    copies = [cache.local(source) for source in sources[:3]]
    for age, copy in enumerate([300, 200, 100]):
        moment = copies[age].stat().st_mtime - copy
        os.utime(copies[age], (moment, moment))
    cache.local(sources[0])  # used again: the second is now the oldest
    cache.local(sources[3])
    assert [copy.exists() for copy in copies] == [True, False, True]
    assert cache.num_bytes() == 3 * MEGABYTE


def test_what_the_cache_has_not_named_is_neither_counted_nor_removed(tmp_path: Path) -> None:
    one, two = make_sources(tmp_path / "slow", 2)
    cache = make_cache(tmp_path, 1.5)
    key = "d41d8cd98f00b204e9800998ecf8427e"
    names = ("x.part", ".hidden.part", "thesis.pdf", f"{key}.jpg", f".{key}.part", "v.safetensors")
    foreign = [cache.folder / name for name in names]
    for file in foreign:
        file.write_bytes(b"x" * MEGABYTE)
        os.utime(file, (0, 0))  # the least recently used of all
    folders = [cache.folder / "photos", cache.folder / f"{key}.safetensors"]
    for folder in folders:
        folder.mkdir()
    first, second = cache.local(one), cache.local(two)
    assert (first.exists(), second.read_bytes()) == (False, two.read_bytes())
    assert cache.num_bytes() == MEGABYTE
    assert all(file.stat().st_size == MEGABYTE for file in foreign)
    assert all(folder.is_dir() for folder in folders)


def test_a_file_larger_than_the_cache_is_read_where_it_is(tmp_path: Path) -> None:
    (source,) = make_sources(tmp_path / "slow", 1)
    cache = make_cache(tmp_path, 0.5)
    assert cache.local(source) == source and cache.num_bytes() == 0


def test_a_missing_file_is_left_to_its_reader(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere.safetensors"
    assert make_cache(tmp_path, 1).local(missing) == missing


def test_a_copy_that_was_cut_short_is_made_anew(tmp_path: Path) -> None:
    (source,) = make_sources(tmp_path / "slow", 1)
    cache = make_cache(tmp_path, 10)
    os.truncate(cache.local(source), 10)
    assert cache.local(source).read_bytes() == source.read_bytes()


@pytest.mark.parametrize("num_locks", [64, 1])
def test_a_process_that_is_killed_while_copying_leaves_no_copy_and_no_litter(
    tmp_path: Path, num_locks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "_NUM_LOCKS", num_locks)  # 1: both files have one lock
    first, second = make_sources(tmp_path / "slow", 2)
    folder = tmp_path / "cache"
    killed = subprocess.run(
        [sys.executable, "-c", DIE_HALFWAY, folder, first], check=False, timeout=100
    )
    assert killed.returncode == -signal.SIGKILL
    assert len(list(folder.glob(".*.part"))) == 1
    cache = make_cache(tmp_path, 10)
    assert cache.local(second).read_bytes() == second.read_bytes()
    assert not list(folder.glob(".*.part"))
    assert cache.local(first).read_bytes() == first.read_bytes()


def test_processes_share_a_cache_smaller_than_what_they_read(tmp_path: Path) -> None:
    make_sources(tmp_path / "slow", 6, size=200_000)
    folder = make_cache(tmp_path, 1).folder
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", FETCH_ALL, folder, "700000", tmp_path / "slow"],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    assert [process.communicate(timeout=200)[0] for process in processes] == ["done\n"] * 3
    assert not list(folder.glob(".*.part"))


def test_a_folder_that_cannot_be_made_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(ResourceError, match=r"cannot be written.*--data\.cache"):
        make_cache(tmp_path, 1)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_full_disk_means_reading_the_source(tmp_path: Path) -> None:
    sources = make_sources(tmp_path / "slow", 3, size=300_000)
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", disk], check=False
    )
    if mounted.returncode:
        pytest.skip("no mounting here")
    try:
        (disk / "other").write_bytes(b"x" * 300_000)  # of somebody else
        cache = NodeCache.open(disk / "cache", gigabytes=1)
        assert [cache.local(source) for source in sources] == sources
        (disk / "other").unlink()
        copies = [cache.local(source) for source in sources]
        assert [copy.exists() for copy in copies] == [False, False, True]
    finally:
        subprocess.run(["umount", disk], check=True)


def test_samples_read_their_features_from_the_cache_and_survive_a_damaged_copy(
    tmp_path: Path, tiny_model: Path
) -> None:
    source = tmp_path / "slow/v.safetensors"
    header = FeaturesHeader(tower_digest="t", duration_seconds=6.0)
    write_features(source, torch.randn(6, 4, 16), torch.arange(6), header)
    cache = make_cache(tmp_path, 10)
    processor = HourLlavaProcessor.from_pretrained(tiny_model)
    collator = Collator(processor, cache=cache)
    turns = ({"from": "human", "value": "what ?"}, {"from": "gpt", "value": "red ."})
    sample = Sample(id="a", conversations=turns, features=str(source))
    wanted = Collator(processor).encode(sample).video
    for damage in (False, True):
        if damage:
            copy = cache.local(source)
            copy.write_bytes(b"\0" * copy.stat().st_size)
        found = collator.encode(sample).video
        assert found is not None and wanted is not None
        assert torch.equal(found.frames, wanted.frames) and found.name == str(source)
    assert cache.local(source).read_bytes() == source.read_bytes()
