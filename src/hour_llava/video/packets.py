"""The demux pass: every packet of the video stream, the first decoded frame, and a digest.

Nothing but the first frame is decoded: an hour costs a few CPU seconds. N counts packets.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from hour_llava.errors import BrokenVideoError
from hour_llava.schema import DamagedSpan, VideoInfo
from hour_llava.video.container import num_missing_bytes, open_video
from hour_llava.video.damage import DamageLog
from hour_llava.video.nal_units import Entry, NalUnits
from hour_llava.video.orientation import Orientation
from hour_llava.video.plan import Flags, Ints, PacketTable

ReportProgress = Callable[[float], None]
PROGRESS_PACKETS = 256
NO_TIME = int(np.iinfo(np.int64).min)
NAL_CODECS = ("h264", "hevc")
VP8_IS_SHOWN = 0x10
# Gaps between frames may differ by this much where a container rounds times to milliseconds.
REGULAR_SECONDS = Fraction(25, 10_000)
# With a larger share of longer gaps between frames a stream is of variable rate, not full of holes.
MAX_HOLES = 0.2
RAW_FORMATS = frozenset({"h264", "hevc", "vvc", "m4v", "mpegvideo", "vc1", "cavsvideo", "h263"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Survey:
    """What the demux pass found: the record for users, and what decoding needs."""

    info: VideoInfo
    table: PacketTable
    orientation: Orientation
    duration_seconds: Fraction
    log: DamageLog
    stored_width: int
    stored_height: int


def survey(name: str, report_progress: ReportProgress) -> Survey:
    """Read every packet of a checked path once.

    Raises:
        VideoError: As `open_video`; BrokenVideoError if nothing decodes.

    Cost: about 45 µs of CPU a packet.
    """
    with open_video(name) as (container, stream):
        scan = _Scan(name, container, stream)
        scan.read(report_progress)
        return scan.result()


def _numbers() -> array[int]:
    """Make a list of integers of 8 bytes each: a day of video has 2.6 million packets."""
    return array("q")


@dataclass(slots=True)
class _Columns:
    """The packet table while it grows."""

    pts: array[int] = field(default_factory=_numbers)
    dts: array[int] = field(default_factory=_numbers)
    pos: array[int] = field(default_factory=_numbers)
    size: array[int] = field(default_factory=_numbers)
    duration: array[int] = field(default_factory=_numbers)
    is_key: list[bool] = field(default_factory=list[bool])
    is_discarded: list[bool] = field(default_factory=list[bool])
    needs_flush: list[bool] = field(default_factory=list[bool])
    layer: list[int | None] = field(default_factory=list[int | None])
    corrupt: list[int] = field(default_factory=list[int])
    invalid: list[int] = field(default_factory=list[int])

    def add(self, packet: Packet[VideoStream]) -> None:
        self.pts.append(NO_TIME if packet.pts is None else packet.pts)
        self.dts.append(NO_TIME if packet.dts is None else packet.dts)
        self.pos.append(-1 if packet.pos is None else packet.pos)
        self.size.append(packet.size)
        self.duration.append(packet.duration or 0)
        self.is_key.append(packet.is_keyframe)
        self.is_discarded.append(packet.is_discard)
        if packet.is_corrupt:
            self.corrupt.append(len(self.pts) - 1)


class _Scan:
    """One pass over the packets of one stream."""

    def __init__(self, name: str, container: InputContainer, stream: VideoStream) -> None:
        self.name, self.container, self.stream = name, container, stream
        if stream.time_base is None:
            raise BrokenVideoError(f"{name} has no time base for its video; remux it")
        self.time_base = stream.time_base
        self.context: VideoCodecContext = stream.codec_context
        self.context.thread_count = 1
        self.columns = _Columns()
        self.hash = hashlib.sha256(self.context.extradata or b"")
        self.first_frame: VideoFrame | None = None
        self.read_error: str | None = None

    def read(self, report_progress: ReportProgress) -> None:
        """Fill the columns, the digest and the first frame."""
        columns, codec = self.columns, self.stream.codec.canonical_name
        units = NalUnits(codec, self.context.extradata or b"") if codec in NAL_CODECS else None
        try:
            for packet in self.container.demux(self.stream):
                if not packet.size:
                    continue
                columns.add(packet)
                data = bytes(packet)
                self.hash.update(data)
                if units is not None:
                    self._add_nal_facts(units, data)
                elif codec == "vp8" and not data[0] & VP8_IS_SHOWN:
                    columns.is_discarded[-1] = True
                if len(columns.pts) % PROGRESS_PACKETS == 1:
                    report_progress(self._seconds_so_far())
                if self.first_frame is None:
                    self._try_decoding(packet, len(columns.pts) - 1)
        except FFmpegError as error:
            self.read_error = error.strerror
        if self.first_frame is None:
            self._try_decoding(None, 0)

    def _add_nal_facts(self, units: NalUnits, data: bytes) -> None:
        """Note what a packet says of itself; without valid data it says nothing."""
        columns, number = self.columns, len(self.columns.pts) - 1
        if not units.is_intact(data):
            columns.invalid.append(number)
            columns.layer.append(None)
            columns.needs_flush.append(False)
            # A damaged start is the start all the same: times count from there.
            columns.is_key[number] |= number == 0
            return
        entry = units.entry(data) if columns.is_key[number] else Entry.NONE
        columns.is_key[number] = entry is not Entry.NONE
        columns.needs_flush.append(entry is Entry.FLUSHED)
        columns.layer.append(units.layer_above_references(data))

    def _seconds_so_far(self) -> float:
        dts = self.columns.dts
        return 0.0 if NO_TIME in (dts[0], dts[-1]) else float((dts[-1] - dts[0]) * self.time_base)

    def _try_decoding(self, packet: Packet[VideoStream] | None, number: int) -> None:
        """Decode up to the first frame; its errors are counted later, by the reading pass."""
        if packet is not None:
            packet.pts = number
        try:
            frames = self.context.decode(packet)  # pyright: ignore[reportUnknownMemberType]
        except FFmpegError:
            return
        except ValueError:
            codec = self.stream.codec_context.name
            raise BrokenVideoError(f"{self.name}: no decoder for {codec}; re-encode it") from None
        self.first_frame = frames[0] if frames else None

    def result(self) -> Survey:
        """Turn what was read into the survey.

        Raises:
            BrokenVideoError: There are no packets, or none of them decodes.
        """
        frame = self.first_frame
        if not self.columns.pts:
            reason = f" ({self.read_error})" if self.read_error else ""
            raise BrokenVideoError(f"{self.name} has an index but no frames{reason}; copy it again")
        if frame is None:
            raise BrokenVideoError(
                f"{self.name}: none of {len(self.columns.pts)} packets of {self.context.name} "
                "can be decoded; copy it again"
            )
        table = self._table()
        orientation = Orientation.of(frame)
        width, height = orientation.size(frame.width, frame.height)
        order = table.presentation_order()
        gaps = np.diff(np.unique(table.pts_N[order]))
        last_duration = _last_duration(table, int(order[-1]), gaps)
        duration = (table.last_pts - table.first_pts + last_duration) * self.time_base
        spread = int(gaps.max() - gaps.min()) if len(gaps) else 0
        mean_gap = Fraction(int(gaps.sum()), len(gaps)) if len(gaps) else Fraction(last_duration)
        log = DamageLog(table, self._missing(table, duration))
        for number in self.columns.corrupt:
            log.add(number, "the container has lost data", others_are_lost=True)
        for number in self._before_holes(table):
            log.add(number, "frames are missing", others_are_lost=True)
        for number in self.columns.invalid:
            log.add(number, "packets without valid data")
        info = VideoInfo(
            path=self.name,
            container=self.container.format.name,
            codec=self.stream.codec.canonical_name,
            pixel_format=frame.format.name,
            width=width,
            height=height,
            rotation_degrees=orientation.clockwise_degrees,
            duration_seconds=float(duration),
            start_seconds=float(table.first_pts * self.time_base),
            num_packets=len(table),
            num_keyframes=int(table.is_key_N.sum()),
            average_fps=float(1 / (mean_gap * self.time_base)) if mean_gap else 0.0,
            is_variable_frame_rate=spread > 1 and spread * self.time_base > REGULAR_SECONDS,
            has_audio=bool(self.container.streams.audio),
            content_digest=self._digest(table, orientation),
            damage=log.spans(),
        )
        return Survey(
            info=info,
            table=table,
            orientation=orientation,
            duration_seconds=duration,
            log=log,
            stored_width=frame.width,
            stored_height=frame.height,
        )

    def _table(self) -> PacketTable:
        columns = self.columns
        has_own_times = self._has_own_times()
        pts_N = np.array(columns.pts if has_own_times else self._times_in_order(), np.int64)
        is_key_N = np.array(columns.is_key, np.bool_)
        is_presented_N = ~np.array(columns.is_discarded, np.bool_) & (pts_N != NO_TIME)
        if has_own_times:
            is_presented_N &= pts_N >= self._first_presented(pts_N, is_key_N)
        durations = np.array(columns.duration, np.int64)
        return PacketTable(
            time_base=self.time_base,
            has_own_times=has_own_times,
            pts_N=pts_N,
            dts_N=np.array(columns.dts, np.int64),
            pos_N=np.array(columns.pos, np.int64),
            size_N=np.array(columns.size, np.int64),
            duration_N=durations,
            is_key_N=is_key_N,
            is_presented_N=is_presented_N,
            needs_flush_N=np.array(columns.needs_flush or [False] * len(columns.pts), np.bool_),
            is_reference_N=self._references(),
            has_skippable_leads=self.stream.codec.canonical_name == "hevc",
        )

    def _references(self) -> Flags | None:
        """Mark the packets that others may refer to, if the codec says it in its packets."""
        if len(self.columns.layer) < len(self.columns.pts):
            return None
        highest = max((layer for layer in self.columns.layer if layer is not None), default=0)
        return np.array([layer != highest for layer in self.columns.layer], np.bool_)

    def _has_own_times(self) -> bool:
        """Tell whether presentation times are stored, as far as formats are known to lie.

        AVI stores no presentation times; FFmpeg fills them in right for codecs it can parse, and
        wrongly for the B-frames of H.264 and HEVC.
        """
        formats = set(self.container.format.name.split(","))
        if formats & RAW_FORMATS:
            return False
        if "avi" in formats and self.stream.codec.canonical_name in ("h264", "hevc"):
            return False
        num_timed = sum(pts != NO_TIME for pts in self.columns.pts)
        return 2 * num_timed >= len(self.columns.pts)

    def _times_in_order(self) -> list[int]:
        """Make times where there are none: the decoding times in order, or the nominal rate."""
        dts = self.columns.dts
        if NO_TIME not in dts:
            return sorted(dts)
        rate = self.context.framerate or self.stream.average_rate or Fraction(25)
        return [round(number / rate / self.time_base) for number in range(len(dts))]

    def _first_presented(self, pts_N: Ints, is_key_N: Flags) -> int:
        """Find the time of the first frame that can be shown.

        Pictures before the first key frame, or leading it out of a GOP that was cut away, refer
        to nothing; they are left out unless the decoder shows them.
        """
        assert self.first_frame is not None and self.first_frame.pts is not None
        first_decoded = int(pts_N[self.first_frame.pts])
        keys_K = np.flatnonzero(is_key_N)
        return min(first_decoded, int(pts_N[keys_K[0]])) if len(keys_K) else first_decoded

    def _digest(self, table: PacketTable, orientation: Orientation) -> str:
        """Name what is seen and when: packets, extradata, rotation, and times in milliseconds.

        Times belong to it: the same packets played at another speed are another video. They are
        rounded as Matroska rounds them, so that a remux keeps its digest.
        """
        doubled = 2000 * self.time_base.numerator * (table.pts_N - table.first_pts)
        milliseconds_N = (doubled + self.time_base.denominator) // (2 * self.time_base.denominator)
        self.hash.update(np.where(table.is_presented_N, milliseconds_N, -1).astype("<i8").tobytes())
        self.hash.update(repr(orientation).encode())
        return self.hash.hexdigest()[:32]

    def _before_holes(self, table: PacketTable) -> list[int]:
        """Find the packets after which a transport stream of constant rate has a hole.

        Transport streams lose packets on their way, and often nothing else tells.
        """
        order = table.presentation_order()
        gaps = np.diff(table.pts_N[order])
        if self.container.format.name != "mpegts" or not len(gaps):
            return []
        is_hole = gaps > 1.5 * np.median(gaps)
        others = gaps[~is_hole]
        is_constant_rate = (others.max() - others.min()) * self.time_base <= REGULAR_SECONDS
        if not is_constant_rate or is_hole.mean() > MAX_HOLES:
            return []
        return order[:-1][is_hole].tolist()

    def _missing(self, table: PacketTable, duration: Fraction) -> tuple[DamagedSpan, ...]:
        """Report what is known to have been there: an index longer than the file, an error."""
        num_promised = len(self.stream.index_entries)
        if "mov" in self.container.format.name and num_promised > len(table):
            reason = f"the file ends early: {len(table)} of {num_promised} packets are there"
        elif num_bytes := num_missing_bytes(self.name):
            reason = f"the file ends early: {num_bytes} bytes are not there"
        elif self.read_error is not None:
            reason = f"reading stopped: {self.read_error}"
        else:
            return ()
        promised = float((self.container.duration or 0) / av.time_base)
        start, end = float(duration), max(float(duration), promised)
        return (DamagedSpan(start_seconds=start, end_seconds=end, reason=reason),)


def _last_duration(table: PacketTable, number: int, gaps: Ints) -> int:
    """Say how long the last frame is shown; a stated duration far from the usual gap is a lie."""
    stated = int(table.duration_N[number])
    usual = int(np.median(gaps)) if len(gaps) else stated
    return stated if 0 < stated <= 10 * max(usual, 1) else max(usual, 1)
