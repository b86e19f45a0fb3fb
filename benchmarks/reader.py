"""The 1-FPS reader against full decodes: CPU seconds of whole process trees, side by side.

The file: 10 minutes of 720p30 H.264, moving content, every frame a bar code of its number: 40 s
written by `make_video` below as by `ffmpeg -c:v libx264 -preset veryfast -bf 3 -g 250`, their
packets fifteen times over (an hour: ninety times). Every arm is a fresh process; its CPU seconds
are user and system of itself and of all processes it started, start-up included. `ffmpeg` decodes
on one thread and throws away; the other arms give RGB of one frame a second. The bar codes and
times are checked once for `ours`.

    python benchmarks/reader.py --runs 3 --arms "ffmpeg, null, 1 thread" ours
    python benchmarks/reader.py --seconds 120 --hour ours
    PYTHONPATH=folder_with_cv2_and_decord python benchmarks/reader.py      # also OpenCV and decord
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import av
import numpy as np

from record import origin

RESULTS = Path(__file__).parent / "results" / "reader.json"
WIDTH, HEIGHT, FPS, NUM_BITS = 1280, 720, 30, 16
CLIP_SECONDS = 40
OPTIONS = {"preset": "veryfast", "bf": "3", "g": "250"}
TARGET_RATIO, TARGET_CHILD_MB = 0.7, 150


def make_video(path: Path, seconds: int) -> None:
    """Write scenes of eight seconds: two textures sliding over each other, noise, a bar code."""
    rng = np.random.default_rng(0)
    textures = [smooth_noise(rng, 2048) for _ in range(2)]
    noise = rng.integers(0, 14, (HEIGHT, WIDTH), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options=OPTIONS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(seconds * FPS):
            frame = av.VideoFrame.from_ndarray(draw(number, textures, noise), format="yuv420p")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def smooth_noise(rng: np.random.Generator, size: int) -> np.ndarray:
    small = rng.integers(30, 220, (size // 16, size // 16)).astype(np.float32)
    large = np.kron(small, np.ones((16, 16), np.float32))
    for axis in (0, 1):
        large = sum(np.roll(large, shift, axis) for shift in range(-12, 13, 4)) / 7
    return large.astype(np.uint8)


def draw(number: int, textures: list[np.ndarray], noise: np.ndarray) -> np.ndarray:
    scene, t = divmod(number, 8 * FPS)
    back = window(textures[scene % 2], 3 * t + 97 * scene, t + 41 * scene, HEIGHT, WIDTH)
    picture = np.full((HEIGHT * 3 // 2, WIDTH), 128, np.uint8)
    luma = picture[:HEIGHT]
    luma[:] = back + np.roll(noise, number * 131)
    front = window(textures[1 - scene % 2], 5 * t, 0, 200, 300)
    left, top = (7 * t + 50 * scene) % (WIDTH - 300), 300 + (4 * t) % (HEIGHT - 520)
    luma[top : top + 200, left : left + 300] = front
    picture[HEIGHT : HEIGHT + HEIGHT // 4] = 90 + 20 * (scene % 5)
    for bit in range(NUM_BITS):
        luma[:64, 80 * bit : 80 * bit + 80] = 235 if number >> bit & 1 else 16
    return picture


def window(texture: np.ndarray, x: int, y: int, height: int, width: int) -> np.ndarray:
    """Cut a window that bounces within the texture."""
    span_x, span_y = texture.shape[1] - width, texture.shape[0] - height
    x, y = abs(x % (2 * span_x) - span_x), abs(y % (2 * span_y) - span_y)
    return texture[y : y + height, x : x + width]


def repeat_packets(source: Path, target: Path, times: int) -> None:
    """Concatenate a file with itself without encoding it again."""
    with av.open(str(target), "w") as new:
        stream = None
        for number in range(times):
            with av.open(str(source)) as old:
                template = old.streams.video[0]
                stream = stream or new.add_stream_from_template(template)
                length = template.duration
                for packet in old.demux(template):
                    if packet.dts is not None:
                        packet.pts += number * length
                        packet.dts += number * length
                        packet.stream = stream
                        new.mux(packet)


def read_code(rgb: np.ndarray) -> int:
    centres = [80 * bit + 40 for bit in range(NUM_BITS)]
    return sum(1 << bit for bit, x in enumerate(centres) if rgb[32, x].mean() > 128)


def ours(
    path: str, *, fps: float = 1.0, threads: int | None = None, isolated: bool = True
) -> dict[str, Any]:
    from hour_llava.video import read_frames

    with read_frames(path, fps=fps, threads=threads, isolated=isolated) as reader:
        count = sum(1 for _ in reader)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"frames": count, "child_mb": children.ru_maxrss / 1024}


def pyav(path: str) -> dict[str, Any]:
    """Decode everything, convert the first frame of every second."""
    count = 0
    with av.open(path) as container:
        container.streams.video[0].thread_type = "AUTO"
        for frame in container.decode(video=0):
            if frame.time >= count:
                frame.to_ndarray(format="rgb24")
                count += 1
    return {"frames": count}


def opencv(path: str) -> dict[str, Any]:
    import cv2

    capture, count, number = cv2.VideoCapture(path), 0, 0
    while capture.grab():
        if number % FPS == 0:
            cv2.cvtColor(capture.retrieve()[1], cv2.COLOR_BGR2RGB)
            count += 1
        number += 1
    return {"frames": count}


def decord(path: str) -> dict[str, Any]:
    import decord as library

    reader, count = library.VideoReader(path), 0
    for number in range(0, len(reader), FPS):
        reader[number].asnumpy()
        count += 1
    return {"frames": count}


ARMS = {
    "ours": ours,
    "ours, 1 a minute": lambda path: ours(path, fps=1 / 60),
    "ours, 1 thread": lambda path: ours(path, threads=1),
    "ours, in process": lambda path: ours(path, isolated=False),
    "pyav, decode all": pyav,
    "opencv": opencv,
    "decord": decord,
}


def measure(command: list[str]) -> tuple[float, float, dict[str, Any]]:
    """Run a process; returns CPU seconds of its tree, seconds on the clock, and what it printed."""
    started = time.perf_counter()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.PIPE)
        errors = process.stderr.read() if process.stderr else b""
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        printed = output.read()
    if process.returncode:
        raise RuntimeError(f"{command}: {errors.decode(errors='replace')[-500:]}")
    seconds = time.perf_counter() - started
    return usage.ru_utime + usage.ru_stime, seconds, json.loads(printed or b"{}")


def command_of(arm: str, path: Path) -> list[str]:
    if arm == "ffmpeg, null, 1 thread":
        quiet = ["-nostdin", "-v", "error"]
        return ["ffmpeg", *quiet, "-threads", "1", "-i", str(path), "-f", "null", "-"]
    return [sys.executable, __file__, "--arm", arm, "--video", str(path)]


def check_frames(path: Path, fps: float = 1.0) -> dict[str, int]:
    """Count wrong frames and wrong times of the default reader."""
    from hour_llava.video import read_frames

    wrong_frames = wrong_times = 0
    with read_frames(path, fps=fps) as reader:
        for frame in reader:
            second = round(frame.tick_seconds)
            wrong_frames += read_code(frame.rgb) != second % CLIP_SECONDS * FPS
            wrong_times += abs(frame.pts_seconds - second) > 1e-9 or frame.is_damaged
        return {
            "frames": reader.num_frames,
            "wrong_frames": wrong_frames,
            "wrong_times": wrong_times,
        }


def available_arms() -> list[str]:
    modules = {"opencv": "cv2", "decord": "decord"}
    arms = ["ffmpeg, null, 1 thread"] if shutil.which("ffmpeg") else []
    return arms + [a for a in ARMS if importlib.util.find_spec(modules.get(a, "av")) is not None]


def compare(path: Path, arms: list[str], runs: int) -> dict[str, Any]:
    samples: dict[str, list[tuple[float, float, dict[str, Any]]]] = {arm: [] for arm in arms}
    for _ in range(runs):
        for arm in arms:
            samples[arm].append(measure(command_of(arm, path)))
            print(f"{arm}: {samples[arm][-1][0]:.2f} CPU s", file=sys.stderr, flush=True)
    medians = {arm: statistics.median(s[0] for s in samples[arm]) for arm in arms}
    base = medians[arms[0]]  # ffmpeg, where it is installed
    return {
        arm: {
            "cpu_seconds": [round(s[0], 3) for s in samples[arm]],
            "median_cpu_seconds": round(medians[arm], 3),
            "ratio_to_ffmpeg": round(medians[arm] / base, 3),
            "wall_seconds": [round(s[1], 2) for s in samples[arm]],
            **samples[arm][-1][2],
        }
        for arm in arms
    }


def ffmpeg_version() -> str:
    version = subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True, check=False)
    return version.stdout.split("\n")[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=600, help="length of the file compared")
    parser.add_argument("--arms", nargs="+", help="all there are by default")
    parser.add_argument("--hour", choices=["ours", "ours, 1 a minute"], help="also an hour, once")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--arm", choices=list(ARMS), help=argparse.SUPPRESS)
    parser.add_argument("--video", help="a file of this script's, instead of writing one")
    options = parser.parse_args()
    if options.arm:
        print(json.dumps(ARMS[options.arm](options.video)))
        return
    clip = options.folder / "reader_clip.mp4"
    path = options.folder / f"reader_{options.seconds}.mp4"
    if not clip.exists():
        make_video(clip.with_suffix(".partial.mp4"), CLIP_SECONDS)
        clip.with_suffix(".partial.mp4").rename(clip)
    repeat_packets(clip, path, options.seconds // CLIP_SECONDS)
    result: dict[str, Any] = {
        **origin("av", "numpy"),
        "ffmpeg_cli": ffmpeg_version() if shutil.which("ffmpeg") else "",
        "file": {"bytes": path.stat().st_size, "seconds": options.seconds, "x264": OPTIONS},
        "targets": {"ratio_to_ffmpeg": TARGET_RATIO, "child_mb_of_an_hour": TARGET_CHILD_MB},
        "frames": check_frames(path),
        "arms": compare(path, options.arms or available_arms(), options.runs),
    }
    if options.hour:
        hour = options.folder / "reader_hour.mp4"
        repeat_packets(clip, hour, 3600 // CLIP_SECONDS)
        cpu, wall, printed = measure(command_of(options.hour, hour))
        result["hour"] = {
            "arm": options.hour,
            "cpu_seconds": round(cpu, 2),
            "wall_seconds": round(wall, 1),
            **printed,
            **check_frames(hour, 1.0 if options.hour == "ours" else 1 / 60),
        }
        hour.unlink()
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    known[f"{options.seconds} s" + (" and an hour" if options.hour else "")] = result
    RESULTS.write_text(json.dumps(known, indent=2) + "\n")
    for arm, values in result["arms"].items():
        print(f"{arm:<24}{values['median_cpu_seconds']:>8} s  {values['ratio_to_ffmpeg']}")
    print({name: result.get(name) for name in ("frames", "hour")})


if __name__ == "__main__":
    main()
