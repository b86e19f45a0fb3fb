"""Whether decoding can start afresh at an H.264 key packet. Reads a few bytes, decodes nothing.

Containers and parsers also call a packet "key" where a picture is refreshed bit by bit over the
next seconds (periodic intra refresh); cutting there would give wrong pixels.
"""

from __future__ import annotations

from collections.abc import Iterator

SLICE, IDR_SLICE, SEI = 1, 5, 6
RECOVERY_POINT = 6
MAX_SEI_BYTES = 4096


def is_clean_entry(packet: memoryview, extradata: bytes) -> bool:
    """Tell whether a key packet refers to nothing before it.

    Returns:
        True for an IDR picture, or a recovery point that is reached at once.
    """
    for unit in _nal_units(packet, extradata):
        kind = unit[0] & 31
        if kind == IDR_SLICE:
            return True
        if kind == SEI and _recovery_frame_count(bytes(unit[1:MAX_SEI_BYTES])) == 0:
            return True
        if kind == SLICE:
            return False
    return False


def _nal_units(packet: memoryview, extradata: bytes) -> Iterator[memoryview]:
    """Split a packet, written with lengths (avcC) or with start codes (Annex B)."""
    if extradata[:1] == b"\x01" and len(extradata) > 4:
        yield from _units_after_lengths(packet, (extradata[4] & 3) + 1)
    else:
        yield from _units_after_start_codes(bytes(packet))


def _units_after_lengths(packet: memoryview, length_bytes: int) -> Iterator[memoryview]:
    position = 0
    while position + length_bytes < len(packet):
        size = int.from_bytes(packet[position : position + length_bytes], "big")
        position += length_bytes
        if size:
            yield packet[position : position + size]
        position += size


def _units_after_start_codes(packet: bytes) -> Iterator[memoryview]:
    position = packet.find(b"\0\0\1")
    while 0 <= position < len(packet) - 3:
        following = packet.find(b"\0\0\1", position + 3)
        yield memoryview(packet)[position + 3 : following if following >= 0 else len(packet)]
        position = following


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
