"""An assistant of random weights, and a cache folder for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from hour_llava.session import Assistant, load


@pytest.fixture(scope="module")
def assistant(tiny_model: Path) -> Assistant:
    return load(str(tiny_model), device="cpu")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder where this test's memories are kept."""
    monkeypatch.setenv("HOUR_LLAVA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "memories"
