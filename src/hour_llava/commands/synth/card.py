"""`hour-llava synth card`: the dataset card that a build's release would carry."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from hour_llava.errors import BuildError
from hour_llava.videomarathon.build import Build
from hour_llava.videomarathon.release.card import write_card
from hour_llava.videomarathon.release.parquet import count_rows
from hour_llava.videomarathon.release.seal import card_facts, make_drafts


def card(
    build: Annotated[Path, tyro.conf.arg(metavar="BUILD_DIR")],
    /,
    *,
    name: str | None = None,
    demonstration: bool = False,
) -> None:
    """Print the dataset card of a build as it is now; `export` writes it into the release.

    Args:
        build: the build's folder
        name: of the release; that of build.toml without it
        demonstration: the card of the demonstration release
    """
    draft = make_drafts(Build.open(build), name)["demonstration" if demonstration else "training"]
    if not draft.num_rows:
        raise BuildError(
            f"{build} has no accepted rows for {draft.name}; "
            + ("drop" if demonstration else "try")
            + f" --demonstration, or `hour-llava synth stats {build}`"
        )
    print(write_card(card_facts(draft, count_rows(draft.videos_by_split))), end="")
