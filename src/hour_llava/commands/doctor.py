"""`hour-llava doctor`: say in one screen what works on this machine, by trying it."""

from __future__ import annotations

import json as json_format
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hour_llava.commands.progress import readable_bytes

if TYPE_CHECKING:
    from hour_llava.world.timeline import Timeline

Status = Literal["ok", "note", "fail"]

# distribution -> the first version that works, the first that is not known to
_VERSIONS = {
    "torch": ((2, 11), None),
    "transformers": ((5, 17), (6,)),
    "av": ((15,), None),
    "numpy": ((1, 26), None),
    "safetensors": ((0, 5), None),
}
_CODECS = ("h264", "hevc", "vp9", "av1", "mpeg4", "vp8", "mpeg2video")
_MARKS = {"ok": "ok  ", "note": "note", "fail": "FAIL"}
_BYTES_OF_3B = 7.5e9  # bf16 weights, one hour's memory, room to work
_GOLDEN_FILE, _GOLDEN_TOLERANCE = "selftest.safetensors", 1e-5
_SECONDS, _SEED = 60, 11


@dataclass(frozen=True, kw_only=True)
class Check:
    """One line of the screen."""

    name: str
    status: Status
    detail: str


def doctor(*, json: bool = False) -> int:
    """Try every part on this machine and say what works; exit 1 when something is broken.

    Args:
        json: print one JSON object
    """
    checks: list[Check] = []
    for name, run in _CHECKS.items():
        try:
            status, detail = run()
        except Exception as error:
            status, detail = "fail", f"{type(error).__name__}: {' '.join(str(error).split())}"
        checks.append(Check(name=name, status=status, detail=detail))
        if not json:
            print(f"{_MARKS[status]}  {name:<16} {detail}", flush=True)
    is_broken = any(check.status == "fail" for check in checks)
    if json:
        print(json_format.dumps({"ok": not is_broken, "checks": [asdict(c) for c in checks]}))
    return 1 if is_broken else 0


def _python() -> tuple[Status, str]:
    found = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    return "ok" if sys.version_info >= (3, 11) else "fail", found


def _versions() -> tuple[Status, str]:
    parts, status = [f"hour-llava {metadata.version('hour-llava')}"], "ok"
    for name, (first, beyond) in _VERSIONS.items():
        version = metadata.version(name)
        parts.append(f"{name} {version}")
        release = tuple(
            int(part) for part in version.split("+")[0].split(".")[:2] if part.isdigit()
        )
        if release < first or (beyond and release >= beyond):
            status = "fail"
            parts[-1] += f" (needs {'.'.join(map(str, first))} or later" + (
                f", below {beyond[0]})" if beyond else ")"
            )
    return status, ", ".join(parts)  # pyright: ignore[reportReturnType]


def _devices() -> tuple[Status, str]:
    import torch

    names = [f"cpu with {os.cpu_count()} cores ({torch.get_num_threads()} threads)"]
    for index in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(index)
        names.append(f"cuda:{index} {device.name}, {readable_bytes(device.total_memory)}")
    if torch.backends.mps.is_available():
        names.append("mps")
    return "ok", "; ".join(names)


def _codecs() -> tuple[Status, str]:
    import av

    missing = [name for name in _CODECS if not _can_decode(av, name)]
    ffmpeg = ".".join(map(str, av.library_versions["libavcodec"]))
    detail = f"{', '.join(n for n in _CODECS if n not in missing)} (libavcodec {ffmpeg})"
    if "h264" in missing:
        return "fail", f"no H.264 decoder; reinstall av. Found: {detail}"
    return ("note", f"{detail}; missing: {', '.join(missing)}") if missing else ("ok", detail)


def _can_decode(av: object, name: str) -> bool:
    try:
        av.Codec(name, "r")  # pyright: ignore[reportAttributeAccessIssue]
    except ValueError:  # av.codec.codec.UnknownCodecError
        return False
    return True


def _memory() -> tuple[Status, str]:
    import psutil

    memory = psutil.virtual_memory()
    detail = f"{readable_bytes(memory.available)} free of {readable_bytes(memory.total)}"
    if memory.available > _BYTES_OF_3B:
        return "ok", f"{detail}: room for nano and for a 3B model"
    return "note", f"{detail}: nano fits, a 3B model needs {readable_bytes(_BYTES_OF_3B)}"


def _cache() -> tuple[Status, str]:
    from hour_llava.session.cache import cache_folder, prepare_folder

    folder = cache_folder()
    prepare_folder(folder)
    with tempfile.TemporaryFile(dir=folder) as probe:
        probe.write(b"hour-llava")
    files = list(folder.glob("*.hlm"))
    used, free = sum(file.stat().st_size for file in files), shutil.disk_usage(folder).free
    detail = f"{folder}: {len(files)} memories, {readable_bytes(used)}; {readable_bytes(free)} free"
    return ("ok", detail) if free > 1e9 else ("note", f"{detail} (an hour at 3B takes 531 MB)")


def _golden() -> tuple[Status, str]:
    """Run one MemAug block whose output the released code computed."""
    import torch
    from safetensors.torch import load_file

    from hour_llava.memory import MemAug, MemoryTokens

    with resources.as_file(resources.files("hour_llava.commands") / _GOLDEN_FILE) as file:
        case = load_file(file)
    sizes = {key: int(case.pop(key)) for key in ("num_heads", "num_key_value_heads")}
    theta = float(case.pop("rope_theta"))
    queries, memory = case.pop("queries"), case.pop("memory")
    query_positions, memory_positions = case.pop("query_positions"), case.pop("memory_positions")
    expected = case.pop("output")
    block = MemAug(hidden_size=queries.shape[-1], num_layers=1, rope_theta=theta, **sizes)
    block.load_state_dict(case)
    with torch.inference_mode():
        output = block(
            queries,
            lengths=[len(queries)],
            positions_N=query_positions,
            memories=[MemoryTokens(tokens_MD=memory, positions_M=memory_positions)],
            memory_index=[0],
        )
    error = float((output - expected).abs().max())
    detail = f"MemAug differs by {error:.1e} from the released code (at most {_GOLDEN_TOLERANCE})"
    return ("ok", detail) if error <= _GOLDEN_TOLERANCE else ("fail", detail)


def _reader() -> tuple[Status, str]:
    from hour_llava.video import read_frames

    with _small_video() as path, read_frames(path) as reader:
        times = [frame.tick_seconds for frame in reader]
        seconds, damage = reader.info.duration_seconds, reader.damage
    if times != [float(second) for second in range(round(seconds))] or damage:
        return "fail", f"{len(times)} frames of a {seconds:.1f} s video, damage: {list(damage)}"
    return "ok", f"{len(times)} frames of a {seconds:.0f} s H.264 file, decoded in a child process"


def _nano() -> tuple[Status, str]:
    from hour_llava.commands.loading import load_quietly
    from hour_llava.world.questions import FAMILIES, make_questions

    assistant = load_quietly("nano", device="cpu")
    with _small_video() as path:
        memory = assistant.remember(path, use_cache=False)
    questions = make_questions(
        _small_timeline(), _SEED, per_family=1, formats=("oe",), families=FAMILIES
    )
    given = [assistant.ask(memory, question.question).best_guess for question in questions]
    num_right = sum(a == q.answer for a, q in zip(given, questions, strict=True))
    detail = f"{num_right} of {len(questions)} questions about a rendered minute answered rightly"
    return ("ok" if num_right > len(questions) / 2 else "fail"), detail


def _small_timeline() -> Timeline:
    from hour_llava.world.timeline import make_timeline

    return make_timeline(_SECONDS, _SEED)


@contextmanager
def _small_video() -> Iterator[Path]:
    from hour_llava.world.video_file import write_video

    with tempfile.TemporaryDirectory(prefix="hour-llava-") as folder:
        path = Path(folder) / "minute.mp4"
        write_video(_small_timeline(), path)
        yield path


_CHECKS: dict[str, Callable[[], tuple[Status, str]]] = {
    "python": _python,
    "versions": _versions,
    "devices": _devices,
    "codecs": _codecs,
    "memory": _memory,
    "cache": _cache,
    "golden self-test": _golden,
    "reader": _reader,
    "nano": _nano,
}
