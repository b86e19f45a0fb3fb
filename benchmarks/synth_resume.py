"""What a build's state costs: the resume scan, durable commits, pictures of an hour, kills.

`resume_scan` works out what is to do in a build of 100,000 clips (names of files alone, and the
clips of 1,000 videos). `commits` is units a second that are on the disk, one after the other and
eight at once. `hour_of_pictures` serves all 180 clips of a 60-minute video to a captioner that
takes no time, with the peak memory of this process and of the largest decoding child. `kills`
runs the test that ends a build by `kill -9` and counts calls that were answered more than once.
`executors` runs one build of a MarathonWorld video and two others (mock endpoint, 200 ms an answer)
locally and under Ray, each in a new process, start-up included, and compares the releases' bytes.

    python benchmarks/synth_resume.py [--only scan] [--video hour.mp4]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hour_llava.video import probe
from hour_llava.videomarathon.build import Build
from hour_llava.videomarathon.calls.ledger import read_spent
from hour_llava.videomarathon.frames import FrameServer
from hour_llava.videomarathon.parts import PartStore
from hour_llava.videomarathon.records import Clip, SetAside, Span, Video, clip_id, digest
from hour_llava.videomarathon.state import State
from record import keep_results, origin

RESULTS = Path(__file__).parent / "results" / "synth_resume.json"
NUM_VIDEOS, NUM_CLIPS = 1000, 100
NAMES = ("hour", "commits", "scan", "kills", "executors")


def make_large_build(folder: Path) -> Build:
    """Write a build whose captions are all done; its videos are names, its captions too."""
    (folder / "videos").mkdir()
    (folder / "build").mkdir()
    (folder / "build" / "build.toml").write_text('source = "../videos"\n')
    build = Build.open(folder / "build")
    for number in range(NUM_VIDEOS):
        (folder / "videos" / f"{number:04d}.mp4").touch()
    state = State(build)
    ingest = state.of("ingest")
    for work in ingest.work:
        name = digest(work.unit)
        video = Video(
            id=name,
            path=dict(work.file)["path"] or "",
            duration_ms=NUM_CLIPS * 20_000,
            width=640,
            height=360,
            average_fps=25.0,
            has_audio=False,
            content_digest=name,
            backend="embedded",
        )
        ingest.note(ingest.store.commit(work.unit, work.inputs, [video]))
    clips = state.of("clips")
    for work in clips.work:
        spans = [Span(start_ms=20_000 * i, end_ms=20_000 * i + 20_000) for i in range(NUM_CLIPS)]
        rows = [
            Clip(id=clip_id(work.unit, span), video_id=work.unit, index=index, span=span)
            for index, span in enumerate(spans)
        ]
        clips.note(clips.store.commit(work.unit, work.inputs, rows))
    captions = state.of("captions")
    for work in captions.work:  # a scan reads names, so that empty files do
        shard = digest(work.unit)[:2]
        place = captions.store.folder / shard
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{work.unit.replace(':', '%3A')}.{work.inputs}.{'0' * 12}.jsonl.zst").touch()
    return build


def measure_scan(folder: Path) -> dict[str, Any]:
    # The disk is not what is measured here, and 2,000 syncs would be.
    sync, os.fsync = os.fsync, lambda _: None
    try:
        build = make_large_build(folder)
    finally:
        os.fsync = sync
    seconds: list[float] = []
    cpu: list[float] = []
    for _ in range(3):
        begun, cpu_begun = time.perf_counter(), time.process_time()
        captions = State(build).of("captions")
        assert (len(captions.work), len(captions.todo())) == (NUM_VIDEOS * NUM_CLIPS, 0)
        seconds.append(time.perf_counter() - begun)
        cpu.append(time.process_time() - cpu_begun)
    begun = time.process_time()
    captions.store.scan()
    names = time.process_time() - begun
    return {
        "name": "resume_scan",
        "num_units": NUM_VIDEOS * NUM_CLIPS,
        "seconds": round(min(seconds), 2),
        "cpu_seconds": round(min(cpu), 2),
        "cpu_seconds_of_names_alone": round(names, 2),
    }


def measure_commits(folder: Path) -> dict[str, Any]:
    store = PartStore.of(folder, "captions", "0" * 16)
    rows = [SetAside(stage="captions", path="a", reason="r", detail="words " * 200)]

    def commit(number: int) -> None:
        store.commit(f"unit{number}", "0" * 12, rows)

    rate = {"one": _rate(lambda: [commit(number) for number in range(500)], 500)}
    with ThreadPoolExecutor(8) as pool:
        rate["eight"] = _rate(lambda: list(pool.map(commit, range(500, 1500))), 1000)
    return {"name": "commits", "a_second_one_by_one": rate["one"], "a_second_by_8": rate["eight"]}


def _rate(work: Callable[[], object], num: int) -> int:
    begun = time.perf_counter()
    work()
    return round(num / (time.perf_counter() - begun))


def measure_hour(video: Path, folder: Path) -> dict[str, Any]:
    info = probe(video)
    duration_ms = round(info.duration_seconds * 1000)
    record = Video(
        id=digest(info.content_digest),
        path=video.name,
        duration_ms=duration_ms,
        width=info.width,
        height=info.height,
        average_fps=info.average_fps,
        has_audio=False,
        content_digest=info.content_digest,
        backend="endpoint",
    )
    starts = range(0, duration_ms, 20_000)

    async def serve() -> int:
        server = FrameServer(video.parent, folder / "cache", side=512, num_decoders=1)
        server.expect({record.id: len(starts)})
        lane = asyncio.Semaphore(8)  # as many clips under way as an endpoint takes at once

        async def clip(start: int) -> int:
            async with lane:
                return len(await server(record, start, min(duration_ms, start + 30_000)))

        return sum(await asyncio.gather(*(clip(start) for start in starts)))

    begun = _cpu_seconds()
    num_pictures = asyncio.run(serve())
    cpu = _cpu_seconds() - begun
    own, child = (
        resource.getrusage(who).ru_maxrss / 1024
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return {
        "name": "hour_of_pictures",
        "video": f"{info.width} x {info.height}, {info.codec}, {info.duration_seconds:.0f} s",
        "num_clips": len(starts),
        "num_pictures": num_pictures,
        "cpu_seconds": round(cpu, 1),
        "hours_a_core_hour": round(info.duration_seconds / cpu, 1),
        "peak_rss_mib": round(own),
        "peak_rss_mib_largest_child": round(child),
    }


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def measure_kills() -> dict[str, Any]:
    test = "tests/integration/videomarathon/test_kills.py::test_twenty_kills_lose_nothing"
    command = [sys.executable, "-m", "pytest", "-m", "slow", "-q", "-s", test]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (line,) = [part for part in done.stdout.splitlines() if part.strip(".").startswith("{")]
    return {"name": "kills", "lost_rows": 0, **json.loads(line.strip("."))}


def measure_executors(folder: Path) -> dict[str, Any]:
    from hour_llava.world.timeline import make_timeline
    from hour_llava.world.video_file import write_video

    videos = folder / "executor videos"
    for number in range(3):
        place = videos / f"film {number}"
        place.mkdir(parents=True)
        timeline = make_timeline(240, 7 + number)
        write_video(timeline, place / "video.mp4", fps=2, width=320, height=180)
        if number == 0:
            (place / "truth.json").write_text(timeline.to_json())
    program = [sys.executable, "-m", "hour_llava.cli", "synth"]
    server = subprocess.Popen(
        [*program, "mock-server", "--latency-ms", "200"], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    url = server.stdout.readline().strip()
    seconds: dict[str, float] = {}
    releases: dict[str, dict[str, str]] = {}
    try:
        for name in ("local", "ray"):
            build = folder / name
            words = ["--captioner", url, "mock-captioner", "--llm", url, "mock-llm"]
            subprocess.run([*program, "init", build, "--source", videos, *words], check=True)
            begun = time.perf_counter()
            subprocess.run([*program, "run", build, "--executor", name], check=True)
            seconds[name] = round(time.perf_counter() - begun, 1)
            found = sorted((build / "release").glob("*/MANIFEST.sha256"))
            releases[name] = {file.parent.name: file.read_text() for file in found}
    finally:
        server.kill()
        server.communicate()
    assert releases["local"] == releases["ray"], "the releases differ"
    return {
        "name": "executors",
        "seconds_local": seconds["local"],
        "seconds_ray": seconds["ray"],
        "releases_with_identical_bytes": len(releases["ray"]),
        "calls": sum(spent.calls for spent in read_spent(folder / "local" / "calls").values()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=[*NAMES])
    parser.add_argument("--video", type=Path, help="a video of an hour; rendered without it")
    arguments = parser.parse_args()
    # The hour first: peak memory is that of the process so far.
    names = [arguments.only] if arguments.only else [*NAMES]
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        measures: dict[str, Callable[[], dict[str, Any]]] = {
            "hour": lambda: measure_hour(arguments.video or render_hour(folder), folder),
            "commits": lambda: measure_commits(folder),
            "scan": lambda: measure_scan(folder),
            "kills": measure_kills,
            "executors": lambda: measure_executors(folder),
        }
        results += [measures[name]() for name in names]
    keep_results(RESULTS, results, origin("zstandard", "pydantic", "av", "ray"), same=("name",))
    print(json.dumps(results, indent=2))


def render_hour(folder: Path) -> Path:
    from hour_llava.world.timeline import make_timeline
    from hour_llava.world.video_file import write_video

    path = folder / "hour.mp4"
    write_video(make_timeline(3600, 7), path, fps=6, width=640, height=360)
    return path


if __name__ == "__main__":
    main()
