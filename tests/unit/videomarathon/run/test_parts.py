"""Part files: whole or missing, named by what was read and written."""

from __future__ import annotations

import errno
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from hour_llava.errors import BuildError
from hour_llava.videomarathon.parts import Failure, PartStore
from hour_llava.videomarathon.records import SetAside


def row(text: str) -> SetAside:
    return SetAside(stage="ingest", path="a b.mp4", reason="broken", detail=text)


@pytest.fixture
def store(tmp_path: Path) -> PartStore:
    return PartStore.of(tmp_path, "ingest", "0123456789abcdef")


@pytest.mark.parametrize("unit", ["ab12", "ab12:0-30000", "ab:scene:oe", "a.b/c %2E ü\n"])
def test_what_was_committed_is_read_and_found_by_name(store: PartStore, unit: str) -> None:
    part = store.commit(unit, "a" * 12, [row("one"), row("zwei: ü")])
    assert store.read(part) == [row("one"), row("zwei: ü")]
    assert store.scan().parts == {(unit, "a" * 12): part}


def test_equal_rows_have_equal_bytes(store: PartStore, tmp_path: Path) -> None:
    other = PartStore.of(tmp_path / "other", "ingest", "0123456789abcdef")
    parts = [one.commit("u", "a" * 12, [row("x")]) for one in (store, other)]
    assert parts[0] == parts[1]
    files = [next(one.folder.rglob("*.zst")).read_bytes() for one in (store, other)]
    assert files[0] == files[1]


def test_a_unit_without_rows_is_done_all_the_same(store: PartStore) -> None:
    part = store.commit("u", "a" * 12, [])
    assert store.read(part) == []
    assert list(store.scan().parts) == [("u", "a" * 12)]


def test_a_half_written_file_is_a_leftover_and_no_part(store: PartStore) -> None:
    store.commit("u", "a" * 12, [row("x")])
    whole = next(store.folder.rglob("*.zst"))
    half = whole.rename(whole.with_name(whole.name + ".99.tmp"))
    assert store.scan().parts == {}
    assert store.scan().leftovers == [half]


def test_a_damaged_part_is_named_with_the_remedy(store: PartStore) -> None:
    part = store.commit("u", "a" * 12, [row("x")])
    file = next(store.folder.rglob("*.zst"))
    for data in (file.read_bytes()[:-3], b"", b"nonsense"):
        file.write_bytes(data)
        with pytest.raises(BuildError, match=r"delete the file"):
            store.read(part)


def test_a_failure_is_noted_and_goes_with_a_later_success(store: PartStore) -> None:
    failure = Failure(unit="u", inputs="a" * 12, failure="content", message="no JSON", rounds=1)
    store.commit_failure(failure)
    assert store.scan().failures == {("u", "a" * 12)}
    assert store.read_failure("u", "a" * 12) == failure
    store.commit("u", "a" * 12, [row("x")])
    assert store.scan().failures == set()


FULL_DISK = """
import resource, sys
from pathlib import Path
from hour_llava.videomarathon.parts import PartStore
from hour_llava.videomarathon.records import SetAside
store = PartStore.of(Path(sys.argv[1]), "ingest", "0" * 16)
row = SetAside(stage="ingest", path="a", reason="r", detail="d")
store.commit("first", "a" * 12, [row])
resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))
try:
    store.commit("second", "a" * 12, [row])
except OSError as error:
    print(error.errno)
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="POSIX only")
def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == str(errno.EFBIG), done.stderr
    scan = PartStore.of(tmp_path, "ingest", "0" * 16).scan()
    assert [unit for unit, _ in scan.parts] == ["first"]
    assert scan.leftovers == []
