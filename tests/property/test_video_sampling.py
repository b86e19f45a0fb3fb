"""Ticks and plans hold for any video and any rate."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hour_llava.schema import Sampling
from hour_llava.video.plan import PacketTable, plan_packets
from hour_llava.video.sampling import frames_at_ticks, make_ticks

TIME_BASES = st.sampled_from(
    [Fraction(1, 1000), Fraction(1, 90000), Fraction(1001, 30000), Fraction(1, 12800)]
)
RATES = st.one_of(
    st.floats(0.01, 240), st.sampled_from([1.0, 23.976, 24000 / 1001, 1 / 3, 0.1, 29.97])
)


@settings(max_examples=60, deadline=None)
@given(
    gaps=st.lists(st.integers(0, 4000), min_size=1, max_size=60),
    first_pts=st.integers(-(10**6), 2**40),
    time_base=TIME_BASES,
    fps=RATES,
    start_share=st.floats(0, 0.99),
)
def test_every_tick_shows_the_last_frame_that_is_not_later(
    gaps: list[int], first_pts: int, time_base: Fraction, fps: float, start_share: float
):
    pts = [first_pts]
    for gap in gaps:
        pts.append(pts[-1] + gap)
    last = (pts[-1] - first_pts) * time_base
    sampling = Sampling(fps=fps, start_seconds=float(last) * start_share)
    ticks = make_ticks(sampling, last_seconds=last, duration_seconds=last + time_base)
    ticks = ticks if ticks.count <= 2000 else make_ticks(
        Sampling(fps=1.0), last_seconds=last, duration_seconds=last + time_base
    )  # fmt: skip

    found = frames_at_ticks(ticks, pts, first_pts=first_pts, time_base=time_base)

    assert len(found) == ticks.count >= 1
    for index, position in enumerate(found):
        tick = ticks.seconds(index)
        assert (pts[position] - first_pts) * time_base <= tick
        assert position + 1 == len(pts) or (pts[position + 1] - first_pts) * time_base > tick


@settings(max_examples=60, deadline=None)
@given(data=st.data(), count=st.integers(1, 80))
def test_what_is_wanted_is_kept_with_all_references_since_its_key_frame(
    data: st.DataObject, count: int
):
    flags = st.lists(st.booleans(), min_size=count, max_size=count)
    is_key_N = np.array(data.draw(flags))
    is_reference_N = np.array(data.draw(flags)) | is_key_N
    wanted = data.draw(st.sets(st.integers(0, count - 1), min_size=1))
    table = PacketTable(
        time_base=Fraction(1, 10),
        has_own_times=True,
        pts_N=np.arange(count),
        dts_N=np.arange(count),
        pos_N=np.arange(count),
        size_N=np.ones(count, np.int64),
        duration_N=np.ones(count, np.int64),
        is_key_N=is_key_N,
        is_presented_N=np.ones(count, np.bool_),
        needs_flush_N=np.zeros(count, np.bool_),
        is_reference_N=is_reference_N,
    )

    keep_N = plan_packets(table, wanted).keep_N

    for number in wanted:
        assert keep_N[number]
        for before in range(number - 1, -1, -1):
            if is_key_N[before + 1]:
                break
            assert keep_N[before] or not is_reference_N[before]
    assert not keep_N[max(wanted) + 1 :].any()
