"""Which recorded cases there are, and which of them have a test.

The folder is HOUR_LLAVA_GOLDEN, or ../shared/golden beside the repository, or tests/golden.
Cases are counted when tests are collected, which every xdist worker does in full; a skipped case
fails at once.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SHARED = HERE.parents[2] / "shared" / "golden"
# Set here, for conftest is imported before the test files, which read it at their top.
os.environ.setdefault(
    "HOUR_LLAVA_GOLDEN", str(SHARED if SHARED.is_dir() else HERE.parent / "golden")
)

READ = pytest.StashKey[set[str]]()


@pytest.hookimpl(tryfirst=True)  # before -k and -m take tests away
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Note the case folders that tests read."""
    config.stash[READ] = {folder.name for folder in map(_folder_of, items) if folder is not None}


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """Turn a skipped case into a failure: what is on disk must be compared."""
    report = (yield).get_result()
    if report.outcome == "skipped" and _folder_of(item) is not None:
        report.outcome = "failed"


def _folder_of(item: pytest.Item) -> Path | None:
    callspec = getattr(item, "callspec", None)
    return callspec.params.get("folder") if callspec and item.path.parent == HERE else None


@pytest.fixture
def read_cases(request: pytest.FixtureRequest) -> set[str]:
    """Give the names of the case folders that tests read."""
    return request.config.stash[READ]
