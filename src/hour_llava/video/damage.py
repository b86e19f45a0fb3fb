"""Which frames may be wrong: what went wrong at which packet, and how far it reaches."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from hour_llava.schema import DamagedSpan
from hour_llava.video.plan import PacketTable, next_entry


@dataclass(frozen=True, slots=True)
class _Fault:
    first: int
    end: int
    reason: str


class DamageLog:
    """Collects faults of packets; a fault spoils what is decoded from there to the next key frame.

    It spoils only its own frame if nothing refers to that. Without times of their own, frames
    after a fault may also stand at wrong times: there it reaches to the end of the file.
    """

    def __init__(self, table: PacketTable, missing: tuple[DamagedSpan, ...] = ()) -> None:
        self._table, self._missing = table, missing
        self._faults: list[_Fault] = []

    def add(self, number: int, reason: str, *, others_are_lost: bool = False) -> None:
        """Record that packet `number`, or also unseen ones around it, cannot be decoded."""
        end = self._end(number, is_alone=not others_are_lost)
        if not any(fault.first <= number and end <= fault.end for fault in self._faults):
            self._faults.append(_Fault(number, end, reason))

    def _end(self, number: int, *, is_alone: bool) -> int:
        table = self._table
        if not table.has_own_times:
            return len(table)
        is_unreferenced = table.is_reference_N is not None and not table.is_reference_N[number]
        return number + 1 if is_alone and is_unreferenced else next_entry(table, number)

    def touches(self, number: int) -> bool:
        """Tell whether the frame of packet `number` may be spoilt."""
        return any(f.first <= number and not self._is_past(number, f) for f in self._faults)

    def _is_past(self, number: int, fault: _Fault) -> bool:
        """Leading pictures of the next key frame still refer to what came before it."""
        if number < fault.end:
            return False
        is_key = self._table.is_key_N[fault.end]
        return not is_key or bool(self._table.pts_N[number] >= self._table.pts_N[fault.end])

    def spans(self) -> tuple[DamagedSpan, ...]:
        """List the damaged stretches of time, in order, overlapping ones merged."""
        spans = sorted([*self._missing, *map(self._span, self._faults)], key=_start)
        merged: list[DamagedSpan] = []
        for span in spans:
            if merged and span.start_seconds <= merged[-1].end_seconds:
                merged[-1] = _joined(merged[-1], span)
            else:
                merged.append(span)
        return tuple(merged)

    def _span(self, fault: _Fault) -> DamagedSpan:
        table = self._table
        spoilt = fault.first + np.flatnonzero(table.is_presented_N[fault.first : fault.end])
        if not len(spoilt):
            spoilt = np.array([fault.first])
        pts = table.pts_N[spoilt]
        first, last = int(spoilt[pts.argmin()]), int(spoilt[pts.argmax()])
        start = max(table.seconds(first), Fraction(0))
        end = table.seconds(last) + int(table.duration_N[last]) * table.time_base
        if fault.end < len(table) and table.is_key_N[fault.end]:
            end = max(end, table.seconds(fault.end))
        return DamagedSpan(
            start_seconds=float(start), end_seconds=float(max(start, end)), reason=fault.reason
        )


def _start(span: DamagedSpan) -> float:
    return span.start_seconds


def _joined(first: DamagedSpan, second: DamagedSpan) -> DamagedSpan:
    is_new = second.reason not in first.reason
    return DamagedSpan(
        start_seconds=first.start_seconds,
        end_seconds=max(first.end_seconds, second.end_seconds),
        reason=f"{first.reason}; {second.reason}" if is_new else first.reason,
    )
