"""The page holds any words and file names without breaking, and fetches nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from hour_llava.errors import BuildError
from hour_llava.videomarathon.browse import write_page
from hour_llava.videomarathon.release.content import read_content

Make = Callable[..., Any]
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)


class _Scripts(HTMLParser):
    """Collect what a browser would take for scripts, and every address."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.addresses: list[str] = []
        self._inside: dict[str, str | None] | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = dict(attrs) if tag == "script" else None
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if self._inside is not None:
            self.scripts.append((self._inside, ""))

    def handle_data(self, data: str) -> None:
        if self._inside is not None:
            self.scripts[-1] = (self._inside, self.scripts[-1][1] + data)

    def handle_endtag(self, tag: str) -> None:
        self._inside = None


def _page(build: Any, **options: Any) -> str:
    write_page(build, build.folder / "page.html", title="Kites", **options)
    return (build.folder / "page.html").read_text(encoding="utf-8")


def _json(page: str, name: str) -> Any:
    return next(
        json.loads(text) for attrs, text in _Scripts(page).scripts if attrs.get("id") == name
    )


def test_words_of_the_build_cannot_leave_their_json(make_memory_build: Make, hostile: str) -> None:
    page = _page(
        make_memory_build("truth", words=hostile, path=f"{hostile[:20]}.mp4".replace("/", "-"))
    )

    scripts = _Scripts(page).scripts
    assert [attrs.get("id") for attrs, _ in scripts] == ["index", "video-0", None]
    assert _json(page, "video-0")["global_caption"] == f"A video of {hostile}."
    assert "<script>window" not in page


def test_a_hostile_title_is_escaped(make_memory_build: Make, hostile: str) -> None:
    build = make_memory_build("truth")
    write_page(build, build.folder / "page.html", title=hostile)

    assert len(_Scripts((build.folder / "page.html").read_text()).scripts) == 3


def test_the_policy_runs_our_script_only_and_nothing_is_fetched(make_memory_build: Make) -> None:
    page = _page(make_memory_build("truth"))

    found = _Scripts(page)
    checksum = base64.b64encode(hashlib.sha256(found.scripts[-1][1].encode()).digest()).decode()
    assert f"script-src 'sha256-{checksum}'" in page
    assert "default-src 'none'" in page
    assert found.addresses == []
    assert "{{" not in page


@pytest.mark.parametrize(
    "name", ["plain.mp4", "a #?%& b's/名\n.mp4", 'q"uo<te>.mp4', "javascript:alert(1)"]
)
def test_the_videos_address_is_relative_and_leads_to_the_file(
    make_memory_build: Make, name: str
) -> None:
    build = make_memory_build("truth", path=name)

    src = _json(_page(build), "video-0")["src"]

    assert re.fullmatch(r"[A-Za-z0-9._~/%-]+", src) and src.startswith("../videos/")
    assert (build.folder / unquote(src)).resolve() == (build.source / name).resolve()


def test_the_page_shows_rejected_rows_with_their_reasons(make_memory_build: Make) -> None:
    page = _page(make_memory_build("truth", "mock"))

    index, rows = _json(page, "index"), _json(page, "video-1")["rows"]
    assert index["summary"].startswith("2 of 2 videos, 84 accepted of 86 rows")
    assert [video["kind"] for video in index["videos"]] == ["training", "demonstration"]
    assert [row["reasons"] for row in rows if row["status"] == "rejected"] == [["blind"]]
    assert index["set_aside"][0]["reason"] == "no_video"


def test_an_unfinished_build_can_be_looked_at(make_memory_build: Make) -> None:
    build = make_memory_build("truth")
    for stage in ("balance", "global_caption", "event_captions"):
        del build.stages[stage]

    page = _page(build)

    assert _json(page, "video-0")["rows"] == []
    assert len(_json(page, "video-0")["captions"]) == 9


def test_one_video_or_the_first_ones_can_be_chosen(make_memory_build: Make) -> None:
    build = make_memory_build("truth", "truth", "truth")

    page = write_page(build, build.folder / "p.html", title="t", max_videos=2)
    assert (page.num_videos, page.num_left_out) == (2, 1)
    page = write_page(build, build.folder / "p.html", title="t", video="sub folder/video 3.mp4")
    assert (page.num_videos, page.num_left_out) == (1, 0)
    with pytest.raises(BuildError, match="no video 'x' in the build"):
        write_page(build, build.folder / "p.html", title="t", video="x")


def test_a_page_that_cannot_be_written_is_one_clear_error(make_memory_build: Make) -> None:
    build = make_memory_build("truth")

    with pytest.raises(BuildError, match=r"cannot write the page .*; name another file"):
        write_page(build, build.folder / "missing" / "p.html", title="t")


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine (apt-get install chromium)")
def test_a_browser_shows_an_hours_rows_and_runs_no_strange_script(
    make_memory_build: Make, hostile: str, tmp_path: Path
) -> None:
    build = make_memory_build("truth", minutes=60, words=hostile, rows_per_task=30)
    page = write_page(build, build.folder / "page.html", title="Kites")
    row = build.stages["balance"][5]
    address = f"{page.path.as_uri()}#v={row.video_id}&q={row.id}"
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--virtual-time-budget=5000",
    ]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", address]

    done = subprocess.run(command, capture_output=True, text=True, timeout=250)

    dom = done.stdout
    place = [item.id for item in read_content(build).videos[0].rows].index(row.id)
    assert dom.count('<section class="card') == max(100, place + 1)  # as far as the chosen one
    assert "1290 of 1290 rows" in dom
    assert re.search(rf'<section class="card accepted selected" data-row="{row.id}"', dom)
    assert len(_Scripts(dom).scripts) == 3
    assert "&lt;/script&gt;&lt;script&gt;window.hacked=1" in dom
    assert '<button type="button" class="evidence"' in dom
