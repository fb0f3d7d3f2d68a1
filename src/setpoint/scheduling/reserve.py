"""Time kept back at admission, so that what is let in is neither given up later nor late: learned from what was."""

from __future__ import annotations

from typing import Final

_FIRST_SHARE: Final = 0.1
"""Of the bound, while nothing is learned."""
_STEP_SHARE: Final = 0.01
"""Of the bound, for each request that was given up after it had waited."""
_LATE_SHARE: Final = 0.003
"""How many of the refusals may come late."""
_LATE_ANSWERS: Final = 0.002
"""How many of the answers may come late."""
_LATE_PER_BOUND: Final = 0.015
"""And so many at any rate in as much time as the bound: what happens that seldom is no reason for caution."""
_MOST_SHARE: Final = 0.65
"""Of the time that a request has beyond a batch's run: with less to wait in, batches would not fill."""


class Reserve:
    """Grows with every late refusal or answer, and shrinks by as much as late ones there may be.

    No prediction is right of all machines: what stalls, who shares its cores and how batches fill up is seen only in
    what came of it. A late refusal costs its client the wait, and its queue nothing; an early one is made up for by the
    next request where more is asked for than can be held, so there the reserve costs little.

    Attributes:
        ns: kept back of the time that a new request has.
        refused_early: at admission, since the last ``relax``.
        answered: in time or not, since the last ``relax``.
    """

    __slots__ = ("_bound_ns", "_most_ns", "_step_ns", "answered", "ns", "refused_early")

    def __init__(self, bound_ns: int) -> None:
        """Begin with some, for requests that have ``bound_ns``."""
        self._bound_ns = bound_ns
        self._step_ns = _STEP_SHARE * bound_ns
        self._most_ns = float(bound_ns)
        self.ns = _FIRST_SHARE * bound_ns
        self.refused_early = self.answered = 0

    def was_late(self) -> None:
        """A request was let in, waited, and is given up, or answered too late."""
        self.ns = min(self.ns + self._step_ns, self._most_ns)

    def relax(self, elapsed_ns: int, spare_ns: float) -> None:
        """Some time has passed.

        Args:
            spare_ns: what a request has beyond the run of a batch, if it need not wait.
        """
        allowed = _LATE_SHARE * self.refused_early + _LATE_ANSWERS * self.answered
        allowed += _LATE_PER_BOUND * elapsed_ns / self._bound_ns
        self.refused_early = self.answered = 0
        self._most_ns = max(0.0, _MOST_SHARE * spare_ns)
        self.ns = min(max(0.0, self.ns - allowed * self._step_ns), self._most_ns)
