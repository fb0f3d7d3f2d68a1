"""Which variants the present load could be served with all the time, said without flapping."""

from __future__ import annotations

from collections.abc import Sequence

from setpoint.scheduling.terms import ObjectiveTerms


class Sustained:
    """Left at once when the load is too high, returned to only after it has been clearly lower for a while.

    Attributes:
        holds: for each variant, whether it could hold the load.
    """

    __slots__ = ("_low_since_ns", "_terms", "holds")

    def __init__(self, terms: ObjectiveTerms) -> None:
        self._terms = terms
        self.holds = [True] * len(terms.variants)
        self._low_since_ns = [0] * len(terms.variants)

    def judge(self, use: Sequence[float], now_ns: int) -> None:
        """Take in the present load.

        Args:
            use: for each variant, demand as a share of what it can hold.
        """
        terms = self._terms
        for index, share in enumerate(use):
            if share > terms.leave_above:
                self.holds[index] = False
            if share >= terms.return_below:
                self._low_since_ns[index] = now_ns
            elif now_ns - self._low_since_ns[index] >= terms.return_after_ns:
                self.holds[index] = True
