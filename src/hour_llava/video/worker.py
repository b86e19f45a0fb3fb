"""The decoding child: `python -m hour_llava.video.worker REQUEST`, started by `isolation.py`.

It decodes what untrusted files hold, so that a crash or a hang ends this process and not the
user's. It ends with its parent: when the control pipe closes, or when it finds itself orphaned.
"""

from __future__ import annotations

import json
import mmap
import os
import queue
import select
import signal
import sys
import threading
import time
from dataclasses import asdict
from typing import Any

import numpy as np

from hour_llava import errors
from hour_llava.video.messages import NUM_SLOTS, Request, info_to_json

PROGRESS_SECONDS = 0.5
ORPHAN_CHECK_SECONDS = 1.0


class _Channel:
    """Lines to the parent; progress marks only as often as they say something."""

    def __init__(self) -> None:
        # Whatever a library prints must not get between the lines.
        self._fd = os.dup(1)
        os.dup2(2, 1)
        self._last = time.monotonic()

    def send(self, kind: str, **values: Any) -> None:
        line = json.dumps({"kind": kind, **values}).encode() + b"\n"
        while line:
            line = line[os.write(self._fd, line) :]
        self._last = time.monotonic()

    def progress(self, seconds: float) -> None:
        if time.monotonic() - self._last > PROGRESS_SECONDS:
            self.send("progress", seconds=seconds)


def main() -> None:
    """Serve one request, then end the process at once."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    free_slots: queue.SimpleQueue[int] = queue.SimpleQueue()
    for slot in range(NUM_SLOTS):
        free_slots.put(slot)
    threading.Thread(target=_watch_parent, args=(free_slots,), daemon=True).start()
    channel = _Channel()
    channel.send("progress", seconds=0.0)  # The library below takes its time on a busy machine.
    try:
        _serve(Request.from_json(sys.argv[1]), channel, free_slots)
    except errors.HourLlavaError as error:
        channel.send("error", error=type(error).__name__, text=str(error))
    except MemoryError:
        channel.send("error", error="ResourceError", text="out of memory while decoding")
    os._exit(0)  # No teardown: the parent has all it asked for.


def _serve(request: Request, channel: _Channel, free_slots: queue.SimpleQueue[int]) -> None:
    from hour_llava.video.decode import PlannedDecode

    video = PlannedDecode(
        request.path,
        request.sampling,
        first_index=request.first_index,
        threads=request.threads,
        report_progress=channel.progress,
    )
    height, width = video.info.height, video.info.width
    frame_bytes = height * width * 3
    if request.ring >= 0:
        os.ftruncate(request.ring, NUM_SLOTS * frame_bytes)
    channel.send("info", info=info_to_json(video.info), num_frames=video.num_frames)
    if request.ring < 0 or not video.num_frames:
        channel.send("done", damage=[asdict(span) for span in video.damage])
        return
    ring = np.frombuffer(mmap.mmap(request.ring, NUM_SLOTS * frame_bytes), np.uint8)
    slots = ring.reshape(NUM_SLOTS, height, width, 3)
    for frame in video.borrowed_frames():
        slot = free_slots.get()
        slots[slot] = frame.rgb
        channel.send(
            "frame",
            slot=slot,
            index=frame.index,
            tick_seconds=frame.tick_seconds,
            pts_seconds=frame.pts_seconds,
            is_damaged=frame.is_damaged,
        )
    channel.send("done", damage=[asdict(span) for span in video.damage])


def _watch_parent(free_slots: queue.SimpleQueue[int]) -> None:
    """Pass on the slots that come back; leave with the parent.

    A process that the parent forked may keep the pipe open, so being orphaned counts too.
    """
    parent = os.getppid()
    while os.getppid() == parent:
        readable, _, _ = select.select([0], [], [], ORPHAN_CHECK_SECONDS)
        if not readable:
            continue
        slots = os.read(0, NUM_SLOTS)
        if not slots:
            break
        for slot in slots:
            free_slots.put(slot)
    os._exit(0)


if __name__ == "__main__":
    main()
