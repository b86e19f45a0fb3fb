"""The pipeline is free of torch; Ray and the openai client load when they are used."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import hour_llava.videomarathon", "torch ray openai pydantic av"),
        ("import hour_llava.videomarathon.runner", "torch ray openai transformers"),
        ("import hour_llava.commands.synth.run", "torch ray openai transformers"),
    ],
)
def test_heavy_packages_load_when_they_are_used(code: str, absent: str) -> None:
    report = f"{code}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", report], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert not set(done.stdout.split()) & set(absent.split())
