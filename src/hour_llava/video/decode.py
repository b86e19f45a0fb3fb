"""Planned decode in this process: the frames of the ticks, in order, in constant memory.

Every packet is fed with its number in the place of its time, and the decoder hands that number
on with the frame: so a frame is matched with its packet exactly, whatever the container says.
Frames are counted by rank: their place in presentation order.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import TypeAlias

import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame as DecodedFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from hour_llava.errors import BrokenVideoError, VideoError
from hour_llava.schema import DamagedSpan, Sampling, VideoInfo
from hour_llava.video.container import check_path, open_video
from hour_llava.video.frame import Pixels, VideoFrame
from hour_llava.video.packets import ReportProgress, survey
from hour_llava.video.plan import DecodePlan, entry_packet, next_entry, plan_packets
from hour_llava.video.sampling import check_sampling, frames_at_ticks, make_ticks

PROGRESS_PACKETS = 64
MAX_REORDERED_FRAMES = 16


_Ranked: TypeAlias = tuple[int, DecodedFrame]  # a frame with its place in presentation order


class _Run:
    """The state of one pass of a decoder over planned packets."""

    def __init__(self, stream: VideoStream, threads: int, outputs: Iterator[int]) -> None:
        self.stream = stream
        self.outputs = outputs  # numbers of the frames by order, for containers without times
        self.in_flight: deque[int] = deque([0], maxlen=max(1, threads))
        self.expected: list[int] = []  # a heap of ranks
        self.entries: set[int] = set()  # key packets before which packets were left out


class PlannedDecode:
    """Reads one video: surveys its packets when made, decodes what is wanted when iterated."""

    def __init__(
        self,
        path: str,
        sampling: Sampling,
        *,
        first_index: int = 0,
        threads: int | None = None,
        report_progress: ReportProgress = lambda seconds: None,
    ) -> None:
        check_sampling(sampling)
        if first_index < 0:
            raise VideoError(f"first_index is {first_index}; choose a tick from 0 on")
        self._name = check_path(path)
        self._threads = threads or 0
        self._report_progress = report_progress
        self._survey = survey(self._name, report_progress)
        self._table = table = self._survey.table
        self._number_of_rank = table.presentation_order()
        self._rank_of_number = np.full(len(table), -1, np.int64)
        self._rank_of_number[self._number_of_rank] = np.arange(len(self._number_of_rank))
        numbers_N = np.where(table.is_key_N, np.arange(len(table)), -1)
        self._key_of_number = np.maximum.accumulate(numbers_N)
        self._ticks = make_ticks(
            sampling,
            last_seconds=table.seconds(int(self._number_of_rank[-1])),
            duration_seconds=self._survey.duration_seconds,
        )
        self._rank_of_tick = frames_at_ticks(
            self._ticks,
            table.pts_N[self._number_of_rank].tolist(),
            first_pts=table.first_pts,
            time_base=table.time_base,
        )
        self._first_index = min(first_index, self._ticks.count)
        self._log = self._survey.log
        self._reformatter = VideoReformatter()

    @property
    def info(self) -> VideoInfo:
        return self._survey.info

    @property
    def num_frames(self) -> int:
        return self._ticks.count - self._first_index

    @property
    def damage(self) -> tuple[DamagedSpan, ...]:
        return self._log.spans()

    def close(self) -> None:
        """Nothing to free: the file is open only while `borrowed_frames` runs."""

    def frames(self) -> Iterator[VideoFrame]:
        """Yield every tick from `first_index` on, with pixels of its own."""
        for frame in self.borrowed_frames():
            yield replace(frame, rgb=frame.rgb.copy())

    def borrowed_frames(self) -> Iterator[VideoFrame]:
        """Yield every tick once; `rgb` must be copied before the next frame is asked for.

        Raises:
            BrokenVideoError: Not one frame could be decoded.
        """
        wanted = [self._number_of_tick(i) for i in range(self._first_index, self._ticks.count)]
        if not wanted:
            return
        plan = plan_packets(self._table, wanted)
        index = self._first_index
        last: _Ranked | None = None
        for rank, frame in self._settled(plan):
            last = rank, frame
            while index < self._ticks.count and self._rank_of_tick[index] < rank:
                # The wanted frame did not come out: redo its GOP without skipping anything.
                for rescued in self._rescue(index, (rank, frame)):
                    yield rescued
                    index += 1
            if index < self._ticks.count and self._rank_of_tick[index] == rank:
                rgb = self._to_rgb(frame)
                while index < self._ticks.count and self._rank_of_tick[index] == rank:
                    yield self._tick(index, rank, rgb)
                    index += 1
            if index == self._ticks.count:
                return
        while index < self._ticks.count:
            for rescued in self._rescue(index, last):
                yield rescued
                index += 1

    def _number_of_tick(self, index: int) -> int:
        return int(self._number_of_rank[self._rank_of_tick[index]])

    def _tick(self, index: int, rank: int, rgb: Pixels) -> VideoFrame:
        number, wanted = int(self._number_of_rank[rank]), self._number_of_tick(index)
        if number != wanted:
            self._log.add(wanted, "frames cannot be decoded; the nearest one is shown")
        is_damaged = number != wanted or self._log.touches(number)
        return VideoFrame(
            index=index,
            tick_seconds=float(self._ticks.seconds(index)),
            pts_seconds=float(self._table.seconds(number)),
            rgb=rgb,
            is_damaged=is_damaged,
        )

    def _rescue(self, index: int, after: _Ranked | None) -> Iterator[VideoFrame]:
        """Decode one GOP in full, for its ticks from `index` on.

        A tick whose own frame does not decode shows the last one before it that does, and at the
        start of the video the first one after it.
        """
        first, end = self._gop(self._number_of_tick(index))
        stop = index + 1
        while stop < self._ticks.count and first <= self._number_of_tick(stop) < end:
            stop += 1
        best: _Ranked | None = None
        for rank, frame in self._decode_all(first, end):
            while index < stop and self._rank_of_tick[index] < rank:
                best = best or self._last_before(first) or (rank, frame)
                yield self._tick(index, best[0], self._to_rgb(best[1]))
                index += 1
            if index == stop:
                return
            best = rank, frame
        best = best or self._last_before(first) or after
        if best is None:
            raise BrokenVideoError(
                f"{self._name}: no frame can be decoded around second "
                f"{float(self._ticks.seconds(index)):.1f}; copy it again"
            )
        for missed in range(index, stop):
            yield self._tick(missed, best[0], self._to_rgb(best[1]))

    def _last_before(self, end: int) -> _Ranked | None:
        """Find the last frame that decodes of the packets before `end`, GOP by GOP."""
        while end > 0:
            first, _ = self._gop(end - 1)
            frames = deque(self._decode_all(first, end), maxlen=1)
            if frames:
                return frames[0]
            end = first
        return None

    def _gop(self, number: int) -> tuple[int, int]:
        """Give the packets that belong together with one: the first, and the one after them."""
        keys_K = np.flatnonzero(self._table.is_key_N)
        return entry_packet(self._table, keys_K, number), next_entry(self._table, number)

    def _decode_all(self, first: int, end: int) -> Iterator[_Ranked]:
        """Decode packets alone; of streams without times none, for frames are told by counting."""
        if not self._table.has_own_times:
            return iter(())
        keep_N = np.zeros(len(self._table), np.bool_)
        keep_N[first:end] = True
        return self._decode(DecodePlan(keep_N=keep_N, wanted_N=keep_N), 1)

    def _settled(self, plan: DecodePlan) -> Iterator[_Ranked]:
        """Yield the wanted frames, each once the pictures it may refer to are known to be sound.

        A lost picture shows when a later one comes out, which may be after frames that refer to
        it; the standards let at most 16 frames come out in between.
        """
        held: deque[tuple[int, int, DecodedFrame]] = deque()
        for count, (rank, frame) in enumerate(self._decode(plan, self._threads)):
            number = int(self._number_of_rank[rank])
            if plan.wanted_N[number]:
                held.append((count, rank, frame))
            while held and (
                count - held[0][0] >= MAX_REORDERED_FRAMES
                or self._key_of_number[number] > self._number_of_rank[held[0][1]]
            ):
                yield held.popleft()[1:]
        for _, rank, frame in held:
            yield rank, frame

    def _decode(self, plan: DecodePlan, threads: int) -> Iterator[_Ranked]:
        """Feed the planned packets and yield the presented frames with their ranks."""
        start = self._seekable_start(plan.first)
        with open_video(self._name) as (container, stream):
            context = stream.codec_context
            context.thread_type = "AUTO"
            context.thread_count = threads
            context.open(strict=False)
            run = _Run(stream, context.thread_count, self._outputs())
            previous, last_skip = -1, ""
            for number, packet in self._packets(container, stream, start, plan):
                if self._table.is_key_N[number] and number != previous + 1:
                    run.entries.add(number)
                    if previous >= 0 and self._table.needs_flush_N[number]:
                        yield from self._feed(run, None)
                        context.flush_buffers()
                skip = "DEFAULT" if plan.wanted_N[number] else "NONREF"
                if skip != last_skip:
                    context.skip_frame = last_skip = skip
                packet.pts = previous = number
                self._expect(run, plan, number)
                yield from self._feed(run, packet)
            yield from self._feed(run, None)
            self._miss(run, len(self._number_of_rank))

    def _outputs(self) -> Iterator[int]:
        """Number the frames as they come out, for containers without times."""
        return (int(number) for number in self._number_of_rank)

    def _feed(self, run: _Run, packet: Packet[VideoStream] | None) -> Iterator[_Ranked]:
        """Decode one packet; an error may stem from any of the packets in flight."""
        if packet is not None:
            run.in_flight.append(packet.pts or 0)
        try:
            frames = run.stream.codec_context.decode(packet)  # pyright: ignore[reportUnknownMemberType]
        except FFmpegError as error:
            self._log.add(run.in_flight[0], f"decoder: {error.strerror}")
            return
        for frame in frames:
            number = frame.pts if self._table.has_own_times else next(run.outputs, None)
            if number is None:
                continue
            if frame.is_corrupt and not self._is_broken_lead(run, number):
                self._log.add(number, "decoder: frames with errors")
            rank = int(self._rank_of_number[number])
            if rank >= 0:
                self._miss(run, rank)
                yield rank, frame

    def _expect(self, run: _Run, plan: DecodePlan, number: int) -> None:
        """Note the rank of a packet that must give a frame.

        NONREF may skip others silently.
        """
        table, rank = self._table, int(self._rank_of_number[number])
        is_certain = table.is_reference_N is not None or plan.wanted_N[number]
        is_counted = rank >= 0 and table.has_own_times and is_certain
        if is_counted and not self._is_broken_lead(run, number):
            heapq.heappush(run.expected, rank)

    def _is_broken_lead(self, run: _Run, number: int) -> bool:
        """Tell whether a frame leads a key frame and refers to what was left out before that."""
        key = int(self._key_of_number[number])
        return key in run.entries and bool(self._table.pts_N[number] < self._table.pts_N[key])

    def _miss(self, run: _Run, rank: int) -> None:
        """Record the packets whose frames should have come out before the one of this rank."""
        while run.expected and run.expected[0] <= rank:
            missed = heapq.heappop(run.expected)
            if missed < rank:
                self._log.add(int(self._number_of_rank[missed]), "decoder: lost frames")

    def _packets(
        self, container: InputContainer, stream: VideoStream, start: int, plan: DecodePlan
    ) -> Iterator[tuple[int, Packet[VideoStream]]]:
        """Yield the planned packets with their numbers, reading on from packet `start`."""
        if start:
            container.seek(int(self._table.pts_N[plan.first]), stream=stream)
        number = start - 1
        last = plan.last
        try:
            for packet in container.demux(stream):
                if not packet.size:
                    continue
                number += 1
                if number > last:
                    return
                if number % PROGRESS_PACKETS == 0:
                    self._report_progress(float(self._table.seconds(number)))
                if plan.keep_N[number]:
                    yield number, packet
        except FFmpegError:
            return  # The survey met the same error and reported it.

    def _seekable_start(self, first: int) -> int:
        """Find the number of the packet where seeking to packet `first` lands.

        Returns:
            0, which means reading from the start, where it lands too late or nowhere known.
        """
        if first == 0:
            return 0
        table = self._table
        with open_video(self._name) as (container, stream):
            try:
                container.seek(int(table.pts_N[first]), stream=stream)
                packet = next(iter(container.demux(stream)))
            except (FFmpegError, StopIteration):
                return 0
        is_same_N = (
            (table.pts_N == packet.pts)
            & (table.dts_N == packet.dts)
            & (table.size_N == packet.size)
            & (table.pos_N == (-1 if packet.pos is None else packet.pos))
        )
        landings = np.flatnonzero(is_same_N)
        return int(landings[0]) if len(landings) == 1 and landings[0] <= first else 0

    def _to_rgb(self, frame: DecodedFrame) -> Pixels:
        """Convert to RGB at the size of the first frame, turned to be looked at."""
        width, height = self._survey.stored_width, self._survey.stored_height
        rgb = self._reformatter.reformat(
            frame, width=width, height=height, format="rgb24", threads=1
        )
        plane = rgb.planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(height, plane.line_size)
        pixels = rows[:, : 3 * width].reshape(height, width, 3)
        return self._survey.orientation.apply(pixels)
