"""No recorded case may be left unread: a folder of an unknown kind fails the suite."""

from __future__ import annotations

import os
from pathlib import Path


def test_every_recorded_case_has_a_test(read_cases: set[str]) -> None:
    golden = Path(os.environ["HOUR_LLAVA_GOLDEN"])
    on_disk = {path.parent.name for path in golden.glob("*/meta.json")}
    assert on_disk, f"{golden} has no case folders"
    unread = sorted(on_disk - read_cases)
    assert not unread, f"case folders that no test reads: {unread}"
