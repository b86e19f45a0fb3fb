"""Who says an error: torchrun's store in one process; with torchrun itself in integration/train."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch.distributed import TCPStore

from hour_llava.commands import ranks

Say = Callable[[int, str], str | None]


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch) -> Say:
    """Return a function that gives what a process of two says."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    monkeypatch.setattr(ranks, "_SECONDS", 0.2)
    for name, value in (
        ("TORCHELASTIC_USE_AGENT_STORE", "True"),
        ("MASTER_ADDR", "127.0.0.1"),
        ("MASTER_PORT", str(store.port)),
        ("WORLD_SIZE", "2"),
    ):
        monkeypatch.setenv(name, value)

    def line(rank: int, text: str) -> str | None:
        monkeypatch.setenv("RANK", str(rank))
        assert store.port  # it is open as long as this function holds it
        return ranks.line_of_rank(text)

    return line


def test_what_the_first_process_says_too_is_not_said_again(say: Say) -> None:
    assert say(0, "error: x") == "error: x"
    assert say(1, "error: x") is None
    assert say(1, "error: y") == "rank 1: error: y"


def test_what_one_process_alone_says_names_it(say: Say) -> None:
    assert say(1, "error: y") == "rank 1: error: y"


def test_the_end_of_another_process_is_no_error_to_report_beside_its_own(say: Say) -> None:
    error = RuntimeError("[pair.cc:553] Connection closed by peer [127.0.0.1]:64726")
    assert ranks.is_lost(error)
    assert say(1, f"error: {ranks.LOST}") == f"rank 1: error: {ranks.LOST}"
    assert say(0, "error: x") == "error: x"
    assert say(1, f"error: {ranks.LOST}") is None


def test_a_process_that_is_alone_says_all_it_has_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert ranks.line_of_rank("error: x") == "error: x"
    assert not ranks.is_lost(RuntimeError("Connection reset by peer"))


def test_without_torchruns_store_every_process_speaks_and_names_itself(
    say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE")
    assert say(0, "error: x") == "error: x"
    assert say(1, "error: x") == "rank 1: error: x"
