"""A clock that only moves when told to."""

from __future__ import annotations


class SimulatedClock:
    """A ``core.Clock`` for tests and simulation."""

    def __init__(self, start_ns: int = 0) -> None:
        self._now_ns = start_ns

    def now_ns(self) -> int:
        """The current simulated time."""
        return self._now_ns

    def advance_ns(self, duration_ns: int) -> None:
        """Move time forward; never backwards."""
        if duration_ns < 0:
            raise ValueError(f"time does not go backwards: {duration_ns} ns")
        self._now_ns += duration_ns
