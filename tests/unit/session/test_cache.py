"""Where memories are kept, how they are named, and that only one process writes one."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from hour_llava.errors import ResourceError
from hour_llava.schema import Sampling
from hour_llava.session.cache import (
    cache_folder,
    is_there,
    memory_key,
    only_one_process,
    prepare_folder,
)

KEY = {"content_digest": "c", "sampling": Sampling(), "tower_digest": "t"}


def test_the_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUR_LLAVA_CACHE", "/somewhere")
    assert cache_folder() == Path("/somewhere/memories")
    monkeypatch.delenv("HOUR_LLAVA_CACHE")
    assert cache_folder().parent.name == "hour-llava"


def test_equal_parts_give_equal_keys() -> None:
    assert memory_key(**KEY) == memory_key(**KEY)


@pytest.mark.parametrize(
    "change",
    [
        {"content_digest": "d"},
        {"tower_digest": "u"},
        {"sampling": Sampling(fps=2.0)},
        {"sampling": Sampling(start_seconds=1.0)},
        {"sampling": Sampling(end_seconds=9.0)},
    ],
)
def test_every_part_changes_the_key(change: dict[str, object]) -> None:
    assert memory_key(**KEY) != memory_key(**{**KEY, **change})  # type: ignore[arg-type]


def test_a_cache_that_is_a_file_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="HOUR_LLAVA_CACHE"):
        prepare_folder(tmp_path / "file" / "memories")


def test_a_second_process_waits_and_says_so_once(tmp_path: Path) -> None:
    memory = tmp_path / "a.hlm"
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from hour_llava.session.cache import only_one_process\n"
        f"with only_one_process(Path({str(memory)!r}), on_wait=lambda: None):\n"
        "    print('held', flush=True)\n    time.sleep(60)\n"
    )
    waits: list[str] = []
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"

        def on_wait() -> None:
            waits.append("waiting")
            holder.kill()  # the lock of a killed process is free at once

        with only_one_process(memory, on_wait=on_wait):
            assert waits == ["waiting"]
    finally:
        holder.kill()
        holder.wait()


def test_a_free_lock_is_taken_without_a_word(tmp_path: Path) -> None:
    begin = time.monotonic()
    with only_one_process(tmp_path / "a.hlm", on_wait=lambda: pytest.fail("waited")):
        pass
    with only_one_process(tmp_path / "a.hlm", on_wait=lambda: pytest.fail("waited")):
        pass
    assert begin <= time.monotonic()


def test_a_cache_folder_that_cannot_be_searched_is_one_clear_error(tmp_path: Path) -> None:
    file = tmp_path / ("x" * 300) / "memories" / "key.hlm"  # the system refuses such a name
    with pytest.raises(ResourceError, match=r"cannot read the cache folder .*HOUR_LLAVA_CACHE"):
        is_there(file)
    assert not is_there(tmp_path / "none.hlm")
