"""How late the node's event loop is: the time from when it should have woken to when it did."""

from __future__ import annotations

from setpoint.observe.histogram import LATENCY_BOUNDS_NS, Percentiles
from setpoint.observe.prometheus import Family, Sample
from setpoint.observe.rolling import RollingHistogram

_MOST_AT_ONCE = 4000


class LoopLag:
    """Lags of a beat with a fixed period.

    A beat that the loop slept through counts as well, with the lag that it had when the loop woke: otherwise a loop
    that stood still for a second would show one bad value among hundreds of good ones.
    """

    __slots__ = ("_due_ns", "_lag_ns", "_period_ns")

    def __init__(self, first_ns: int, period_ns: int) -> None:
        """``first_ns`` is when the first beat is due."""
        self._due_ns = first_ns
        self._period_ns = period_ns
        self._lag_ns = RollingHistogram()

    def woke(self, now_ns: int) -> None:
        """The loop runs: counts every beat that was due by now."""
        add, period_ns = self._lag_ns.add, self._period_ns
        due_ns = self._due_ns
        if now_ns - due_ns > _MOST_AT_ONCE * period_ns:
            due_ns = now_ns - _MOST_AT_ONCE * period_ns  # the machine itself slept
        while due_ns <= now_ns:
            add(now_ns - due_ns)
            due_ns += period_ns
        self._due_ns = due_ns
        self._lag_ns.roll(now_ns)

    def last_minute(self) -> Percentiles | None:
        """Of the last minute; None before the first beat."""
        return self._lag_ns.last_minute().percentiles()

    def families(self) -> list[Family]:
        """Of all time, as series."""
        buckets = self._lag_ns.all_time().buckets(LATENCY_BOUNDS_NS)
        return [
            Family(
                "setpoint_event_loop_lag_seconds",
                "histogram",
                "How late the node's event loop woke, measured with a beat of a kernel timer.",
                (Sample({}, buckets, 1e-9),),
            )
        ]
