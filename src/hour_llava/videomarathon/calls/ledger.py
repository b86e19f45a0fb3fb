"""The ledger: every answer that was paid for, as it came, before anybody looked into it.

One SQLite file a writer (`calls/<writer>.sqlite`), so that processes never wait for each other;
readers take the union of all files in the folder. `put` returns when the row is on the disk: rows
that arrive while the disk is busy share the next commit. Rows are only ever added; of two rows of
one key the later counts. No API key, header or clock-dependent id is in a row.
"""

from __future__ import annotations

import asyncio
import json
import queue
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import zstandard

from hour_llava.errors import BuildError, ResourceError

_VERSION = 1
_BUSY_SECONDS = 60.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS calls (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL, endpoint TEXT NOT NULL, model TEXT NOT NULL,
    stage TEXT NOT NULL, unit TEXT NOT NULL, attempt INTEGER NOT NULL, reask INTEGER NOT NULL,
    step TEXT NOT NULL, request BLOB NOT NULL, body TEXT NOT NULL, prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL, usd REAL, seconds REAL NOT NULL, tries INTEGER NOT NULL,
    written_at REAL NOT NULL);
CREATE INDEX IF NOT EXISTS calls_by_key ON calls (key);
CREATE TABLE IF NOT EXISTS steps (endpoint TEXT PRIMARY KEY, step TEXT NOT NULL);
"""
_COLUMNS = (
    "key, endpoint, model, stage, unit, attempt, reask, step, request, body, prompt_tokens, "
    "completion_tokens, usd, seconds, tries"
)
_INSERT = f"INSERT INTO calls ({_COLUMNS}, written_at) VALUES ({', '.join('?' * 16)})"
_SELECT = f"SELECT {_COLUMNS}, written_at FROM calls WHERE key = ? ORDER BY id DESC LIMIT 1"
_TOTALS = (
    "SELECT stage, COUNT(*), SUM(prompt_tokens), SUM(completion_tokens), SUM(usd), "
    "SUM(usd IS NULL), SUM(seconds) FROM calls GROUP BY stage"
)


@dataclass(frozen=True, kw_only=True)
class StoredCall:
    """An answer as it came.

    Args:
        endpoint: Base URL and model.
        model: The model that was asked for.
        step: The ladder's step that the question was put in.
        request: Messages (pictures by content) and sampling.
        body: The response's text, unparsed.
        usd: None where no price is known.
        seconds: How long the answer took, the last try alone.
        tries: HTTP requests until it came.
    """

    key: str
    endpoint: str
    model: str
    stage: str
    unit: str
    attempt: int
    reask: int
    step: str
    request: Mapping[str, Any]
    body: str
    prompt_tokens: int
    completion_tokens: int
    usd: float | None
    seconds: float
    tries: int


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What calls came to; `usd` is that of the calls whose price is known."""

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float = 0.0
    num_unpriced: int = 0
    seconds: float = 0.0

    @property
    def known_usd(self) -> float | None:
        """Return the dollars, or None where the price of any call is unknown."""
        return None if self.num_unpriced else self.usd

    @property
    def tokens(self) -> int:
        """Return both kinds of tokens together."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Spent) -> Spent:
        return Spent(
            calls=self.calls + other.calls,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            usd=self.usd + other.usd,
            num_unpriced=self.num_unpriced + other.num_unpriced,
            seconds=self.seconds + other.seconds,
        )


@dataclass(frozen=True, kw_only=True)
class _Job:
    statement: str
    values: tuple[Any, ...]
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[None]


class Ledger:
    """Writes to one file, reads the union of all; one a process."""

    def __init__(self, folder: Path, writer: str) -> None:
        self.folder = folder
        self._reader = _Union(folder)
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._connection = _open_for_writing(folder / f"{writer}.sqlite")
        self._thread = threading.Thread(target=self._write, name="ledger", daemon=True)
        self._thread.start()

    @classmethod
    def open(cls, folder: Path | str, writer: str = "local") -> Self:
        """Open the ledger of a folder for writing; both are made when missing.

        Raises:
            ResourceError: the disk is full or read-only.
            BuildError: a file of a newer version.
        """
        return cls(Path(folder), writer)

    def lookup(self, key: str) -> StoredCall | None:
        """Find what was answered to a call, by any writer."""
        return self._reader.lookup(key)

    async def put(self, call: StoredCall) -> None:
        """Keep an answer; returns when it is on the disk.

        Raises:
            ResourceError: the disk is full, read-only or broken.
        """
        request = zstandard.compress(json.dumps(call.request, ensure_ascii=False).encode(), 3)
        values = {**vars(call), "request": request}
        columns = [values[name] for name in _COLUMNS.split(", ")]
        await self._submit(_INSERT, (*columns, time.time()))

    def step(self, endpoint: str) -> str | None:
        """Recall the ladder's step of an endpoint."""
        return self._reader.step(endpoint)

    async def remember_step(self, endpoint: str, step: str) -> None:
        """Keep the ladder's step of an endpoint for the next run."""
        await self._submit("INSERT OR REPLACE INTO steps VALUES (?, ?)", (endpoint, step))

    def totals(self) -> Spent:
        """Add up what all runs of the build have paid."""
        return sum(self._reader.spent().values(), Spent())

    def close(self) -> None:
        """Write what waits, then close."""
        if self._thread.is_alive():
            self._jobs.put(None)
            self._thread.join()
        self._connection.close()
        self._reader.close()

    async def _submit(self, statement: str, values: tuple[Any, ...]) -> None:
        loop = asyncio.get_running_loop()
        job = _Job(statement=statement, values=values, loop=loop, done=loop.create_future())
        self._jobs.put(job)
        # An answer that is paid for is written even when who asked is cancelled.
        await asyncio.shield(job.done)

    def _write(self) -> None:
        is_open = True
        while is_open:
            batch = [self._jobs.get()]
            with suppress(queue.Empty):
                while True:
                    batch.append(self._jobs.get_nowait())
            is_open = None not in batch
            self._commit([job for job in batch if job is not None])

    def _commit(self, jobs: list[_Job]) -> None:
        fault: ResourceError | None = None
        try:
            with self._connection:
                for job in jobs:
                    self._connection.execute(job.statement, job.values)
        except sqlite3.Error as error:
            fault = _disk_fault(self.folder, error)
        for job in jobs:
            with suppress(RuntimeError):  # its loop is closed: nobody waits any more
                job.loop.call_soon_threadsafe(_resolve, job.done, fault)


def _resolve(done: asyncio.Future[None], fault: ResourceError | None) -> None:
    if done.done():
        return
    if fault is None:
        done.set_result(None)
    else:
        done.set_exception(fault)


def read_call(folder: Path | str, key: str) -> StoredCall | None:
    """Find a call in a folder of ledgers without writing to it."""
    union = _Union(Path(folder))
    try:
        return union.lookup(key)
    finally:
        union.close()


def read_spent(folder: Path | str) -> dict[str, Spent]:
    """Add up what each stage has paid, over all runs, without writing to the folder."""
    union = _Union(Path(folder))
    try:
        return union.spent()
    finally:
        union.close()


class _Union:
    """All ledgers of a folder, read only; files that appear later are found on a miss."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._connections: dict[str, sqlite3.Connection] = {}

    def lookup(self, key: str) -> StoredCall | None:
        known = set(self._connections)
        newest = self._newest(self._connections.values(), key)
        if newest is None:
            self._refresh()
            others = [c for name, c in self._connections.items() if name not in known]
            newest = self._newest(others, key)
        return newest

    def step(self, endpoint: str) -> str | None:
        self._refresh()
        for connection in self._connections.values():
            rows = _rows(connection, "SELECT step FROM steps WHERE endpoint = ?", (endpoint,))
            for (step,) in rows:
                return step
        return None

    def spent(self) -> dict[str, Spent]:
        self._refresh()
        sums: dict[str, Spent] = {}
        for connection in self._connections.values():
            for stage, calls, prompt, completion, usd, unpriced, seconds in _rows(
                connection, _TOTALS, ()
            ):
                sums[stage] = sums.get(stage, Spent()) + Spent(
                    calls=calls,
                    prompt_tokens=prompt,
                    completion_tokens=completion,
                    usd=usd or 0.0,
                    num_unpriced=unpriced,
                    seconds=seconds,
                )
        return sums

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()

    def _newest(self, connections: Any, key: str) -> StoredCall | None:
        rows = [row for connection in connections for row in _rows(connection, _SELECT, (key,))]
        return _stored(max(rows, key=lambda row: row[-1])) if rows else None

    def _refresh(self) -> None:
        for path in sorted(self._folder.glob("*.sqlite")):
            if path.name not in self._connections:
                self._connections[path.name] = _open_for_reading(path)


def _stored(row: tuple[Any, ...]) -> StoredCall:
    values = dict(zip(_COLUMNS.split(", "), row[:-1], strict=True))
    values["request"] = json.loads(zstandard.decompress(values["request"]))
    return StoredCall(**values)


def _rows(
    connection: sqlite3.Connection, statement: str, values: tuple[Any, ...]
) -> Iterator[tuple[Any, ...]]:
    try:
        yield from connection.execute(statement, values)
    except sqlite3.OperationalError as error:
        if "no such table" not in str(error):  # its writer has only just made the file
            raise


def _open_for_reading(path: Path) -> sqlite3.Connection:
    address = f"{path.resolve().as_uri()}?mode=ro"
    connection = sqlite3.connect(address, uri=True, timeout=_BUSY_SECONDS, check_same_thread=False)
    try:
        connection.execute("PRAGMA schema_version")
    except sqlite3.OperationalError:  # a read-only folder cannot hold the shared index
        connection.close()
        connection = sqlite3.connect(f"{address}&immutable=1", uri=True, check_same_thread=False)
    except sqlite3.DatabaseError as error:
        connection.close()
        raise BuildError(
            f"{path}: not a ledger ({error}); move it out of the folder, then run again"
        ) from error
    return connection


def _open_for_writing(path: Path) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, check_same_thread=False)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > _VERSION:
            raise BuildError(
                f"{path}: a ledger of version {version}; this release writes {_VERSION}: "
                "upgrade hour-llava"
            )
        connection.executescript(_SCHEMA + f"PRAGMA user_version = {_VERSION};")
    except sqlite3.OperationalError as error:
        raise _disk_fault(path, error) from error
    except sqlite3.DatabaseError as error:
        raise BuildError(
            f"{path}: not a ledger ({error}); move it out of the folder, then run again"
        ) from error
    except OSError as error:
        raise _disk_fault(path, error) from error
    return connection


def _disk_fault(place: Path, error: Exception) -> ResourceError:
    return ResourceError(
        f"{place}: an answer that is paid for cannot be kept ({error}); free some space or make "
        "the folder writable, then run again: nothing more was asked"
    )
