"""How long simulated batches run, and the profile that somebody who measured them would have written."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from math import exp, log
from typing import Protocol

import numpy as np

from setpoint.core import InvalidConfiguration, LatencyPoint, Profile

PROFILED_ROWS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
_BLOCK = 4096
_PROFILE_SAMPLES = 2000
_Z95 = 1.6449


class RunTimes(Protocol):
    """One variant's run times."""

    def sample_ns(self, rows: int) -> int:
        """How long the next batch of so many rows runs."""
        ...


class AffineRunTimes:
    """``base + each · rows``, with log-normal noise and now and then a straggler."""

    def __init__(
        self,
        base_ms: float,
        each_ms: float,
        rng: np.random.Generator,
        *,
        sigma: float = 0.06,
        straggler_share: float = 0.01,
        straggler_factor: float = 1.6,
    ) -> None:
        """Set the law.

        Args:
            sigma: standard deviation of the logarithm; the mean is kept.
        """
        self._base_ns = base_ms * 1e6
        self._each_ns = each_ms * 1e6
        self._sigma = sigma
        self._straggler_share = straggler_share
        self._straggler_factor = straggler_factor
        self._factors = self._draw(rng)

    def _draw(self, rng: np.random.Generator) -> Iterator[float]:
        exact = self._sigma == 0 and self._straggler_share == 0
        while True:
            if exact:
                yield 1.0
                continue
            factors = np.exp(rng.normal(-(self._sigma**2) / 2, self._sigma, _BLOCK))
            stragglers = rng.random(_BLOCK) < self._straggler_share
            yield from np.where(stragglers, factors * self._straggler_factor, factors).tolist()

    def sample_ns(self, rows: int) -> int:
        """How long the next batch runs."""
        return round((self._base_ns + self._each_ns * rows) * next(self._factors))

    def profile(self, name: str, rng: np.random.Generator) -> Profile:
        """What measuring it gives."""
        if self._sigma == 0 and self._straggler_share == 0:
            quantiles = np.ones(3)
        else:
            draws = self._draw(rng)
            quantiles = np.quantile([next(draws) for _ in range(_PROFILE_SAMPLES)], (0.5, 0.95, 0.99))
        points = []
        for rows in PROFILED_ROWS:
            p50_ms, p95_ms, p99_ms = ((self._base_ns + self._each_ns * rows) / 1e6 * quantiles).tolist()
            points.append(LatencyPoint(rows, p50_ms, p95_ms, p99_ms, _PROFILE_SAMPLES))
        return Profile(name, 1, "simulated", tuple(points), 0, 0.0, 0.0)


class MeasuredRunTimes:
    """Run times drawn from a profile: log-normal through its p50 and p95, and its p99 for the slowest hundredth."""

    def __init__(self, profile: Profile, rng: np.random.Generator) -> None:
        self._points = profile.latency
        self._rows = [point.rows for point in profile.latency]
        self._draws = self._draw(rng)

    @staticmethod
    def _draw(rng: np.random.Generator) -> Iterator[tuple[float, float]]:
        while True:
            yield from zip(rng.normal(0.0, 1.0, _BLOCK).tolist(), rng.random(_BLOCK).tolist(), strict=True)

    def sample_ns(self, rows: int) -> int:
        """How long the next batch runs."""
        p50_ms, p95_ms, p99_ms = self._at(rows)
        normal, tail = next(self._draws)
        if tail < 0.01:
            return round(p99_ms * 1e6)
        return round(p50_ms * 1e6 * exp(normal * log(max(1.0, p95_ms / p50_ms)) / _Z95))

    def _at(self, rows: int) -> tuple[float, float, float]:
        index = bisect_left(self._rows, rows)
        if index == len(self._rows):
            last = self._points[-1]
            stretch = rows / last.rows
            return last.p50_ms * stretch, last.p95_ms * stretch, last.p99_ms * stretch
        above = self._points[index]
        if above.rows == rows or index == 0:
            return above.p50_ms, above.p95_ms, above.p99_ms
        below = self._points[index - 1]
        share = (rows - below.rows) / (above.rows - below.rows)
        return (
            below.p50_ms + share * (above.p50_ms - below.p50_ms),
            below.p95_ms + share * (above.p95_ms - below.p95_ms),
            below.p99_ms + share * (above.p99_ms - below.p99_ms),
        )


_LAW = re.compile(r"\s*(\d+(?:\.\d+)?)\s*\+\s*(\d+(?:\.\d+)?)\s*\*?\s*b\s*(us|ms|s)\s*")
_MS_BY_UNIT = {"us": 1e-3, "ms": 1.0, "s": 1e3}


def parse_law(text: str) -> tuple[float, float]:
    """Read ``2+8b ms``: milliseconds for any batch, and milliseconds more for each of its rows.

    Raises:
        InvalidConfiguration: it is not understood.
    """
    match = _LAW.fullmatch(text)
    if match is None or float(match[1]) + float(match[2]) <= 0:
        raise InvalidConfiguration(f"law {text!r} is not understood; expected such as '2+8b ms': base, then per row")
    unit = _MS_BY_UNIT[match[3]]
    return float(match[1]) * unit, float(match[2]) * unit
