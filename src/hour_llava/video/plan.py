"""Which packets are decoded: from a table of packets and the wanted frames. Pure numpy.

N counts packets in decode order, R presented frames in presentation order. A wanted packet needs
the packets from the key frame before it; the rest of its GOP after the last wanted frame is
dropped, and packets that are not wanted are decoded only if others may refer to them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class PacketTable:
    """What the demux pass learned of the packets of one video stream, in decode order.

    `has_own_times` is False where the container stores no presentation times (raw streams, H.264
    in AVI): then `pts_N` are times in order of presentation, to be matched with the frames as the
    decoder puts them out. `needs_flush_N` marks key packets that only a flushed decoder takes for
    a new start (recovery points of H.264). `is_reference_N` is None where packets do not say
    whether others refer to them, and only the decoder can skip those that are not needed.
    `has_skippable_leads`: the frames after a key frame never refer to its leading pictures, and
    bear their absence (HEVC).
    """

    time_base: Fraction
    has_own_times: bool
    pts_N: Ints
    dts_N: Ints
    pos_N: Ints
    size_N: Ints
    duration_N: Ints
    is_key_N: Flags
    is_presented_N: Flags
    needs_flush_N: Flags
    is_reference_N: Flags | None = None
    has_skippable_leads: bool = False

    def __len__(self) -> int:
        return len(self.pts_N)

    @cached_property
    def first_pts(self) -> int:
        return int(self.pts_N[self.is_presented_N].min())

    @property
    def last_pts(self) -> int:
        return int(self.pts_N[self.is_presented_N].max())

    def presentation_order(self) -> Ints:
        """List the presented packets by time; of equal times the later packet comes later."""
        presented = np.flatnonzero(self.is_presented_N)
        return presented[np.argsort(self.pts_N[presented], kind="stable")]

    def seconds(self, number: int) -> Fraction:
        """Give the exact time of a packet after the first presented frame."""
        return (int(self.pts_N[number]) - self.first_pts) * self.time_base


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodePlan:
    """Which packets are fed to the decoder, and which of them must be decoded whatever they are."""

    keep_N: Flags
    wanted_N: Flags

    @property
    def first(self) -> int:
        """The first packet that is fed: a key frame, unless the stream has none before it."""
        return int(np.argmax(self.keep_N))

    @property
    def last(self) -> int:
        return len(self.keep_N) - 1 - int(np.argmax(self.keep_N[::-1]))


def plan_packets(table: PacketTable, wanted: Iterable[int]) -> DecodePlan:
    """Choose the packets to decode for the wanted ones.

    Where the container has no times every packet is wanted: only the order of all frames tells.

    Returns:
        Masks over the packets; `wanted` is a subset of `keep`.
    """
    wanted_N = np.zeros(len(table), np.bool_)
    if not table.has_own_times:
        wanted_N[:] = True
        return DecodePlan(keep_N=wanted_N, wanted_N=wanted_N)
    keep_N = np.zeros(len(table), np.bool_)
    numbers = np.unique(np.fromiter(wanted, np.int64))
    wanted_N[numbers] = True
    keys_K = np.flatnonzero(table.is_key_N)
    for number in numbers.tolist():
        keep_N[entry_packet(table, keys_K, number) : number + 1] = True
    if table.has_skippable_leads:
        keep_N &= ~_leads_not_needed(table, keys_K, wanted_N)
    if table.is_reference_N is not None:
        keep_N &= table.is_reference_N | wanted_N
    return DecodePlan(keep_N=keep_N, wanted_N=wanted_N)


def _leads_not_needed(table: PacketTable, keys_K: Ints, wanted_N: Flags) -> Flags:
    """Mark the leading pictures of key frames whose leading pictures nobody wants."""
    gop_N = np.cumsum(table.is_key_N) - 1
    is_lead_N = (gop_N >= 0) & (table.pts_N < table.pts_N[keys_K[gop_N]])
    needs_leads_K = np.zeros(len(keys_K), np.bool_)
    needs_leads_K[gop_N[is_lead_N & wanted_N]] = True
    return is_lead_N & ~needs_leads_K[gop_N]


def entry_packet(table: PacketTable, keys_K: Ints, number: int) -> int:
    """Find the key packet from which a packet can be decoded (0 where the stream has none).

    A frame shown before the key frame that precedes it in the file (a leading picture of an open
    GOP) may refer to the GOP before: it is entered one key frame earlier.
    """
    rank = int(np.searchsorted(keys_K, number, side="right")) - 1
    if rank >= 0 and table.pts_N[number] < table.pts_N[keys_K[rank]]:
        rank -= 1
    return int(keys_K[rank]) if rank >= 0 else 0


def next_entry(table: PacketTable, number: int) -> int:
    """Find the first key packet after a packet; the length of the table where there is none."""
    later = np.flatnonzero(table.is_key_N[number + 1 :])
    return number + 1 + int(later[0]) if len(later) else len(table)
