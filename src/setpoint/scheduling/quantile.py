"""A quantile of the last so many values."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque


class RollingQuantile:
    """The value below which a share of the last ``window`` values lies.

    It starts filled to a part with a prior, so that the first odd value does not speak for all.
    """

    __slots__ = ("_ascending", "_latest", "_share", "_weight", "_window", "value")

    def __init__(self, share: float, window: int, prior: float, weight: int) -> None:
        """Begin as if ``prior`` had been seen ``weight`` times.

        Args:
            share: 0 to 1, such as 0.95.
        """
        self._share = share
        self._window = window
        self._weight = weight
        self._latest: deque[float]
        self._ascending: list[float]
        self.restart(prior)

    def restart(self, prior: float) -> None:
        """Forget all, and begin again."""
        self._latest = deque([prior] * self._weight)
        self._ascending = [prior] * self._weight
        self.value = prior

    @property
    def median(self) -> float:
        """The value below which half of them lie."""
        return self._ascending[len(self._ascending) // 2]

    def share_within(self, most: float) -> float:
        """Which share of the values is at most this."""
        return bisect_right(self._ascending, most) / len(self._ascending)

    def add(self, value: float) -> None:
        """Take in a value; the oldest one beyond the window is forgotten."""
        latest, ascending = self._latest, self._ascending
        latest.append(value)
        insort(ascending, value)
        if len(latest) > self._window:
            del ascending[bisect_left(ascending, latest.popleft())]
        self.value = ascending[int(self._share * (len(ascending) - 1) + 0.5)]
