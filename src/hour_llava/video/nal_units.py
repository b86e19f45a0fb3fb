"""What H.264 and HEVC packets say of themselves in a few bytes, without being decoded.

Whether decoding can start at a packet: containers and parsers also call a packet "key" where a
picture is refreshed bit by bit over the next seconds (periodic intra refresh), and cutting there
would give wrong pixels. Whether other packets refer to it: if not, it need not be decoded.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

H264_SLICE, H264_IDR_SLICE, H264_SEI = 1, 5, 6
H264_LAST_SLICE = 5
HEVC_LAST_SLICE, HEVC_LAST_UNREFERENCED = 31, 14
RECOVERY_POINT = 6
MAX_SEI_BYTES = 4096
# Some muxers leave a few zeros of padding behind a unit.
MAX_TRAILING_ZEROS = 8
UNWRITTEN_BYTES = 16


class Entry(Enum):
    """How decoding can start at a packet: not at all, in a flushed decoder only, or as it comes."""

    NONE = 0
    FLUSHED = 1
    CLEAN = 2


class NalUnits:
    """Splits the packets of one stream, written with lengths (avcC, hvcC) or start codes."""

    def __init__(self, codec: str, extradata: bytes) -> None:
        self._is_hevc = codec == "hevc"
        self._length_bytes = _length_bytes(extradata, is_hevc=self._is_hevc)

    def entry(self, packet: bytes) -> Entry:
        """Tell how decoding can start at a key packet; in HEVC it always can."""
        if self._is_hevc:
            return Entry.CLEAN
        is_recovery_point = False
        for unit in self._split(packet):
            kind = unit[0] & 31
            if kind == H264_IDR_SLICE:
                return Entry.CLEAN
            if kind == H264_SEI:
                is_recovery_point |= _recovery_frame_count(unit[1:MAX_SEI_BYTES]) == 0
            elif kind == H264_SLICE:
                break
        return Entry.FLUSHED if is_recovery_point else Entry.NONE

    def layer_above_references(self, packet: bytes) -> int | None:
        """Give the temporal layer of a packet that its own layer does not refer to.

        Returns:
            None if the packet is a reference, or does not say. A packet in the highest layer of
            its stream that is no reference can be left out.
        """
        for unit in self._split(packet):
            if self._is_hevc:
                kind = unit[0] >> 1 & 63
                if kind <= HEVC_LAST_SLICE:
                    is_reference = kind > HEVC_LAST_UNREFERENCED or kind % 2 == 1
                    return None if is_reference else unit[1] & 7
            elif H264_SLICE <= unit[0] & 31 <= H264_LAST_SLICE:
                return None if unit[0] & 0x60 else 0
        return None

    def is_intact(self, packet: bytes) -> bool:
        """Tell whether the units fill their packet, and no picture's data holds a run of zeros.

        The standards forbid three zero bytes in a unit, so that unwritten stretches of a file
        show, which a decoder may take for a picture.
        """
        if not self._length_bytes:
            return _has_no_unwritten_stretch(packet)
        position, length_bytes = 0, self._length_bytes
        while position + length_bytes <= len(packet):
            start = position + length_bytes
            position = start + int.from_bytes(packet[position:start], "big")
            if position > len(packet) or (
                self._is_picture(packet[start : start + 1])
                and b"\0\0\0" in packet[start : max(start, position - MAX_TRAILING_ZEROS)]
            ):
                return False
        return position == len(packet)

    def _is_picture(self, header: bytes) -> bool:
        if not header:
            return False
        if self._is_hevc:
            return header[0] >> 1 & 63 <= HEVC_LAST_SLICE
        return H264_SLICE <= header[0] & 31 <= H264_LAST_SLICE

    def _split(self, packet: bytes) -> Iterator[bytes]:
        if self._length_bytes:
            return _units_after_lengths(packet, self._length_bytes)
        return _units_after_start_codes(packet)


def _length_bytes(extradata: bytes, *, is_hevc: bool) -> int:
    """Read how many bytes a length has; 0 means start codes."""
    if is_hevc:
        has_lengths = len(extradata) > 21 and extradata[:3] not in (b"\0\0\1", b"\0\0\0")
        return (extradata[21] & 3) + 1 if has_lengths else 0
    has_lengths = len(extradata) > 4 and extradata[0] == 1
    return (extradata[4] & 3) + 1 if has_lengths else 0


def _units_after_lengths(packet: bytes, length_bytes: int) -> Iterator[bytes]:
    """Yield the first bytes of every unit that has at least two."""
    position = 0
    while position + length_bytes + 2 <= len(packet):
        size = int.from_bytes(packet[position : position + length_bytes], "big")
        position += length_bytes
        if size >= 2:
            yield packet[position : position + min(size, MAX_SEI_BYTES)]
        position += size


def _units_after_start_codes(packet: bytes) -> Iterator[bytes]:
    position = packet.find(b"\0\0\1")
    while 0 <= position < len(packet) - 4:
        following = packet.find(b"\0\0\1", position + 3)
        end = following if following >= 0 else len(packet)
        yield packet[position + 3 : min(end, position + 3 + MAX_SEI_BYTES)]
        position = following


def _has_no_unwritten_stretch(packet: bytes) -> bool:
    """Look for zeros that are neither padding at the end nor followed by a start code."""
    start = packet.find(bytes(UNWRITTEN_BYTES))
    rest = packet[start:].lstrip(b"\0") if start >= 0 else b""
    return not rest or rest[0] == 1


def _recovery_frame_count(sei: bytes) -> int | None:
    """Read after how many frames a recovery point is whole; None where there is no such point."""
    payload = sei.replace(b"\0\0\3", b"\0\0")
    position = 0
    while position + 2 < len(payload):
        kind, position = _read_extended(payload, position)
        size, position = _read_extended(payload, position)
        if kind == RECOVERY_POINT:
            return _read_exp_golomb(payload[position : position + size])
        position += size
    return None


def _read_extended(payload: bytes, position: int) -> tuple[int, int]:
    """Read a number written as bytes of 255 and a last smaller one."""
    value = 0
    while position < len(payload) and payload[position] == 255:
        value, position = value + 255, position + 1
    last = payload[position] if position < len(payload) else 0
    return value + last, position + 1


def _read_exp_golomb(payload: bytes) -> int:
    bits = "".join(f"{byte:08b}" for byte in payload[:8])
    zeros = len(bits) - len(bits.lstrip("0"))
    return int(bits[zeros : 2 * zeros + 1] or "1", 2) - 1
