"""The ledger keeps what is paid for, durably, for all writers."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hour_llava.errors import BuildError, ResourceError
from hour_llava.videomarathon.calls.ledger import Ledger, StoredCall, read_call, read_spent


def call(key: str, **changes: Any) -> StoredCall:
    values: dict[str, Any] = {
        "key": key,
        "endpoint": "http://host/v1 model",
        "model": "model",
        "stage": "captions",
        "unit": "video:0-30000",
        "attempt": 0,
        "reask": 0,
        "step": "json_schema",
        "request": {"messages": [{"role": "user", "content": "What is 这个?"}]},
        "body": '{"choices": []}',
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "usd": 0.25,
        "seconds": 1.5,
        "tries": 1,
    }
    return StoredCall(**{**values, **changes})


def put(folder: Path, *calls: StoredCall, writer: str = "local") -> None:
    async def work() -> None:
        ledger = Ledger.open(folder, writer)
        await asyncio.gather(*(ledger.put(one) for one in calls))
        ledger.close()

    asyncio.run(work())


def test_what_is_put_is_found_again_as_it_was(tmp_path: Path) -> None:
    put(tmp_path, call("a"), call("b", usd=None, body="half a respon"))
    assert read_call(tmp_path, "a") == call("a")
    assert read_call(tmp_path, "b") == call("b", usd=None, body="half a respon")
    assert read_call(tmp_path, "c") is None


def test_readers_take_the_union_of_all_writers_even_of_later_ones(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path, "first")
    assert ledger.lookup("a") is None
    put(tmp_path, call("a"), writer="second")
    assert ledger.lookup("a") == call("a")
    ledger.close()
    assert {path.name for path in tmp_path.glob("*.sqlite")} == {"first.sqlite", "second.sqlite"}


def test_of_two_rows_of_one_key_the_later_counts(tmp_path: Path) -> None:
    put(tmp_path, call("a", body="old"))
    put(tmp_path, call("a", body="new"))
    found = read_call(tmp_path, "a")
    assert found is not None
    assert found.body == "new"


def test_totals_add_up_all_runs_and_stages(tmp_path: Path) -> None:
    put(tmp_path, call("a"), call("b", stage="qa", usd=None), writer="first")
    put(tmp_path, call("c"), writer="second")
    spent = read_spent(tmp_path)
    assert {stage: (s.calls, s.tokens, s.usd) for stage, s in spent.items()} == {
        "captions": (2, 30, 0.5),
        "qa": (1, 15, 0.0),
    }
    ledger = Ledger.open(tmp_path)
    assert (ledger.totals().calls, ledger.totals().usd) == (3, 0.5)
    ledger.close()


def test_the_ladders_step_outlives_the_run(tmp_path: Path) -> None:
    async def work() -> None:
        ledger = Ledger.open(tmp_path)
        assert ledger.step("e") is None
        await ledger.remember_step("e", "json_object")
        ledger.close()

    asyncio.run(work())
    ledger = Ledger.open(tmp_path, "another")
    assert ledger.step("e") == "json_object"
    ledger.close()


def test_rows_survive_a_kill_as_soon_as_put_has_returned(tmp_path: Path) -> None:
    code = f"""
import asyncio, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_ledger import call
from hour_llava.videomarathon.calls.ledger import Ledger
async def work():
    ledger = Ledger.open({str(tmp_path)!r})
    for n in range(10**6):
        await ledger.put(call(str(n)))
        print(n, flush=True)
asyncio.run(work())
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    last = [process.stdout.readline() for _ in range(20)][-1]
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert all(read_call(tmp_path, str(n)) is not None for n in range(int(last) + 1))


def test_a_full_disk_is_said_once_and_clearly(tmp_path: Path) -> None:
    async def work() -> None:
        ledger = Ledger.open(tmp_path)
        ledger._connection.execute("PRAGMA max_page_count = 12")
        try:
            for n in range(100):
                await ledger.put(call(str(n), body="x" * 4000))
        finally:
            ledger.close()

    with pytest.raises(ResourceError, match=r"cannot be kept.*full.*run again"):
        asyncio.run(work())


def _text_file(path: Path) -> None:
    path.write_text("this is no database, but it is long enough to be looked at " * 20)


def _newer_version(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")


@pytest.mark.parametrize(
    ("spoil", "words"), [(_text_file, "not a ledger"), (_newer_version, "version 99.*upgrade")]
)
def test_a_file_that_is_no_ledger_of_ours_is_refused(
    spoil: Callable[[Path], None], words: str, tmp_path: Path
) -> None:
    spoil(tmp_path / "local.sqlite")
    with pytest.raises(BuildError, match=words):
        Ledger.open(tmp_path)
