"""The plan feeds the decoder what the wanted frames need, and little else."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from hour_llava.video.damage import DamageLog
from hour_llava.video.plan import PacketTable, entry_packet, next_entry, plan_packets


def table_of(
    pts: Sequence[int],
    keys: Sequence[int],
    references: Sequence[int] | None = None,
    *,
    has_own_times: bool = True,
    has_skippable_leads: bool = False,
) -> PacketTable:
    count = len(pts)
    times = np.array(pts, np.int64)

    def mask(numbers: Sequence[int]) -> np.ndarray:
        return np.isin(np.arange(count), numbers)

    return PacketTable(
        time_base=Fraction(1, 10),
        has_own_times=has_own_times,
        pts_N=times,
        dts_N=np.arange(count),
        pos_N=np.arange(count),
        size_N=np.ones(count, np.int64),
        duration_N=np.ones(count, np.int64),
        is_key_N=mask(keys),
        is_presented_N=np.ones(count, np.bool_),
        needs_flush_N=mask([]),
        is_reference_N=None if references is None else mask(references),
        has_skippable_leads=has_skippable_leads,
    )


def kept(table: PacketTable, *wanted: int) -> list[int]:
    return np.flatnonzero(plan_packets(table, wanted).keep_N).tolist()


def test_the_rest_of_a_gop_after_its_last_wanted_frame_is_dropped():
    table = table_of(range(12), keys=[0, 4, 8])
    assert kept(table, 5) == [4, 5]
    assert kept(table, 1, 9) == [0, 1, 8, 9]


def test_packets_nobody_refers_to_are_left_out():
    # I P b b P b b: packets 2, 3, 5, 6 are referred to by none.
    table = table_of([0, 3, 1, 2, 6, 4, 5], keys=[0], references=[0, 1, 4])
    assert kept(table, 5) == [0, 1, 4, 5]


def test_a_leading_picture_is_entered_one_key_frame_earlier():
    # An open GOP: key packet 4 is shown at 7, packets 5 and 6 before it.
    table = table_of([0, 1, 2, 3, 7, 5, 6, 8], keys=[0, 4])
    assert entry_packet(table, np.array([0, 4]), 5) == 0
    assert kept(table, 5) == [0, 1, 2, 3, 4, 5]
    assert kept(table, 7) == [4, 5, 6, 7]


def test_leading_pictures_are_left_out_where_the_codec_bears_it():
    table = table_of([0, 1, 2, 3, 7, 5, 6, 8], keys=[0, 4], has_skippable_leads=True)
    assert kept(table, 7) == [4, 7]
    assert kept(table, 5) == [0, 1, 2, 3, 4, 5]


def test_without_key_frames_everything_before_is_needed():
    assert kept(table_of(range(6), keys=[]), 3) == [0, 1, 2, 3]


def test_without_times_every_packet_is_decoded():
    plan = plan_packets(table_of(range(6), keys=[0, 3], has_own_times=False), [5])
    assert plan.keep_N.all() and plan.wanted_N.all()


def test_first_and_last_bound_what_is_fed():
    plan = plan_packets(table_of(range(12), keys=[0, 4, 8]), [6, 9])
    assert (plan.first, plan.last) == (4, 9)


def test_the_next_entry_is_a_key_packet_or_the_end():
    table = table_of(range(6), keys=[0, 3])
    assert [next_entry(table, n) for n in (0, 2, 3, 5)] == [3, 3, 6, 6]


def test_presentation_order_sorts_by_time_and_keeps_equal_times_in_file_order():
    assert table_of([0, 3, 1, 1], keys=[0]).presentation_order().tolist() == [0, 2, 3, 1]


def test_a_fault_spoils_the_rest_of_its_gop():
    log = DamageLog(table_of(range(12), keys=[0, 4, 8]))
    log.add(5, "broken")
    assert [log.touches(n) for n in (4, 5, 7, 8)] == [False, True, True, False]
    (span,) = log.spans()
    assert (span.start_seconds, span.end_seconds, span.reason) == (0.5, 0.8, "broken")


def test_a_fault_nobody_refers_to_spoils_itself_only():
    log = DamageLog(table_of([0, 3, 1, 2, 6, 4, 5], keys=[0], references=[0, 1, 4]))
    log.add(2, "broken")
    assert [n for n in range(7) if log.touches(n)] == [2]


def test_a_fault_reaches_the_leading_pictures_of_the_next_key_frame():
    log = DamageLog(table_of([0, 1, 2, 3, 7, 5, 6, 8], keys=[0, 4]))
    log.add(3, "broken")
    assert [n for n in range(8) if log.touches(n)] == [3, 5, 6]


def test_overlapping_damage_is_told_once_with_every_reason():
    log = DamageLog(table_of(range(12), keys=[0, 4, 8]))
    log.add(6, "one")
    log.add(5, "two", others_are_lost=True)
    log.add(9, "one")
    spans = [(s.start_seconds, s.end_seconds, s.reason) for s in log.spans()]
    assert spans == [(0.5, 0.8, "two; one"), (0.9, 1.2, "one")]
