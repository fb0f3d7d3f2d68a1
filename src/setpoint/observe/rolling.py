"""A histogram of the last minute that is also one of all time, at the price of one: each value is counted once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from setpoint.observe.histogram import Histogram, merged

_SLOT_NS = 10_000_000_000
_SLOTS = 6


class RollingHistogram:
    """Histograms of the last six ten-second slots, and of everything before them.

    Values go into the newest slot alone; what leaves the last minute is added to the rest. Why not difference a
    histogram of all time against copies of it: sixty copies of some hundred buckets for every model.

    Attributes:
        add, add_all: count a value, or some; the newest slot's own methods, so that nothing is called on the way to it.
    """

    __slots__ = ("_before", "_next_ns", "_slots", "add", "add_all")

    def __init__(self) -> None:
        self._before = Histogram()
        self._slots: deque[Histogram] = deque([Histogram()])
        self._next_ns = 0
        self.add: Callable[..., None]
        self.add_all: Callable[[Sequence[int]], None]
        self._use_newest()

    def roll(self, now_ns: int) -> None:
        """Called about once a second: begins a new slot every ten."""
        if not self._next_ns:
            self._next_ns = now_ns + _SLOT_NS
        elif now_ns >= self._next_ns:
            # A gap longer than a slot (the machine slept) leaves empty slots, and at most a minute of them.
            missed = min(_SLOTS, 1 + (now_ns - self._next_ns) // _SLOT_NS)
            self._next_ns = max(self._next_ns + missed * _SLOT_NS, now_ns)
            for _ in range(missed):
                self._begin_slot()

    def _begin_slot(self) -> None:
        if len(self._slots) == _SLOTS:
            self._before.merge(self._slots.popleft())
        self._slots.append(Histogram())
        self._use_newest()

    def _use_newest(self) -> None:
        self.add, self.add_all = self._slots[-1].add, self._slots[-1].add_all

    def last_minute(self) -> Histogram:
        """Of the last 50 to 60 seconds."""
        return merged(self._slots)

    def all_time(self) -> Histogram:
        """Of everything since the start."""
        return merged((self._before, *self._slots))
