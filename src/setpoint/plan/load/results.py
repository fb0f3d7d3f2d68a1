"""What a run measured, as records that become JSON, and the counting that leads to them. Pure."""

from __future__ import annotations

import msgspec

from setpoint.observe import Histogram, Percentiles, merged
from setpoint.plan.load.verdict import Verdict, judge

NS_PER_S = 1_000_000_000
LAG_LIMIT_SHARE = 0.05
"""A run is void when the generator's own p99 lag is beyond this share of the deadline."""


class Second(msgspec.Struct, frozen=True):
    """The requests that were *intended* for one second of the run.

    Attributes:
        second: since the end of the warm-up.
        offered: how many; the others are parts of it.
        attained: answered rightly within the deadline.
        late: answered rightly, after it.
        refused: 429 or 503.
        failed: without a right answer for any other reason.
        p50_ms: of right answers; None without any.
        p99_ms: of right answers; None without any.
    """

    second: int
    offered: int
    attained: int
    late: int
    refused: int
    failed: int
    p50_ms: float | None
    p99_ms: float | None


class Generator(msgspec.Struct, frozen=True):
    """What the generator did to the machine and to its own measurement.

    Attributes:
        cpu_s: processor time of its process during the run.
        share_of_core: of one core's time.
        share_of_machine: of the time of all cores that it may use.
        connections: opened during the run.
        lag: from the intended to the real send.
    """

    cpu_s: float
    share_of_core: float
    share_of_machine: float
    connections: int
    lag: Percentiles | None


class LoadResult(msgspec.Struct, frozen=True):
    """One run at one rate. Latencies count from the intended send time.

    Attributes:
        url: that was asked.
        target: protocol.
        arrivals: law of arrivals.
        rate_per_s: asked for.
        offered_per_s: what the schedule held.
        seconds: of the measured part.
        warm_up_s: before it, discarded.
        seed: of the schedule.
        deadline_ms: within which an answer counts.
        in_flight_limit: more requests at once are not sent and count as misses.
        offered: requests of the measured part.
        attained: answered rightly within the deadline.
        late: answered rightly after it.
        refused: answered 429 or 503.
        errors: kind → how many; every request is attained, late, refused or one of these.
        statuses: HTTP status → how many answers.
        attainment: attained / offered.
        goodput_per_s: attained per second.
        verdict: whether the target share is proven.
        latency: of right answers.
        refusal_latency: of refusals.
        generator: its cost and its lag.
        per_second: over time.
        histogram: of right answers: (highest ns of the bucket, how many).
        void: why the run measures nothing; None when it does.
        first_error: what the first wrong answer said; None without one.
    """

    url: str
    target: str
    arrivals: str
    rate_per_s: float
    offered_per_s: float
    seconds: float
    warm_up_s: float
    seed: int
    deadline_ms: float
    in_flight_limit: int
    offered: int
    attained: int
    late: int
    refused: int
    errors: dict[str, int]
    statuses: dict[int, int]
    attainment: float
    goodput_per_s: float
    verdict: Verdict
    latency: Percentiles | None
    refusal_latency: Percentiles | None
    generator: Generator
    per_second: tuple[Second, ...]
    histogram: list[tuple[int, int]]
    void: str | None = None
    first_error: str | None = None


class _SecondTally:
    __slots__ = ("attained", "failed", "late", "latency", "offered", "refused")

    def __init__(self) -> None:
        self.offered = self.attained = self.late = self.refused = self.failed = 0
        self.latency = Histogram()

    def record(self, second: int) -> Second:
        found = self.latency.percentiles()
        quantiles = (found.p50_ms, found.p99_ms) if found else (None, None)
        return Second(second, self.offered, self.attained, self.late, self.refused, self.failed, *quantiles)


class Tally:
    """Counts what becomes of the requests of one run. ``at_ns`` is the intended time since the end of the warm-up."""

    def __init__(self, deadline_ns: int, seconds: int) -> None:
        self._deadline_ns = deadline_ns
        self.seconds = [_SecondTally() for _ in range(seconds)]
        self.refusals = Histogram()
        self.lag = Histogram()
        self.errors: dict[str, int] = {}
        self.statuses: dict[int, int] = {}
        self.first_error: str | None = None
        self.settled = 0

    def offered(self, at_ns: int, lag_ns: int) -> None:
        """A request was due, and was handled ``lag_ns`` after that."""
        self.seconds[at_ns // NS_PER_S].offered += 1
        self.lag.add(lag_ns)

    def answered(self, at_ns: int, latency_ns: int) -> None:
        """It was answered rightly."""
        second = self.seconds[at_ns // NS_PER_S]
        second.latency.add(latency_ns)
        self.settled += 1
        if latency_ns <= self._deadline_ns:
            second.attained += 1
        else:
            second.late += 1

    def refused(self, at_ns: int, latency_ns: int) -> None:
        """It was answered 429 or 503."""
        self.seconds[at_ns // NS_PER_S].refused += 1
        self.refusals.add(latency_ns)
        self.settled += 1

    def failed(self, at_ns: int, kind: str, detail: str = "") -> None:
        """It has no right answer; ``kind`` is a stable word, ``detail`` for people."""
        self.seconds[at_ns // NS_PER_S].failed += 1
        self.errors[kind] = self.errors.get(kind, 0) + 1
        self.settled += 1
        if self.first_error is None:
            self.first_error = f"{kind}: {detail}" if detail else kind

    def status(self, status: int) -> None:
        """An answer with this HTTP status came."""
        self.statuses[status] = self.statuses.get(status, 0) + 1

    def second(self, number: int) -> Second:
        """One second, as far as it is known by now."""
        return self.seconds[number].record(number)

    def latency(self) -> Histogram:
        """Of all right answers."""
        return merged(second.latency for second in self.seconds)

    def void(self) -> str | None:
        """Why the run measures nothing, if it does not."""
        lag_ns, limit_ns = self.lag.quantile(0.99), LAG_LIMIT_SHARE * self._deadline_ns
        if lag_ns <= limit_ns:
            return None
        return (
            f"the generator's own p99 lag was {lag_ns / 1e6:.3g} ms, beyond {LAG_LIMIT_SHARE:.0%} of the deadline"
            f" ({limit_ns / 1e6:.3g} ms): send less, or give it cores of its own (taskset), a higher priority"
            " (nice -n -10) or another machine"
        )

    def totals(self, target: float) -> tuple[int, int, int, int, Verdict]:
        """Offered, attained, late, refused, and the verdict on them."""
        offered, attained, late, refused = (
            sum(getattr(second, name) for second in self.seconds) for name in ("offered", "attained", "late", "refused")
        )
        return offered, attained, late, refused, judge(offered, offered - attained, target)
