"""Which recorded cases there are, and whether each of them was read.

The folder is HOUR_LLAVA_GOLDEN, or ../shared/golden beside the repository, or tests/golden.
"""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SHARED = HERE.parents[2] / "shared" / "golden"
# Set here, for conftest is imported before the test files, which read it at their top.
os.environ.setdefault(
    "HOUR_LLAVA_GOLDEN", str(SHARED if SHARED.is_dir() else HERE.parent / "golden")
)

OUTCOMES = pytest.StashKey[dict[str, list[str]]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[OUTCOMES] = defaultdict(list)


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the cases in one xdist worker, and the test that counts them behind all others."""
    items.sort(key=lambda item: item.name == "test_every_recorded_case_was_run")
    for item in items:
        if item.path.parent == HERE:
            item.add_marker(pytest.mark.xdist_group("parity"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    report = (yield).get_result()
    folder = getattr(item, "callspec", None) and item.callspec.params.get("folder")
    if folder is not None and (report.when == "call" or report.outcome != "passed"):
        item.config.stash[OUTCOMES][Path(folder).name].append(report.outcome)


@pytest.fixture
def outcomes(request: pytest.FixtureRequest) -> dict[str, list[str]]:
    """Give the outcomes so far of the tests of every case folder."""
    return request.config.stash[OUTCOMES]
