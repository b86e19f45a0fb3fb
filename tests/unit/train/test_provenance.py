from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from hour_llava.errors import ConfigError
from hour_llava.recipes.nano import NanoSettings
from hour_llava.train.provenance import keep_settings


def test_settings_are_kept_with_the_code_s_versions(tmp_path: Path) -> None:
    keep_settings(tmp_path / "run" / "recipe.json", {"steps": (1, 2)})
    kept = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert kept["settings"] == {"steps": [1, 2]}
    assert {"commit", "python", "torch"} <= set(kept["run"])


def test_a_run_goes_on_with_its_own_settings_alone(tmp_path: Path) -> None:
    path, settings = tmp_path / "recipe.json", NanoSettings()
    keep_settings(path, asdict(settings))
    before = path.read_bytes()
    keep_settings(path, asdict(settings))
    first = replace(settings.loops[0], learning_rate=0.5)
    other = replace(settings, loops=(first, *settings.loops[1:]))
    with pytest.raises(ConfigError, match=r"loops\.0\.learning_rate: 0\.0025, now 0\.5"):
        keep_settings(path, asdict(other))
    with pytest.raises(ConfigError, match=r"\(loops: "):
        keep_settings(path, asdict(replace(settings, loops=settings.loops[:1])))
    assert path.read_bytes() == before
