"""Importing the package and asking for help stays light: neither torch nor transformers loads."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "av", "matplotlib", "scipy", "huggingface_hub")


def modules_after(code: str) -> set[str]:
    report = "\nimport sys\nprint(*sys.modules, sep='\\n', file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code + report], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


@pytest.mark.parametrize(
    "code",
    [
        "import hour_llava",
        "import hour_llava.errors, hour_llava.schema",
        "from hour_llava.cli import main; main(['--help'])",
        "from hour_llava.cli import main; main(['--version'])",
        "from hour_llava.cli import main; main(['aks'])",
        "from hour_llava.cli import main; main(['ask', '--help'])",
        "from hour_llava.cli import main; main(['remember', '--help'])",
        "from hour_llava.cli import main; main(['train', 'hour_llava_3b_stage3', '--help'])",
        "from hour_llava.cli import main; main(['train', 'debug_stage1', '--print-config'])",
        "import hour_llava.commands.doctor, hour_llava.commands.bench, hour_llava.commands.info",
    ],
)
def test_light_imports_load_nothing_heavy(code: str) -> None:
    loaded = modules_after(code)
    assert not loaded.intersection(HEAVY)


def test_the_video_and_world_layers_are_free_of_torch() -> None:
    loaded = modules_after("import hour_llava.video, hour_llava.world")
    assert not loaded.intersection({"torch", "transformers"})
