"""A file that cannot be written, or must not be, is refused before any work."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hour_llava.errors import ResourceError
from hour_llava.session.target import check_target


def check(path: Path, source: Path | None = None) -> None:
    check_target(path, what="the memory file", suffixes=(".hlm",), source=source)


def test_a_new_file_and_an_older_one_may_be_written(tmp_path: Path) -> None:
    check(tmp_path / "new.hlm")
    (tmp_path / "old.HLM").touch()
    check(tmp_path / "old.HLM", source=tmp_path / "video.mp4")


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("a.mp4", r"\.mp4 is no format; end it in \.hlm"),
        ("a", "no suffix is no format"),
        ("folder.hlm", "it is a folder"),
        ("missing/a.hlm", "missing is no folder; make it first"),
        ("file/a.hlm", "file is no folder"),
        ("x" * 300 + ".hlm", "name another file"),
    ],
)
def test_what_cannot_be_written_is_named_with_its_fault(
    tmp_path: Path, name: str, fault: str
) -> None:
    (tmp_path / "folder.hlm").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError, match=f"cannot write the memory file .*{fault}"):
        check(tmp_path / name)


def test_a_folder_that_may_not_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # tests may run as root
    with pytest.raises(ResourceError, match="may not be written by this user"):
        check(tmp_path / "a.hlm")


def test_what_is_read_is_not_replaced_by_any_of_its_names(tmp_path: Path) -> None:
    (tmp_path / "video.hlm").touch()
    (tmp_path / "link.hlm").symlink_to(tmp_path / "video.hlm")
    for name in ("video.hlm", "link.hlm"):
        with pytest.raises(ResourceError, match="it is the video itself"):
            check(tmp_path / name, source=tmp_path / "video.hlm")
