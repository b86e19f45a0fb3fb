"""MANIFEST.sha256 is what coreutils read, and finds every change."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from hour_llava.errors import BuildError
from hour_llava.videomarathon.release.manifest import verify_manifest, write_manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.txt", "sub/b c.txt", "new\nline.txt", "back\\slash.txt", "名.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    write_manifest(tmp_path, "DEMONSTRATION")
    return tmp_path


def test_it_verifies_here(folder: Path) -> None:
    assert verify_manifest(folder) == 5


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="coreutils are not installed")
def test_it_verifies_with_sha256sum(folder: Path) -> None:
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "MANIFEST.sha256"], cwd=folder, capture_output=True
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.count(b": OK") == 5


@pytest.mark.parametrize("name", ["a.txt", "new\nline.txt"])
def test_a_changed_file_is_named(folder: Path, name: str) -> None:
    (folder / name).write_text("other")

    with pytest.raises(BuildError, match="missing or changed"):
        verify_manifest(folder)


def test_a_missing_file_and_a_file_too_many_are_named(folder: Path) -> None:
    (folder / "more.txt").write_text("")
    with pytest.raises(BuildError, match=r"more\.txt is not in MANIFEST"):
        verify_manifest(folder)
    (folder / "more.txt").unlink()
    (folder / "a.txt").unlink()
    with pytest.raises(BuildError, match=r"a\.txt is missing or changed"):
        verify_manifest(folder)


def test_no_manifest_is_no_release(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="is no whole release"):
        verify_manifest(tmp_path)
