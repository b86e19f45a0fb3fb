"""The corpus of odd video files: written once a session, every frame a bar code of its index."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

NUM_BITS = 12
WIDTH, HEIGHT = 192, 96
FPS = 10
NUM_FRAMES = 60


def draw(code: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Bars of the code's bits above, a moving red and blue ground below; no symmetry anywhere."""
    picture = np.zeros((height, width, 3), np.uint8)
    edges = np.linspace(0, width, NUM_BITS + 1).astype(int)
    for bit in range(NUM_BITS):
        if code >> bit & 1:
            picture[: height // 2, edges[bit] : edges[bit + 1]] = 230
    columns = (np.arange(width) * 5 + code * 9) % 256
    picture[height // 2 :, :, 2] = columns
    picture[height // 2 :, : width // 2, 0] = 200
    return picture


def read_code(rgb: np.ndarray) -> int:
    """Read the bars back; -1 if the ground is not where it belongs (turned or mirrored)."""
    height, width = rgb.shape[:2]
    lower = rgb[height * 3 // 4, :, 0].astype(int)
    if (
        lower[width // 8 : width * 3 // 8].mean()
        < lower[width * 5 // 8 : width * 7 // 8].mean() + 60
    ):
        return -1
    edges = np.linspace(0, width, NUM_BITS + 1).astype(int)
    centres = (edges[1:] + edges[:-1]) // 2
    bars = rgb[height // 4, :].mean(axis=1)
    return sum(1 << bit for bit, centre in enumerate(centres) if bars[centre] > 115)


@dataclass(frozen=True)
class Clip:
    """A file, and what it shows: exact times after the first presented frame, and the codes."""

    path: Path
    times: tuple[Fraction, ...]
    codes: tuple[int, ...]

    def expected(
        self, fps: float, start: float = 0, end: float = 1e9
    ) -> list[tuple[int, Fraction]]:
        """List (code, time) of every tick, by walking through all frames."""
        step = 1 / Fraction(fps).limit_denominator(10**6)
        shown: list[tuple[int, Fraction]] = []
        tick, position = Fraction(start).limit_denominator(10**6), 0
        while tick <= self.times[-1] and tick < end:
            while position + 1 < len(self.times) and self.times[position + 1] <= tick:
                position += 1
            shown.append((self.codes[position], self.times[position]))
            tick += step
        return shown


def write(
    path: Path,
    codec: str = "libx264",
    *,
    pts: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, FPS),
    rate: Fraction | int = FPS,
    options: dict[str, str] | None = None,
    pixel_format: str = "yuv420p",
    size: tuple[int, int] = (WIDTH, HEIGHT),
    turn: Callable[[np.ndarray], np.ndarray] = lambda picture: picture,
    container_options: dict[str, str] | None = None,
    container_format: str | None = None,
    setup: Callable[[av.VideoStream], None] = lambda stream: None,
    change: Callable[[int, av.Packet], av.Packet | None] = lambda number, packet: packet,
    codes: Sequence[int] | None = None,
    audio: bool = False,
) -> Clip:
    """Encode bar codes 0, 1, 2, ... at the given times; `change` sees every packet."""
    pts = list(range(NUM_FRAMES)) if pts is None else list(pts)
    codes = list(range(len(pts))) if codes is None else list(codes)
    if codec == "libx264":
        options = {"preset": "veryfast", "g": "25", "bf": "2", "threads": "1", **(options or {})}
    if codec == "libx265":
        extra = (options or {}).get("x265-params", "")
        options = {
            "preset": "ultrafast",
            "x265-params": f"log-level=none:keyint=25:bframes=3:b-pyramid=1:pools=1:{extra}",
        }
    with av.open(
        str(path), "w", format=container_format, options=container_options or {}
    ) as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height = size
        stream.pix_fmt = pixel_format
        stream.codec_context.time_base = time_base
        stream.time_base = time_base
        setup(stream)
        if audio:
            sound = container.add_stream("aac", rate=16000)
        numbers = iter(range(10**9))

        def mux(packets: list[av.Packet]) -> None:
            for packet in packets:
                if (changed := change(next(numbers), packet)) is not None:
                    container.mux(changed)

        for code, time in zip(codes, pts, strict=True):
            picture = np.ascontiguousarray(turn(draw(code)))
            if size != (WIDTH, HEIGHT) and picture.shape[:2] != (size[1], size[0]):
                picture = draw(code, *size)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = time, time_base
            mux(stream.encode(frame))
        mux(stream.encode(None))
        if audio:
            container.mux(encode_silence(sound, seconds=2))
            container.mux(sound.encode(None))
    times = tuple((time - pts[0]) * time_base for time in pts)
    return Clip(path, times, tuple(codes))


def encode_silence(stream: av.AudioStream, seconds: int) -> list[av.Packet]:
    packets: list[av.Packet] = []
    for number in range(seconds * 16000 // 1024):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts = 16000, number * 1024
        packets += stream.encode(frame)
    return packets


def find_box(data: bytes, *names: bytes, start: int = 0, end: int | None = None) -> tuple[int, int]:
    """Find a nested mp4 box; returns its first byte and the byte after it."""
    end = len(data) if end is None else end
    while start < end:
        size, name = struct.unpack(">I4s", data[start : start + 8])
        if name == names[0]:
            if len(names) == 1:
                return start, start + size
            return find_box(data, *names[1:], start=start + 8, end=start + size)
        start += size
    raise KeyError(names)


def replace_edit_list(path: Path, edits: Sequence[tuple[int, int]]) -> None:
    """Write another edit list, of (duration, media time), into an mp4 whose index is at its end."""
    data = path.read_bytes()
    parents = [b"moov", b"trak", b"edts"]
    first, last = find_box(data, *parents, b"elst")
    body = struct.pack(">II", 0, len(edits))
    body += b"".join(struct.pack(">iiI", length, time, 0x10000) for length, time in edits)
    box = struct.pack(">I4s", len(body) + 8, b"elst") + body
    growth = len(box) - (last - first)
    out = bytearray(data[:first] + box + data[last:])
    for depth in range(1, 4):
        position, stop = find_box(data, *parents[:depth])
        struct.pack_into(">I", out, position, stop - position + growth)
    path.write_bytes(out)


class Corpus:
    """Writes a kind of file the first time it is asked for; `corpus["kind"]` calls `kind()`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clips: dict[str, Clip] = {}

    def __getitem__(self, kind: str) -> Clip:
        if kind not in self.clips:
            self.clips[kind] = getattr(self, kind)()
        return self.clips[kind]

    # Plain files, one a codec and container.
    def h264_mp4(self) -> Clip:
        return write(self.folder / "h264.mp4", audio=True)

    def hevc_mp4(self) -> Clip:
        return write(self.folder / "hevc.mp4", "libx265")

    def vp9_webm(self) -> Clip:
        options = {"g": "25", "auto-alt-ref": "1", "lag-in-frames": "12", "deadline": "realtime"}
        return write(self.folder / "vp9.webm", "libvpx-vp9", options=options)

    def vp8_hidden_frames_webm(self) -> Clip:
        """Some of its packets are decoded but never shown, as alternate references are."""
        hidden = {4, 10, 21, 40}

        def hide(number: int, packet: av.Packet) -> av.Packet:
            if number in hidden:
                data = bytearray(bytes(packet))
                data[0] &= 0xEF
                packet.update(bytes(data))
            return packet

        options = {"g": "25", "deadline": "realtime", "cpu-used": "8"}
        clip = write(self.folder / "vp8.webm", "libvpx", options=options, change=hide)
        shown = [i for i in range(NUM_FRAMES) if i not in hidden]
        return Clip(clip.path, tuple(clip.times[i] for i in shown), tuple(shown))

    def av1_mkv(self) -> Clip:
        options = {"preset": "12", "g": "25", "svtav1-params": "lp=1"}
        return write(self.folder / "av1.mkv", "libsvtav1", options=options)

    def av1_mp4(self) -> Clip:
        options = {"preset": "12", "g": "25", "svtav1-params": "lp=1"}
        return write(self.folder / "av1.mp4", "libsvtav1", options=options)

    def mpeg4_avi(self) -> Clip:
        return write(self.folder / "mpeg4.avi", "mpeg4", options={"bf": "2", "g": "20", "q:v": "3"})

    def mpeg2_ts(self) -> Clip:
        return write(
            self.folder / "mpeg2.ts",
            "mpeg2video",
            rate=25,
            time_base=Fraction(1, 25),
            options={"bf": "2", "g": "15", "b": "4000000"},
        )

    def mjpeg_avi(self) -> Clip:
        return write(self.folder / "mjpeg.avi", "mjpeg", pixel_format="yuvj420p")

    def wmv_asf(self) -> Clip:
        return write(self.folder / "old.wmv", "wmv2", options={"b": "2000000"})

    def flv(self) -> Clip:
        return write(self.folder / "h264.flv")

    def gif(self) -> Clip:
        return write(self.folder / "moving.gif", "gif", pixel_format="rgb8")

    def ffv1_mkv(self) -> Clip:
        return write(self.folder / "ffv1.mkv", "ffv1")

    # Times.
    def variable_rate_mp4(self) -> Clip:
        return write(self.folder / "vfr.mp4", **self._uneven())

    def variable_rate_mkv(self) -> Clip:
        return write(self.folder / "vfr.mkv", **self._uneven())

    def _uneven(self) -> dict[str, object]:
        steps = random.Random(5).choices([20, 33, 40, 95, 400, 1700], [9, 9, 9, 5, 3, 1], k=59)
        pts = [0]
        for step in steps:
            pts.append(pts[-1] + step)
        return {"pts": pts, "time_base": Fraction(1, 1000), "rate": 30}

    def holes_mp4(self) -> Clip:
        pts = [*range(20), *range(55, 75), *range(140, 160)]
        return write(self.folder / "holes.mp4", pts=pts)

    def late_mpegts(self) -> Clip:
        pts = [12347 * FPS + i for i in range(NUM_FRAMES)]
        return write(self.folder / "late.ts", pts=pts)

    def wrapping_mpegts(self) -> Clip:
        """Its 33-bit clock starts anew in the middle."""
        pts = [2**33 - 90000 * 3 + i * 9000 for i in range(NUM_FRAMES)]
        return write(self.folder / "wrap.ts", pts=pts, time_base=Fraction(1, 90000))

    def offset_mkv(self) -> Clip:
        return write(self.folder / "offset.mkv", pts=[75 + i for i in range(NUM_FRAMES)])

    def ntsc_film_mp4(self) -> Clip:
        rate = Fraction(24000, 1001)
        return write(self.folder / "film.mp4", rate=rate, time_base=1 / rate, pts=list(range(150)))

    def ntsc_fast_mp4(self) -> Clip:
        rate = Fraction(60000, 1001)
        return write(self.folder / "fast.mp4", rate=rate, time_base=1 / rate, pts=list(range(200)))

    def trimmed_by_edit_list_mp4(self) -> Clip:
        """Stream-copied from 1.7 s on, as `ffmpeg -ss 1.7 -c copy` does: 17 frames are hidden."""
        clip = write(self.folder / "trimmed.mp4")
        hidden = 17
        # The media clock runs at 1/10240; decoding before showing B-frames delays it by 2 frames.
        replace_edit_list(clip.path, [(4300, (hidden + 2) * 1024)])
        return Clip(clip.path, clip.times[: NUM_FRAMES - hidden], clip.codes[hidden:])

    def two_edits_mp4(self) -> Clip:
        """Shows its fourth and fifth second, then its first two."""
        clip = write(self.folder / "edits.mp4", options={"bf": "0", "g": "10"})
        replace_edit_list(clip.path, [(2000, 30 * 1024), (2000, 0)])
        return Clip(clip.path, clip.times[:40], (*range(30, 50), *range(20)))

    def delayed_by_edit_list_mp4(self) -> Clip:
        """Starts with three empty seconds."""
        clip = write(self.folder / "delayed.mp4", options={"bf": "0"})
        replace_edit_list(clip.path, [(3000, -1), (6000, 0)])
        return clip

    def lying_durations_mp4(self) -> Clip:
        """Every header says the video lasts no time at all."""
        clip = write(self.folder / "lies.mp4")
        data = bytearray(clip.path.read_bytes())
        for path, offset in (
            ((b"moov", b"mvhd"), 24),
            ((b"moov", b"trak", b"tkhd"), 28),
            ((b"moov", b"trak", b"mdia", b"mdhd"), 24),
        ):
            struct.pack_into(">I", data, find_box(bytes(data), *path)[0] + offset, 0)
        clip.path.write_bytes(data)
        return clip

    def equal_times_mkv(self) -> Clip:
        """Frames come in pairs of one time: only the later of a pair is ever the last one."""

        def pair(number: int, packet: av.Packet) -> av.Packet:
            packet.pts = packet.dts = packet.pts - number % 2
            return packet

        clip = write(self.folder / "pairs.mkv", "mpeg4", options={"g": "12"}, change=pair)
        return Clip(clip.path, tuple(Fraction(i - i % 2, FPS) for i in range(60)), clip.codes)

    def raw_h264(self) -> Clip:
        return write(self.folder / "raw.h264", container_format="h264", options={"bf": "3"})

    def raw_hevc(self) -> Clip:
        return write(self.folder / "raw.265", "libx265", container_format="hevc")

    def h264_b_frames_avi(self) -> Clip:
        return write(self.folder / "b_frames.avi", options={"bf": "3"})

    # Structure.
    def open_gop_h264_mp4(self) -> Clip:
        options = {"g": "12", "bf": "3", "x264-params": "open-gop=1:scenecut=0"}
        return write(self.folder / "open.mp4", options=options)

    def open_gop_hevc_mkv(self) -> Clip:
        options = {"x265-params": "open-gop=1:keyint=12:min-keyint=12:scenecut=0"}
        return write(self.folder / "open.mkv", "libx265", options=options)

    def cut_open_gop_ts(self) -> Clip:
        """Starts in the middle of a GOP; nothing before its first key frame can be shown."""
        whole = write(
            self.folder / "whole.ts", options={"g": "12", "bf": "3", "x264-params": "open-gop=1"}
        )
        data = whole.path.read_bytes()
        path = self.folder / "cut.ts"
        path.write_bytes(data[188 * (len(data) // 188 // 3) :])
        with av.open(str(path)) as container:
            decoded = list(container.decode(video=0))
        codes = [read_code(f.to_ndarray(format="rgb24")) for f in decoded]
        times = tuple(Fraction(code - codes[0], FPS) for code in codes)
        return Clip(path, times, tuple(codes))

    def intra_refresh_ts(self) -> Clip:
        """Key frames by name only: pictures are refreshed column by column."""
        options = {"bf": "0", "g": "20", "x264-params": "intra-refresh=1:keyint=20"}
        return write(self.folder / "refresh.ts", options=options)

    def one_key_frame_in_ten_minutes(self) -> Clip:
        rate = 4
        return write(
            self.folder / "one_key.mp4",
            size=(96, 48),
            rate=rate,
            time_base=Fraction(1, rate),
            pts=list(range(600 * rate)),
            options={"g": "100000", "preset": "ultrafast", "bf": "2", "sc_threshold": "0"},
        )

    def single_frame_mp4(self) -> Clip:
        return write(self.folder / "single.mp4", pts=[0])

    def picture_png(self) -> Clip:
        return write(
            self.folder / "still.png",
            "png",
            pts=[0],
            pixel_format="rgb24",
            container_format="image2",
            container_options={"update": "1"},
        )

    def fragmented_mp4(self) -> Clip:
        return write(
            self.folder / "fragments.mp4",
            container_options={"movflags": "frag_keyframe+empty_moov"},
        )

    def interlaced_ts(self) -> Clip:
        return write(
            self.folder / "interlaced.ts",
            rate=25,
            time_base=Fraction(1, 25),
            options={"x264-params": "interlaced=1:tff=1"},
        )

    def two_video_streams_mkv(self) -> Clip:
        """A small preview stands before the video that is marked as the default one."""
        path = self.folder / "two.mkv"
        with av.open(str(path), "w") as container:
            streams = [container.add_stream("mpeg4", rate=FPS) for _ in range(2)]
            for stream, size in zip(streams, [(96, 48), (WIDTH, HEIGHT)], strict=True):
                stream.width, stream.height = size
                stream.pix_fmt = "yuv420p"
                stream.codec_context.time_base = Fraction(1, FPS)
            streams[0].disposition = Disposition(0)
            streams[1].disposition = Disposition.default
            for number in range(30):
                for stream, code in zip(streams, [4095 - number, number], strict=True):
                    picture = draw(code, stream.width, stream.height)
                    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                    frame.pts, frame.time_base = number, Fraction(1, FPS)
                    container.mux(stream.encode(frame))
            for stream in streams:
                container.mux(stream.encode(None))
        return Clip(path, tuple(Fraction(i, FPS) for i in range(30)), tuple(range(30)))

    # Pixels.
    def rotated_90_mp4(self) -> Clip:
        return self._rotated(90)

    def rotated_180_mp4(self) -> Clip:
        return self._rotated(180)

    def rotated_270_mp4(self) -> Clip:
        return self._rotated(270)

    def _rotated(self, clockwise: int) -> Clip:
        """Stored turned counterclockwise, to be shown turned clockwise."""
        return write(
            self.folder / f"turned_{clockwise}.mp4",
            turn=lambda picture: np.rot90(picture, clockwise // 90),
            size=(HEIGHT, WIDTH) if clockwise % 180 else (WIDTH, HEIGHT),
            setup=lambda stream: stream.set_display_rotation(-clockwise),
        )

    def mirrored_mp4(self) -> Clip:
        """As front cameras of phones store it: mirrored, with a matrix that says so."""
        one = 1 << 16
        matrix = [-one, 0, 0, 0, one, 0, WIDTH * one, 0, 1 << 30]
        return write(
            self.folder / "mirrored.mp4",
            turn=lambda picture: picture[:, ::-1],
            setup=lambda stream: stream.set_display_matrix(matrix),
        )

    def ten_bit_hevc_mp4(self) -> Clip:
        return write(self.folder / "ten.mp4", "libx265", pixel_format="yuv420p10le")

    def ten_bit_h264_mkv(self) -> Clip:
        return write(self.folder / "ten.mkv", pixel_format="yuv420p10le")

    def full_chroma_mp4(self) -> Clip:
        return write(self.folder / "444.mp4", pixel_format="yuv444p")

    def odd_size_mkv(self) -> Clip:
        return write(self.folder / "odd.mkv", pixel_format="yuv444p", size=(191, 97))

    def odd_size_subsampled_avi(self) -> Clip:
        return write(self.folder / "odd.avi", "mpeg4", size=(197, 93), options={"q:v": "3"})

    def wide_pixels_mp4(self) -> Clip:
        def widen(stream: av.VideoStream) -> None:
            stream.codec_context.sample_aspect_ratio = Fraction(16, 11)

        return write(self.folder / "wide.mp4", setup=widen)

    def size_change_ts(self) -> Clip:
        """Twice as large from the middle on; frames keep the size of the first one."""
        path = self.folder / "size_change.ts"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=FPS)
            for first, width in ((0, WIDTH), (30, 2 * WIDTH)):
                encoder = av.CodecContext.create("libx264", "w")
                encoder.width, encoder.height, encoder.pix_fmt = width, width // 2, "yuv420p"
                encoder.time_base, encoder.options = Fraction(1, FPS), {"bf": "0"}
                for code in range(first, first + 30):
                    picture = draw(code, width, width // 2)
                    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                    frame.pts, frame.time_base = code, Fraction(1, FPS)
                    self._mux_as(container, stream, encoder.encode(frame))
                self._mux_as(container, stream, encoder.encode(None))
        return Clip(path, tuple(Fraction(i, FPS) for i in range(60)), tuple(range(60)))

    def _mux_as(
        self, container: av.container.OutputContainer, stream: av.VideoStream, packets: list
    ) -> None:
        for packet in packets:
            packet.stream = stream
            container.mux(packet)

    def video_with_cover_art_mp4(self) -> Clip:
        path = self.folder / "with_cover.mp4"
        self._with_cover(path, with_video=True)
        return Clip(path, tuple(Fraction(i, FPS) for i in range(30)), tuple(range(30)))

    def _with_cover(self, path: Path, *, with_video: bool) -> None:
        with av.open(str(path), "w", format="mp4") as container:
            cover = container.add_stream("mjpeg", rate=FPS)
            cover.width, cover.height, cover.pix_fmt = 640, 480, "yuvj420p"
            cover.disposition = Disposition.attached_pic
            sound = container.add_stream("aac", rate=16000)
            if with_video:
                stream = container.add_stream("libx264", rate=FPS)
                stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            container.mux(encode_silence(sound, seconds=3))
            picture = av.VideoFrame.from_ndarray(draw(4000, 640, 480), format="rgb24")
            container.mux(cover.encode(picture))
            for number in range(30 if with_video else 0):
                frame = av.VideoFrame.from_ndarray(draw(number), format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, FPS)
                container.mux(stream.encode(frame))
            for each in container.streams:
                container.mux(each.encode(None))

    # Files that are no video, or not a whole one.
    def audio_with_cover_art(self) -> Clip:
        path = self.folder / "cover.m4a"
        self._with_cover(path, with_video=False)
        return Clip(path, (), ())

    def audio_only(self) -> Clip:
        path = self.folder / "sound.m4a"
        with av.open(str(path), "w", format="mp4") as container:
            sound = container.add_stream("aac", rate=16000)
            container.mux(encode_silence(sound, seconds=3))
            container.mux(sound.encode(None))
        return Clip(path, (), ())

    def cut_off_index_in_front(self) -> Clip:
        clip = write(
            self.folder / "cut_off.mp4",
            container_options={"movflags": "faststart"},
            options={"g": "10"},
        )
        data = clip.path.read_bytes()
        clip.path.write_bytes(data[: len(data) * 6 // 10])
        return clip

    def cut_off_mkv(self) -> Clip:
        clip = write(self.folder / "cut_off.mkv", options={"g": "10"})
        data = clip.path.read_bytes()
        clip.path.write_bytes(data[: len(data) * 6 // 10])
        return clip

    def without_index(self) -> Clip:
        clip = write(self.folder / "no_moov.mp4")
        data = clip.path.read_bytes()
        clip.path.write_bytes(data[: find_box(data, b"moov")[0]])
        return Clip(clip.path, (), ())

    def index_without_data(self) -> Clip:
        clip = write(self.folder / "no_mdat.mp4", container_options={"movflags": "faststart"})
        data = clip.path.read_bytes()
        clip.path.write_bytes(data[: find_box(data, b"mdat")[0]])
        return Clip(clip.path, (), ())

    def noise_in_packets(self) -> Clip:
        clip = write(self.folder / "noise.mp4")
        data = bytearray(clip.path.read_bytes())
        first, last = find_box(bytes(data), b"mdat")
        data[first + 8 : last] = random.Random(3).randbytes(last - first - 8)
        clip.path.write_bytes(data)
        return Clip(clip.path, (), ())

    def zero_bytes(self) -> Clip:
        path = self.folder / "zero.mp4"
        path.write_bytes(b"")
        return Clip(path, (), ())

    def text(self) -> Clip:
        path = self.folder / "text.mp4"
        path.write_text("Shopping list: bread, milk, a video camera.\n" * 40)
        return Clip(path, (), ())

    def playlist(self) -> Clip:
        path = self.folder / "playlist.mp4"
        other = self["h264_mp4"].path
        path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\n{other}\n#EXT-X-ENDLIST\n")
        return Clip(path, (), ())

    def picture_folder_listing(self) -> Clip:
        path = self.folder / "concat.mp4"
        path.write_text(f"ffconcat version 1.0\nfile '{self['h264_mp4'].path.name}'\n")
        return Clip(path, (), ())


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corpus]:
    """All kinds of files; each is written when first asked for."""
    yield Corpus(tmp_path_factory.mktemp("videos"))


@pytest.fixture(scope="session")
def code_of() -> Callable[[np.ndarray], int]:
    """Read the bar code of a picture."""
    return read_code
