"""`hour-llava synth inspect`: from a row to its evidence, its calls and its frames."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from hour_llava.commands.terminal import printable, say
from hour_llava.errors import VideoError
from hour_llava.videomarathon.build import Build
from hour_llava.videomarathon.calls.ledger import read_call
from hour_llava.videomarathon.inspect import describe, draw_contact_sheet, find_row
from hour_llava.videomarathon.release.content import read_content


def inspect(
    build: Annotated[Path, tyro.conf.arg(metavar="BUILD_DIR")],
    row: Annotated[str, tyro.conf.arg(metavar="ROW")],
    /,
    *,
    out: Path | None = None,
    raw: bool = False,
    sheet: bool = True,
) -> None:
    """Walk from a row to its evidence, the captions it cites, the raw calls, and the frames.

    Args:
        build: the build's folder
        row: a row's id, or its beginning
        out: the contact sheet; BUILD_DIR/inspect/ROW.png without it
        raw: show raw replies whole
        sheet: draw the contact sheet
    """
    opened = Build.open(build)
    found = find_row(read_content(opened), row)
    calls = opened.folder / "calls"
    for line in describe(found, read_call=lambda key: read_call(calls, key), is_raw=raw):
        print(printable(line))
    if not sheet:
        return
    path = out or opened.folder / "inspect" / f"{found.row.id.replace(':', '_')}.png"
    try:
        draw_contact_sheet(path, found, source=opened.source)
    except VideoError as error:  # the words above are worth having without the pixels
        say(f"no contact sheet: {error}")
    else:
        say(f"contact sheet: {path}")
