"""When to ask a store that fails: not at all until it has answered a question that no request waits for. Pure."""

from __future__ import annotations

_FAILURES = 3
"""In a row; fewer are taken for accidents."""
_FIRST_WAIT_NS = 1_000_000_000
_LONGEST_WAIT_NS = 30_000_000_000


class Breaker:
    """Open while a store is taken for dead: requests then do without it.

    Attributes:
        open: whether it is.
    """

    __slots__ = ("_failures", "_probe_ns", "_wait_ns", "open")

    def __init__(self) -> None:
        self.open = False
        self._failures = 0
        self._wait_ns = _FIRST_WAIT_NS
        self._probe_ns = 0

    def succeeded(self) -> None:
        """The store answered."""
        self.open = False
        self._failures = 0
        self._wait_ns = _FIRST_WAIT_NS

    def failed(self, now_ns: int) -> None:
        """It did not, or not in time."""
        self._failures += 1
        if self.open:
            self._wait_ns = min(2 * self._wait_ns, _LONGEST_WAIT_NS)
        if self._failures >= _FAILURES:
            self.open = True
            self._probe_ns = now_ns + self._wait_ns

    def probe_due(self, now_ns: int) -> bool:
        """Whether to ask it now whether it is back; if so, not again before the answer or the next wait is over."""
        if not self.open or now_ns < self._probe_ns:
            return False
        self._probe_ns = now_ns + self._wait_ns
        return True
