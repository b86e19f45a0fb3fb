"""`synth browse`: a build as one HTML page that needs no server and fetches nothing.

Words of the build reach the page as JSON in which no `<` stands, and the page writes them as text;
its policy runs no script but ours, whose hash it names. Videos are played from where they lie, by a
path relative to the page. Each video's rows are parsed when it is opened.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hour_llava.errors import BuildError
from hour_llava.tasks import TASKS
from hour_llava.videomarathon.release.content import (
    BuildRows,
    Content,
    VideoContent,
    read_content,
)

MAX_VIDEOS = 200
"""More make a page that browsers are slow to load; the verb says which were left out."""


@dataclass(frozen=True, kw_only=True)
class Page:
    """The page that was written, and how many of the build's videos are in it."""

    path: Path
    num_videos: int
    num_rows: int
    num_left_out: int


def write_page(
    build: BuildRows,
    path: Path,
    *,
    title: str,
    video: str | None = None,
    max_videos: int = MAX_VIDEOS,
) -> Page:
    """Write the page of a build, finished or not.

    Args:
        build: Whose records to show.
        path: The HTML file.
        title: Stands above the page.
        video: Show only the video of this id or path.
        max_videos: Show the first so many.

    Raises:
        BuildError: there is nothing to show, no such video, or the file cannot be written.
    """
    content = read_content(build)
    chosen = _choose(content, video)
    shown = chosen[:max_videos]
    text = make_page(content, shown, title=title, source=build.source, page=path)
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_bytes(text.encode("utf-8", "replace"))
        partial.replace(path)
    except OSError as error:
        raise BuildError(
            f"cannot write the page {path}: {error.strerror}; name another file with --out"
        ) from error
    return Page(
        path=path,
        num_videos=len(shown),
        num_rows=sum(len(item.rows) for item in shown),
        num_left_out=len(chosen) - len(shown),
    )


def make_page(
    content: Content, videos: Sequence[VideoContent], *, title: str, source: Path, page: Path
) -> str:
    """Return the page's HTML."""
    folder = files("hour_llava.videomarathon")
    script = folder.joinpath("browse.js").read_text("utf-8")
    checksum = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    blocks = [
        f'<script type="application/json" id="video-{number}">'
        f"{_json(_video_dict(item, _address(source / item.video.path, page)))}</script>"
        for number, item in enumerate(videos)
    ]
    places = {
        "title": html.escape(title),
        "script_hash": f"sha256-{checksum}",
        "index": _json(_index_dict(content, videos)),
        "videos": "\n".join(blocks),
        "script": script,
    }
    template = folder.joinpath("browse.html").read_text("utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda place: places[place[1]], template)


def _choose(content: Content, video: str | None) -> tuple[VideoContent, ...]:
    if video is None:
        return content.videos
    chosen = tuple(item for item in content.videos if video in (item.video.id, item.video.path))
    if not chosen:
        raise BuildError(f"no video {video!r} in the build; give its id, or its path as listed")
    return chosen


def _index_dict(content: Content, videos: Sequence[VideoContent]) -> dict[str, Any]:
    num_rows = sum(len(item.rows) for item in videos)
    num_accepted = sum(len(item.accepted) for item in videos)
    stage = f", rows as of the stage {content.row_stage}" if content.row_stage else ""
    return {
        "summary": f"{len(videos):,} of {len(content.videos):,} videos, {num_accepted:,} accepted "
        f"of {num_rows:,} rows{stage}",
        "tasks": [{"slug": t.slug, "name": t.name, "topic": t.topic} for t in TASKS],
        "videos": [
            {
                "id": item.video.id,
                "path": item.video.path,
                "source": item.video.source,
                "duration_ms": item.video.duration_ms,
                "backend": _backends(item),
                "kind": item.kind,
                "num_rows": len(item.rows),
                "num_accepted": len(item.accepted),
            }
            for item in videos
        ],
        "set_aside": [
            item.model_dump(mode="json", include={"path", "stage", "reason", "detail"})
            for item in content.set_aside
        ],
    }


def _video_dict(item: VideoContent, src: str) -> dict[str, Any]:
    keep = {"span", "provenance"}
    return {
        **item.video.model_dump(
            mode="json",
            include={"id", "path", "source", "licence", "duration_ms", "width", "height"},
        ),
        "src": src,
        "kind": item.kind,
        "backend": _backends(item),
        "global_caption": None if item.global_caption is None else item.global_caption.text,
        "events": [
            event.model_dump(
                mode="json", include={*keep, "id", "title", "narrative"}, exclude_none=True
            )
            for event in item.events
        ],
        "captions": [
            caption.model_dump(
                mode="json",
                include={*keep, "clip_id", "aspects", "verdicts", "is_usable"},
                exclude_none=True,
            )
            for caption in item.captions
        ],
        "rows": [
            row.model_dump(mode="json", exclude={"version", "kind", "video_id"}, exclude_none=True)
            for row in item.rows
        ],
    }


def _backends(item: VideoContent) -> str:
    return " + ".join(sorted(item.backends or {item.video.backend}))


def _address(video: Path, page: Path) -> str:
    """Return the address of a file as seen from the page, whatever letters its name has."""
    relative = os.path.relpath(video.absolute(), page.absolute().parent)
    return quote(os.fsencode(Path(relative).as_posix()), safe="/")


def _json(value: object) -> str:
    """Write JSON that no HTML parser can leave: without `<`, neither tags nor comments begin."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
