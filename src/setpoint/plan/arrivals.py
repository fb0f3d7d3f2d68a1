"""When requests arrive: schedules that are made before the run, from a seed. Pure.

The load generator sends at these times and the simulator feeds its scheduler with them, so both see the same traffic.
A schedule is an array of nanoseconds since the start, ascending, int64, all below the duration.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from enum import StrEnum

import msgspec
import numpy as np
from numpy.typing import NDArray

from setpoint.core import InvalidConfiguration

Schedule = NDArray[np.int64]
NS_PER_S = 1_000_000_000

BURST_FACTOR = 3.0
BURST_SHARE = 0.2
"""Share of the time at the high rate; the low rate is what keeps the mean: half of it for a factor of 3."""
BURST_MEAN_S = 0.5
"""Mean length of a burst; a run of 30 s sees about twelve."""
MOST_ARRIVALS = 200_000_000
"""A longer schedule would not fit into memory; 55 hours at 1000/s."""

_EXPECTED = "poisson, gamma:CV such as gamma:3, burst, burst:FACTOR, constant or a file such as schedule.csv"


class ArrivalKind(StrEnum):
    """The law of the gaps between arrivals."""

    POISSON = "poisson"
    GAMMA = "gamma"
    BURST = "burst"
    CONSTANT = "constant"
    RECORDED = "recorded"


class Arrivals(msgspec.Struct, frozen=True):
    """A law of arrivals, without a rate.

    Attributes:
        kind: which law.
        parameter: gamma: coefficient of variation of the gaps (1 is Poisson, more is burstier); burst: how many times
            the mean rate a burst has, 1 to 5; otherwise 0.
        times_ns: of a recorded schedule; empty otherwise.
        name: as the user wrote it.
    """

    kind: ArrivalKind
    parameter: float = 0.0
    times_ns: tuple[int, ...] = ()
    name: str = ""

    def __str__(self) -> str:
        return self.name or (f"{self.kind}:{self.parameter:g}" if self.parameter else str(self.kind))

    @property
    def recorded_rate_per_s(self) -> float:
        """Mean rate of a recorded schedule; 0 for the other kinds."""
        if len(self.times_ns) < 2 or self.times_ns[-1] == 0:
            return 0.0
        return (len(self.times_ns) - 1) * NS_PER_S / (self.times_ns[-1] - self.times_ns[0])


def parse_arrivals(text: str) -> Arrivals:
    """Read ``poisson``, ``gamma:3``, ``burst``, ``burst:4`` or ``constant``.

    Raises:
        InvalidConfiguration: it is none of these, or the number is impossible.
    """
    word, _, number = text.strip().lower().partition(":")
    if word not in {*ArrivalKind} - {ArrivalKind.RECORDED} or (number and word in ("poisson", "constant")):
        raise InvalidConfiguration(f"arrivals {text!r} are not understood; expected {_EXPECTED}")
    kind = ArrivalKind(word)
    if kind in (ArrivalKind.POISSON, ArrivalKind.CONSTANT):
        return Arrivals(kind)
    try:
        parameter = float(number) if number else BURST_FACTOR
    except ValueError:
        parameter = math.nan
    highest = 1 / BURST_SHARE if kind is ArrivalKind.BURST else 100.0
    lowest = 1.0 if kind is ArrivalKind.BURST else 0.01
    if not lowest <= parameter <= highest:
        raise InvalidConfiguration(
            f"arrivals {text!r}: expected a number from {lowest:g} to {highest:g} after the colon"
        )
    return Arrivals(kind, parameter)


def parse_schedule(text: str, name: str = "schedule") -> Arrivals:
    """Read a recorded schedule: CSV whose first column is the seconds since the start; one header line is allowed.

    Raises:
        InvalidConfiguration: no times, or times that are not numbers, negative, or not ascending.
    """
    times: list[int] = []
    for number, row in enumerate(csv.reader(text.splitlines()), 1):
        if not row or not row[0].strip():
            continue
        try:
            seconds = float(row[0])
        except ValueError:
            if number == 1:
                continue
            seconds = math.nan
        if not 0 <= seconds < math.inf or (times and round(seconds * NS_PER_S) < times[-1]):
            raise InvalidConfiguration(
                f"{name} line {number}: expected seconds since the start in the first column, ascending, got {row[0]!r}"
            )
        times.append(round(seconds * NS_PER_S))
    if not times:
        raise InvalidConfiguration(f"{name} holds no times; expected one arrival a line, in seconds since the start")
    return Arrivals(ArrivalKind.RECORDED, times_ns=tuple(times), name=name)


def make_schedule(arrivals: Arrivals, rate_per_s: float, duration_s: float, seed: int) -> Schedule:
    """Draw the arrivals of one run; equal arguments give equal schedules.

    Args:
        arrivals: the law.
        rate_per_s: mean rate. A recorded schedule is stretched or squeezed to it; 0 leaves it as recorded.
        duration_s: arrivals lie in ``[0, duration_s)``. A recorded schedule may end earlier; it is not repeated.
        seed: of the random numbers.

    Raises:
        InvalidConfiguration: rate or duration is not above 0, or there would be too many arrivals.
    """
    recorded = arrivals.kind is ArrivalKind.RECORDED
    if not (0 < rate_per_s < math.inf or (recorded and rate_per_s == 0)) or not 0 < duration_s < math.inf:
        raise InvalidConfiguration(f"rate and time must be above 0, got {rate_per_s:g}/s for {duration_s:g} s")
    if rate_per_s * duration_s > MOST_ARRIVALS:
        raise InvalidConfiguration(
            f"{rate_per_s:g}/s for {duration_s:g} s is {rate_per_s * duration_s:,.0f} arrivals; most {MOST_ARRIVALS:,}"
        )
    random = np.random.default_rng(seed)
    match arrivals.kind:
        case ArrivalKind.CONSTANT:
            times_s = np.arange(math.ceil(rate_per_s * duration_s)) / rate_per_s
        case ArrivalKind.POISSON:
            times_s = _renewal(random.standard_exponential, rate_per_s, duration_s)
        case ArrivalKind.GAMMA:
            shape = arrivals.parameter**-2  # a gamma law of mean 1 has the coefficient of variation shape ** -0.5
            times_s = _renewal(lambda count: random.gamma(shape, 1 / shape, count), rate_per_s, duration_s)
        case ArrivalKind.BURST:
            times_s = _burst(random, arrivals.parameter, rate_per_s, duration_s)
        case ArrivalKind.RECORDED:
            own = arrivals.recorded_rate_per_s
            stretch = own / rate_per_s if rate_per_s and own else 1.0
            times_s = np.asarray(arrivals.times_ns, np.float64) * (stretch / NS_PER_S)
    times_ns: Schedule = np.round(times_s * NS_PER_S).astype(np.int64)
    return times_ns[times_ns < round(duration_s * NS_PER_S)]


def _renewal(gaps: Callable[[int], NDArray[np.float64]], rate_per_s: float, duration_s: float) -> NDArray[np.float64]:
    """Arrivals with independent gaps of mean ``1 / rate_per_s``; ``gaps(count)`` draws some of mean 1."""
    chunk = max(64, math.ceil(rate_per_s * duration_s * 1.1))
    parts: list[NDArray[np.float64]] = []
    reached_s = 0.0
    while reached_s < duration_s:
        times_s = reached_s + np.cumsum(gaps(chunk)) / rate_per_s
        parts.append(times_s)
        reached_s = float(times_s[-1])
    return np.concatenate(parts)


def _burst(random: np.random.Generator, factor: float, rate_per_s: float, duration_s: float) -> NDArray[np.float64]:
    """A Poisson process whose rate has two states with exponential stays (a two-state MMPP)."""
    low = (1 - factor * BURST_SHARE) / (1 - BURST_SHARE)
    stays_s = (BURST_MEAN_S * (1 - BURST_SHARE) / BURST_SHARE, BURST_MEAN_S)
    # Start as at a random moment of a long run: otherwise short runs would hold fewer bursts than the mean says.
    high = bool(random.random() < BURST_SHARE)
    parts: list[NDArray[np.float64]] = []
    now_s = 0.0
    while now_s < duration_s:
        stay_s = float(random.exponential(stays_s[high]))
        count = int(random.poisson(rate_per_s * (factor if high else low) * stay_s))
        parts.append(now_s + np.sort(random.random(count)) * stay_s)
        now_s += stay_s
        high = not high
    return np.concatenate(parts)
