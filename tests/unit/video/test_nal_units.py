"""A few bytes tell where decoding can start and which packets nobody refers to."""

from __future__ import annotations

import pytest

from hour_llava.video.nal_units import Entry, NalUnits

AVCC = bytes([1, 100, 0, 31, 0xFF])  # lengths of four bytes
HVCC = bytes([1] * 21 + [0xFF])
IDR, SLICE, UNREFERENCED = b"\x65\x88\x84", b"\x41\x9a\x02", b"\x01\x9e\x03"
RECOVERY_NOW = b"\x06\x06\x01\xc4\x80"  # payload 6, one byte, exp-golomb 0
RECOVERY_LATER = b"\x06\x06\x01\x2c\x80"  # exp-golomb 4


def with_lengths(*units: bytes) -> bytes:
    return b"".join(len(unit).to_bytes(4, "big") + unit for unit in units)


def with_start_codes(*units: bytes) -> bytes:
    return b"".join(b"\0\0\0\1" + unit for unit in units)


@pytest.fixture(params=["lengths", "start codes"])
def h264(request: pytest.FixtureRequest):
    if request.param == "lengths":
        return NalUnits("h264", AVCC), with_lengths
    return NalUnits("h264", b""), with_start_codes


def test_an_idr_picture_is_a_clean_entry(h264):
    units, join = h264
    assert units.entry(join(b"\x09\xf0", b"\x67\x64\x00", IDR)) is Entry.CLEAN


def test_a_recovery_point_reached_at_once_needs_a_flushed_decoder(h264):
    units, join = h264
    assert units.entry(join(RECOVERY_NOW, SLICE)) is Entry.FLUSHED


def test_a_slow_refresh_is_no_entry(h264):
    units, join = h264
    assert units.entry(join(RECOVERY_LATER, SLICE)) is Entry.NONE
    assert units.entry(join(SLICE)) is Entry.NONE


def test_unreferenced_slices_are_told_from_references(h264):
    units, join = h264
    assert units.layer_above_references(join(b"\x09\xf0", UNREFERENCED)) == 0
    assert units.layer_above_references(join(SLICE)) is None
    assert units.layer_above_references(join(b"\x09\xf0")) is None


def test_hevc_tells_unreferenced_pictures_and_their_layer():
    units = NalUnits("hevc", HVCC)
    trail_n, trail_r, cra = b"\x00\x03\x80", b"\x02\x01\x80", b"\x2a\x01\x80"
    assert units.layer_above_references(with_lengths(trail_n)) == 3
    assert units.layer_above_references(with_lengths(trail_r)) is None
    assert units.layer_above_references(with_lengths(cra)) is None
    assert units.entry(with_lengths(cra)) is Entry.CLEAN


def test_units_must_fill_their_packet():
    units = NalUnits("h264", AVCC)
    assert units.is_intact(with_lengths(SLICE, SLICE))
    assert not units.is_intact(with_lengths(SLICE)[:-1])
    assert not units.is_intact(with_lengths(SLICE) + b"\0")
    assert not units.is_intact(b"\x41\x9a\x02\x03\x04")


def test_unwritten_stretches_are_seen_and_padding_is_not():
    units = NalUnits("h264", AVCC)
    assert not units.is_intact(with_lengths(SLICE + bytes(40) + b"\x17"))
    assert units.is_intact(with_lengths(SLICE + b"\x17" + bytes(3)))
    assert units.is_intact(with_lengths(b"\x06\x05\x10" + bytes(40), SLICE))
    annex_b = NalUnits("h264", b"")
    assert not annex_b.is_intact(with_start_codes(SLICE + bytes(40) + b"\x17"))
    assert annex_b.is_intact(with_start_codes(SLICE) + bytes(40) + with_start_codes(SLICE))
    assert annex_b.is_intact(with_start_codes(SLICE) + bytes(40))


@pytest.mark.parametrize("junk", [b"", b"\0", b"\0\0\0\1", b"\xff" * 9, b"\0\0\0\5\x65"])
def test_junk_is_read_without_an_error(junk: bytes):
    for units in (NalUnits("h264", AVCC), NalUnits("h264", b""), NalUnits("hevc", HVCC)):
        units.entry(junk)
        units.layer_above_references(junk)
        units.is_intact(junk)
