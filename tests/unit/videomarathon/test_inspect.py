"""From a row one gets to its evidence, its calls and its frames."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from hour_llava.errors import BuildError, VideoNotFoundError
from hour_llava.videomarathon.calls.ledger import StoredCall
from hour_llava.videomarathon.inspect import describe, draw_contact_sheet, find_row, read_strip
from hour_llava.videomarathon.records import Span, Verdict
from hour_llava.videomarathon.release.content import read_content

Make = Callable[..., Any]


def _no_call(_: str) -> None:
    return None


def _call(key: str) -> StoredCall:
    body = json.dumps({"choices": [{"message": {"content": '{"raw": "' + "x" * 900 + '"}'}}]})
    return StoredCall(
        key=key,
        endpoint="http://h m",
        model="mock-llm",
        stage="qa",
        unit="u",
        attempt=0,
        reask=0,
        step="json_schema",
        request={},
        body=body,
        prompt_tokens=1200,
        completion_tokens=34,
        usd=None,
        seconds=0.1,
        tries=1,
    )


def _write_video(path: Path, seconds: int) -> None:
    """One frame a second whose red is the second's number."""
    path.parent.mkdir(parents=True)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 36, "yuv420p"
        for second in range(seconds):
            rgb = np.zeros((36, 64, 3), np.uint8)
            rgb[..., 0] = second
            file.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, "rgb24")))
        file.mux(stream.encode())


def test_a_row_is_found_by_its_id_and_by_a_beginning(make_memory_build: Make) -> None:
    build = make_memory_build("truth", "truth")
    content = read_content(build)
    row = build.stages["balance"][50]

    assert find_row(content, row.id).row == row
    assert find_row(content, row.id.split(":")[1][:12]).row == row
    assert find_row(content, row.id[:-4]).row == row


def test_unknown_and_ambiguous_ids_are_refused_with_examples(make_memory_build: Make) -> None:
    content = read_content(make_memory_build("truth"))

    with pytest.raises(BuildError, match=r"no row 'zzz' in the build; an id looks like 0000"):
        find_row(content, "zzz")
    with pytest.raises(BuildError, match=r"43 rows begin with '0000'.*give more letters"):
        find_row(content, "0000")
    with pytest.raises(BuildError, match="no row ''"):
        find_row(content, "")


def test_the_words_lead_from_the_row_to_the_captions_it_cites(make_memory_build: Make) -> None:
    build = make_memory_build("truth")
    found = find_row(read_content(build), build.stages["balance"][1].id)

    text = "\n".join(describe(found, read_call=_no_call))

    assert "-> right answer" in text
    assert "* object      object of a red kite in stretch 0" in text
    assert "event 3 of a red kite: What happens to a red kite in part 3." in text
    assert "pass  quote: verbatim" in text
    assert "not in this build's ledger" in text


def test_a_row_kept_as_short_form_says_so_where_its_failed_rule_stands(
    make_memory_build: Make,
) -> None:
    build = make_memory_build("truth")
    found = find_row(read_content(build), build.stages["balance"][1].id)
    failed = Verdict(rule="long_form", outcome="fail", detail="seen in 20 s")
    row = found.row.model_copy(
        update={"form": "short", "reasons": ("long_form",), "verdicts": (failed,)}
    )

    lines = describe(replace(found, row=row), read_call=_no_call)

    assert lines[0] == f"row {row.id}: accepted (kept as short-form)"
    assert "  fail  long_form: seen in 20 s; kept as short-form" in lines


def test_raw_replies_are_cut_unless_asked_for(make_memory_build: Make) -> None:
    build = make_memory_build("mock")
    found = find_row(read_content(build), build.stages["balance"][1].id)

    short = "\n".join(describe(found, read_call=_call))
    whole = "\n".join(describe(found, read_call=_call, is_raw=True))

    assert "call qa-0000000000000001: mock-llm, 1,200 + 34 tokens" in short
    assert "(--raw shows all)" in short and "x" * 900 not in short
    assert "x" * 900 in whole and "(--raw" not in whole
    assert "DEMONSTRATION, not training data" in short


def test_frames_of_a_span_come_from_inside_it(tmp_path: Path) -> None:
    _write_video(tmp_path / "v" / "a.mp4", 180)

    strip = read_strip(tmp_path / "v" / "a.mp4", Span(start_ms=100_000, end_ms=140_000))

    assert [seconds for seconds, _ in strip] == [105, 115, 125, 135]
    for seconds, rgb in strip:
        assert abs(float(rgb[..., 0].mean()) - seconds) < 8


def test_a_contact_sheet_has_a_line_of_frames_for_each_piece_of_evidence(
    make_memory_build: Make, tmp_path: Path
) -> None:
    build = make_memory_build("embedded", words="$a_1$ name")
    _write_video(build.source / "sub folder" / "video 1.mp4", 180)
    found = find_row(read_content(build), build.stages["balance"][1].id)

    path = draw_contact_sheet(tmp_path / "sheet.png", found, source=build.source)

    with Image.open(path) as picture:
        assert picture.width > 900
        assert picture.height > 500  # two lines
    assert [p.name for p in tmp_path.glob("sheet*")] == ["sheet.png"]


def test_without_the_video_there_is_no_sheet_and_a_clear_error(
    make_memory_build: Make, tmp_path: Path
) -> None:
    build = make_memory_build("truth")
    found = find_row(read_content(build), build.stages["balance"][1].id)

    with pytest.raises(VideoNotFoundError):
        draw_contact_sheet(tmp_path / "sheet.png", found, source=build.source)

    assert not list(tmp_path.glob("sheet*"))


def test_a_sheet_that_cannot_be_written_is_one_clear_error(
    make_memory_build: Make, tmp_path: Path
) -> None:
    build = make_memory_build("truth")
    _write_video(build.source / "sub folder" / "video 1.mp4", 180)
    found = find_row(read_content(build), build.stages["balance"][1].id)

    (tmp_path / "file").write_text("no folder")
    with pytest.raises(BuildError, match="cannot write the contact sheet"):
        draw_contact_sheet(tmp_path / "file" / "sheet.png", found, source=build.source)
