"""`hour-llava synth init`: make a build folder with a commented build.toml."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from string import Template
from typing import Annotated

import tyro

from hour_llava.commands.terminal import printable, say
from hour_llava.errors import BuildError
from hour_llava.videomarathon.build import Build
from hour_llava.videomarathon.settings import BackendChoice, ClipPreset


def init(
    build: Annotated[Path, tyro.conf.arg(metavar="BUILD_DIR")],
    /,
    *,
    source: Path,
    name: str = "videomarathon",
    data_source: str = "local",
    licence: str | None = None,
    backend: BackendChoice = "auto",
    clips: ClipPreset = "paper",
    min_minutes: float = 3.0,
    max_minutes: float = 60.0,
    captioner: tuple[str, str] | None = None,
    llm: tuple[str, str] | None = None,
    api_key_env: str | None = None,
) -> None:
    """Make a build folder with a build.toml to look over; no video is touched.

    Args:
        build: the folder to make
        source: the folder of videos
        name: of the release
        data_source: written into every row: which collection the videos come from
        licence: of the videos; pixels are exported only where it allows that
        backend: who describes videos; auto: a truth file beside the video, else endpoints, else
            measured facts (embedded, a demonstration)
        clips: paper: 30 s every 20 s; fixed: 30 s every 30 s
        min_minutes: shorter videos are set aside
        max_minutes: longer videos are set aside
        captioner: base URL and model of an OpenAI-compatible endpoint that sees pictures
        llm: base URL and model of one that writes
        api_key_env: the environment variable with the key of both; the key itself is never stored
    """
    if not source.is_dir():
        raise BuildError(f"{source}: no folder of videos; give another --source")
    values = {
        "source": str(source.absolute()),
        "name": name,
        "data_source": data_source,
        "backend": backend,
        "clip_preset": clips,
    }
    places = {key: _toml(value) for key, value in values.items()}
    places |= {
        "licence": f"licence = {_toml(licence)}" if licence else '# licence = "CC-BY-4.0"',
        "min_minutes": f"{min_minutes:g}",
        "max_minutes": f"{max_minutes:g}",
        "endpoints": _endpoints(captioner, llm, api_key_env),
    }
    template = resources.files("hour_llava.videomarathon") / "build_template.toml"
    toml = Template(template.read_text(encoding="utf-8")).substitute(places)
    made = Build.create(build, toml)
    print(printable(str(made.folder / "build.toml")))
    say(f"look it over, then: hour-llava synth plan {build}; hour-llava synth run {build}")


def _toml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # a JSON string is a TOML basic string


def _endpoints(
    captioner: tuple[str, str] | None, llm: tuple[str, str] | None, api_key_env: str | None
) -> str:
    tables: list[str] = []
    for role, place in (("captioner", captioner), ("llm", llm)):
        lead = "" if place else "# "
        url, model = place or ("http://127.0.0.1:8000/v1", "Qwen/Qwen2.5-VL-7B-Instruct")
        key = f"api_key_env = {_toml(api_key_env)}" if api_key_env else '# api_key_env = "MY_KEY"'
        rows = [
            f"[endpoints.{role}]",
            f"base_url = {_toml(url)}",
            f"model = {_toml(model)}",
            key,
            "max_concurrency = 8",
            *(["images = true"] if role == "captioner" else []),
        ]
        tables.append("\n".join(lead + row if row[0] != "#" else row for row in rows))
    return "\n\n".join(tables)
