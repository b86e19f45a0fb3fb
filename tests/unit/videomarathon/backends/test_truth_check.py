"""A truth file that is none is named by its own name, in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from hour_llava.errors import HourLlavaError
from hour_llava.videomarathon.backends.truth_check import read_truth


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{broken", "not a MarathonWorld timeline (no JSON at line 1, column 2)"),
        ("[]", "not a MarathonWorld timeline (a part has the wrong form)"),
        ('{"format": "marathon_world", "version": 1}', "timeline (seed is missing)"),
        ('{"format": "other", "version": 1}', "format 'other' version 1"),
    ],
)
def test_a_bad_truth_file_is_named_with_what_is_wrong(
    tmp_path: Path, text: str, expected: str
) -> None:
    file = tmp_path / "bad.truth.json"
    file.write_text(text)

    with pytest.raises(HourLlavaError) as caught:
        read_truth(file)

    said = str(caught.value)
    assert said.startswith(f"{file}: ")
    assert expected in said
    assert ": truth.json" not in said
    assert "Error(" not in said
