"""The parent's side of decoding in a child: start it, watch it, take its frames, end it."""

from __future__ import annotations

import json
import mmap
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import psutil

from hour_llava import errors
from hour_llava.errors import BrokenVideoError, DecoderHungError, HourLlavaError
from hour_llava.schema import DamagedSpan, VideoInfo
from hour_llava.video.frame import Pixels, VideoFrame
from hour_llava.video.messages import (
    NUM_SLOTS,
    Request,
    damage_from_json,
    info_from_json,
)
from hour_llava.video.sampling import check_sampling

# -P: a file named numpy.py in the user's folder is not imported.
WORKER = (sys.executable, "-P", "-m", "hour_llava.video.worker")
READ_BYTES = 1 << 16
# On a crowded machine a healthy child may get next to no CPU: it is given this many times longer.
STARVED_PATIENCE = 6


class ChildDecode:
    """One decoding child; `info` and `num_frames` are known once it is made.

    Raises:
        VideoError: What the child says of the file; DecoderHungError if it falls silent for
            `timeout_seconds` while it is being waited for; BrokenVideoError if it crashes.
    """

    def __init__(
        self,
        request: Request,
        *,
        timeout_seconds: float,
        wants_frames: bool = True,
        worker: Sequence[str] = WORKER,
    ) -> None:
        check_sampling(request.sampling)
        self._name, self._timeout_seconds = request.path, timeout_seconds
        self._ring = _unnamed_file() if wants_frames else -1
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._buffer = b""
        self._doing, self._second = "reading its packets", 0.0
        self.damage: tuple[DamagedSpan, ...] = ()
        self._process = subprocess.Popen(
            [*worker, replace(request, ring=self._ring).to_json()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            bufsize=0,
            pass_fds=(self._ring,) if wants_frames else (),
            env=_environment(),
            start_new_session=True,  # Ctrl-C is the parent's to handle.
        )
        self._selector = selectors.DefaultSelector()
        try:
            assert self._process.stdin is not None and self._process.stdout is not None
            self._stdin, self._stdout = self._process.stdin.fileno(), self._process.stdout.fileno()
            self._selector.register(self._stdout, selectors.EVENT_READ)
            message = self._wait_for("info")
        except BaseException:
            self.close()
            raise
        self.info: VideoInfo = info_from_json(message["info"])
        self.num_frames: int = message["num_frames"]
        self.damage = self.info.damage

    def __enter__(self) -> ChildDecode:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def frames(self) -> Iterator[VideoFrame]:
        """Yield the child's frames, each with its own copy of the pixels."""
        slots: Pixels | None = None
        self._doing = "decoding"
        while (message := self._wait_for("frame", "done"))["kind"] == "frame":
            slots = self._map_slots() if slots is None else slots
            pixels = slots[message["slot"]].copy()
            self._release(message["slot"])
            self._second = message["tick_seconds"]
            yield VideoFrame(
                index=message["index"],
                tick_seconds=message["tick_seconds"],
                pts_seconds=message["pts_seconds"],
                rgb=pixels,
                is_damaged=message["is_damaged"],
            )
        self.damage = damage_from_json(message["damage"])

    def close(self) -> None:
        """End the child, whatever it does, and free what was shared with it."""
        if self._ring >= 0:
            os.close(self._ring)
            self._ring = -1
        if self._process.returncode is None:
            self._process.kill()
            self._process.wait()
        self._selector.close()
        for pipe in (self._process.stdin, self._process.stdout, self._stderr):
            if pipe is not None:
                pipe.close()

    def _map_slots(self) -> Pixels:
        height, width = self.info.height, self.info.width
        shared = mmap.mmap(self._ring, NUM_SLOTS * height * width * 3, access=mmap.ACCESS_READ)
        return np.frombuffer(shared, np.uint8).reshape(NUM_SLOTS, height, width, 3)

    def _release(self, slot: int) -> None:
        with suppress(BrokenPipeError):  # It is done, or dead: the next message tells.
            os.write(self._stdin, bytes([slot]))

    def _wait_for(self, *kinds: str) -> dict[str, Any]:
        """Read messages up to one of the kinds; progress marks only set the watchdog back."""
        while (message := self._read_message())["kind"] not in kinds:
            if message["kind"] == "error":
                error: type[HourLlavaError] = getattr(errors, message["error"])
                raise error(message["text"])
            self._second = message["seconds"]
        return message

    def _read_message(self) -> dict[str, Any]:
        """Read one line; what the child is doing is looked at only when it has been silent long."""
        begin = time.monotonic()
        half, patience = self._timeout_seconds / 2, self._timeout_seconds
        deadline = begin + half
        spent: float | None = None  # the child's CPU seconds when half of the timeout was over
        while b"\n" not in self._buffer:
            if self._selector.select(max(0.0, deadline - time.monotonic())):
                chunk = os.read(self._stdout, READ_BYTES)
                if not chunk:
                    raise self._crash()
                self._buffer += chunk
            elif spent is None:
                spent = cpu_seconds(self._process.pid)
                deadline = begin + patience
            elif patience < STARVED_PATIENCE * self._timeout_seconds and is_starved(
                self._process.pid, spent, patience - half
            ):
                patience += self._timeout_seconds
                deadline = begin + patience
            else:
                raise self._silence()
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)

    def _silence(self) -> DecoderHungError:
        return DecoderHungError(
            f"{self._name}: no frame and no progress for {self._timeout_seconds:g} s at "
            f"second {self._second:.1f} while {self._doing}; the decoder was stopped; "
            "re-encode the file or read it up to there"
        )

    def _crash(self) -> BrokenVideoError:
        code = self._process.wait()
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        why = f"signal {-code}" if code < 0 else (lines[-1] if lines else f"exit code {code}")
        remedy = "re-encode the file or read it up to there"
        if -code == signal.SIGKILL:
            remedy = "something else ended it, maybe for want of memory: close programs, try again"
        return BrokenVideoError(
            f"{self._name}: the decoder crashed at second {self._second:.1f} while "
            f"{self._doing} ({why}); {remedy}"
        )


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds that a process has used; 0 where it is gone."""
    with suppress(psutil.Error):
        times = psutil.Process(pid).cpu_times()
        return times.user + times.system
    return 0.0


def is_starved(pid: int, spent_before: float, waited_seconds: float) -> bool:
    """Say whether a process wants to run, and got less than half of a core while it was awaited.

    A decoder in an endless loop takes its core, and one that waits for ever does not want to run.
    """
    with suppress(psutil.Error):
        if psutil.Process(pid).status() == psutil.STATUS_RUNNING:
            return cpu_seconds(pid) - spent_before < 0.5 * waited_seconds
    return False


def _unnamed_file() -> int:
    """Open a file that lives in memory where the system can, and has no name anywhere."""
    if sys.platform == "linux":
        return os.memfd_create("hour_llava_frames")
    descriptor, name = tempfile.mkstemp()
    Path(name).unlink()
    return descriptor


def _environment() -> dict[str, str]:
    """Let the child import the very package that runs here, from wherever that was found."""
    root = str(Path(__file__).parents[2])
    path = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{path}" if path else root}
