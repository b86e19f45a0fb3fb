"""Videos to build from, and a model endpoint on loopback; real files, a real process."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from hour_llava.videomarathon.build import Build


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A running mock server."""

    url: str
    pid: int

    def stats(self) -> dict[str, Any]:
        address = self.url.removesuffix("/v1") + "/mock/stats"
        with urllib.request.urlopen(address, timeout=60) as response:
            return json.loads(response.read())


def start_mock_server(*words: str) -> tuple[subprocess.Popen[str], Endpoint]:
    command = [sys.executable, "-m", "hour_llava.cli", "synth", "mock-server", *words]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    assert url, "the mock server did not start"
    return process, Endpoint(url=url, pid=process.pid)


@pytest.fixture(scope="session")
def mock_server() -> Iterator[Endpoint]:
    """Return a mock server without faults, the same for all tests."""
    process, endpoint = start_mock_server()
    yield endpoint
    process.kill()
    process.communicate()


@pytest.fixture
def slow_mock_server() -> Iterator[Endpoint]:
    """Return a mock server of one's own whose every answer takes 50 ms."""
    process, endpoint = start_mock_server("--latency-ms", "50")
    yield endpoint
    process.kill()
    process.communicate()


@pytest.fixture(scope="session")
def world_videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with one three-minute MarathonWorld video and its truth."""
    from hour_llava.world.make import make_world

    folder = tmp_path_factory.mktemp("world")
    make_world(folder / "three minutes", seconds=180, seed=7, fps=4, width=160, height=90)
    return folder


@pytest.fixture(scope="session")
def plain_videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with two short videos of moving colours, and files that are none."""
    folder = tmp_path_factory.mktemp("plain")
    write_footage(folder / 'müde Katze\'s "day".mp4', seconds=100, seed=1)
    write_footage(folder / "b.mkv", seconds=70, seed=2)
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "words.mp4").write_text("this is no video " * 100)
    (folder / "same again.mkv").write_bytes((folder / "b.mkv").read_bytes())
    return folder


def write_footage(path: Path, *, seconds: int, seed: int, fps: int = 4) -> None:
    """Write scenes of plain colours with a square that moves, a cut every twenty seconds."""
    random = np.random.default_rng(seed)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=fps)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.time_base = Fraction(1, fps)
        for index in range(seconds * fps):
            if index % (20 * fps) == 0:
                colour, other = random.integers(0, 255, (2, 3), dtype=np.uint8)
            rgb = np.empty((64, 96, 3), np.uint8)
            rgb[:] = colour
            x = (index * 2) % 80
            rgb[20:36, x : x + 16] = other
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def make_build(folder: Path, source: Path, endpoint: Endpoint | None = None, **values: Any) -> Path:
    """Write a build.toml with small limits; returns the folder."""
    settings = {"source": str(source), "min_minutes": 1, "max_minutes": 61, **values}
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    if endpoint is not None:
        for role in ("captioner", "llm"):
            lines += [f"[endpoints.{role}]", f'base_url = "{endpoint.url}"']
            lines += [f'model = "mock-{role}"', "max_concurrency = 4"]
            lines += [f"images = {'true' if role == 'captioner' else 'false'}"]
            lines += ["usd_per_million_input = 1.0", "usd_per_million_output = 2.0"]
    Build.create(folder, "\n".join(lines) + "\n")
    return folder


@dataclass(frozen=True, kw_only=True)
class Kit:
    """What tests call: makes builds, runs the command, reads checksums."""

    def make_build(self, *args: Any, **kwargs: Any) -> Path:
        return make_build(*args, **kwargs)

    def run(self, *words: str, timeout: float = 280) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "hour_llava.cli", "synth", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout)

    def write_footage(self, path: Path, *, seconds: int, seed: int) -> None:
        write_footage(path, seconds=seconds, seed=seed)

    def start(self, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "hour_llava.cli", "synth", *words]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def releases(self, build: Path) -> dict[str, str]:
        """Return the manifest of every release, by its folder's name."""
        found = sorted((build / "release").glob("*/MANIFEST.sha256"))
        return {file.parent.name: file.read_text() for file in found}

    def parts(self, build: Path) -> set[str]:
        """Return the names of all part files: they say what was read and what was written."""
        return {re.sub(r"^.*/stages/", "", str(p)) for p in (build / "stages").rglob("*.zst")}


@pytest.fixture(scope="session")
def kit() -> Kit:
    """Return the tools of these tests."""
    return Kit()
