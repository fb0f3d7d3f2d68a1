"""The open loop: sends every request at its time, whatever became of those before it.

Why not "some clients that ask, wait and ask again": while the server stalls, they wait too, and the requests that a
real crowd would have sent meanwhile are missing from the result (coordinated omission). Here each is sent, and its
latency counts from when it was due.
"""

from __future__ import annotations

import array
import asyncio
import gc
import math
import resource
import time
from collections.abc import Callable

import msgspec
import uvloop

from setpoint.core import InvalidConfiguration
from setpoint.machine import read_machine
from setpoint.plan.arrivals import ArrivalKind, Arrivals, make_schedule
from setpoint.plan.load.alarm import Alarm
from setpoint.plan.load.results import NS_PER_S, Generator, LoadResult, Second, Tally
from setpoint.plan.load.transport import Target

_SENT_PER_TURN = 32
"""After so many in a row the loop looks at its sockets, even when more are due."""
_SWEEP_S = 0.05
_HEAD_START_NS = 50_000_000
_EXCERPT_BYTES = 300
REFUSALS = (429, 503, 504)
"""504 too: the server says itself that it will not make it, or did not."""


class LoadPlan(msgspec.Struct, frozen=True):
    """One run.

    Attributes:
        arrivals: law of arrivals.
        rate_per_s: mean rate.
        seconds: measured.
        warm_up_s: before them, Poisson at the same rate, discarded; 0 for none.
        deadline_s: within which an answer counts.
        timeout_s: an unanswered request is given up so long after it was due.
        in_flight_limit: most requests without an answer, and most connections.
        seed: of the schedule.
        target_share: share of requests that must be attained, for the verdict.
    """

    arrivals: Arrivals
    rate_per_s: float
    seconds: float
    deadline_s: float
    timeout_s: float
    warm_up_s: float = 1.0
    in_flight_limit: int = 1024
    seed: int = 1
    target_share: float = 0.99


Watch = Callable[[Second, int], None]
"""Called once a second with the last whole second and the requests in flight."""


def run_load(target: Target, plan: LoadPlan, watch: Watch | None = None) -> LoadResult:
    """Make one run, in this thread, on an event loop of its own.

    Raises:
        InvalidConfiguration: the schedule is impossible or has no arrivals.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_OpenLoop(target, plan, watch).run())


class _OpenLoop:
    def __init__(self, target: Target, plan: LoadPlan, watch: Watch | None) -> None:
        self._target = target
        self._plan = plan
        self._watch = watch
        self._warm_up_ns = round(plan.warm_up_s * NS_PER_S)
        measured = make_schedule(plan.arrivals, plan.rate_per_s, plan.seconds, plan.seed)
        if not len(measured):
            raise InvalidConfiguration(
                f"{plan.rate_per_s:g}/s for {plan.seconds:g} s has no arrivals; ask for more, or for longer"
            )
        rate_per_s = plan.rate_per_s or len(measured) / plan.seconds
        self._due_ns = array.array("q")
        if plan.warm_up_s > 0:
            warm_up = make_schedule(Arrivals(ArrivalKind.POISSON), rate_per_s, plan.warm_up_s, plan.seed + 1)
            self._due_ns.frombytes(warm_up.tobytes())
        self._first = len(self._due_ns)
        self._due_ns.frombytes((measured + self._warm_up_ns).tobytes())
        self._count = len(self._due_ns)
        self._tally = Tally(round(plan.deadline_s * NS_PER_S), math.ceil(plan.seconds))
        self._next = 0
        self._zero_ns = 0
        self._watched = 0

    async def run(self) -> LoadResult:
        loop = asyncio.get_running_loop()
        self._transport = self._target.open(loop, self._plan.in_flight_limit, self._done)
        self._alarm = Alarm(loop, self._send_due)
        # What is there already is not looked at again: a full collection would be a pause of milliseconds.
        gc.collect()
        gc.freeze()
        begun = resource.getrusage(resource.RUSAGE_SELF)
        begun_ns = time.monotonic_ns()
        self._zero_ns = begun_ns + _HEAD_START_NS
        self._alarm.set(self._zero_ns + self._due_ns[0])
        try:
            while self._next < self._count or self._transport.in_flight:
                await asyncio.sleep(_SWEEP_S)
                self._sweep()
        finally:
            self._alarm.close()
            self._transport.close()
            gc.unfreeze()
        ended = resource.getrusage(resource.RUSAGE_SELF)
        cpu_s = ended.ru_utime + ended.ru_stime - begun.ru_utime - begun.ru_stime
        return self._result(cpu_s, (time.monotonic_ns() - begun_ns) / NS_PER_S)

    def _send_due(self) -> None:
        due_ns, zero_ns, transport, requests = self._due_ns, self._zero_ns, self._transport, self._target.requests
        position = self._next
        for _ in range(_SENT_PER_TURN):
            if position >= self._count:
                break
            lag_ns = time.monotonic_ns() - zero_ns - due_ns[position]
            if lag_ns < 0:
                break
            sent = transport.send(position, position % requests)
            if position >= self._first:
                at_ns = due_ns[position] - self._warm_up_ns
                self._tally.offered(at_ns, lag_ns)
                if not sent:
                    self._tally.failed(at_ns, "overflow", f"{self._plan.in_flight_limit} requests were in flight")
            position += 1
        self._next = position
        if position < self._count:
            self._alarm.set(zero_ns + due_ns[position])

    def _done(self, token: int, status: int, body: bytes, failure: str) -> None:
        if token < self._first:
            return
        due_ns, tally = self._due_ns[token], self._tally
        latency_ns = time.monotonic_ns() - self._zero_ns - due_ns
        at_ns = due_ns - self._warm_up_ns
        if failure:
            tally.failed(at_ns, failure, _excerpt(body))
            return
        tally.status(status)
        if status in REFUSALS:
            tally.refused(at_ns, latency_ns)
        elif not 200 <= status < 300:
            tally.failed(at_ns, f"status_{status}", _excerpt(body))
        elif (wrong := self._target.check(body)) is not None:
            tally.failed(at_ns, "invalid", wrong)
        else:
            tally.answered(at_ns, latency_ns)

    def _sweep(self) -> None:
        """Give up on what waits too long, and let the watcher see."""
        now_ns = time.monotonic_ns() - self._zero_ns
        given_up_ns = now_ns - round(self._plan.timeout_s * NS_PER_S)
        while (token := self._transport.oldest()) is not None and self._due_ns[token] < given_up_ns:
            self._transport.abandon(token)
            if token >= self._first:
                at_ns = self._due_ns[token] - self._warm_up_ns
                self._tally.failed(at_ns, "timeout", f"no answer within {self._plan.timeout_s:g} s")
        whole = min((now_ns - self._warm_up_ns) // NS_PER_S, len(self._tally.seconds))
        if self._watch is not None and whole > self._watched:
            self._watched = whole
            self._watch(self._tally.second(whole - 1), self._transport.in_flight)

    def _result(self, cpu_s: float, wall_s: float) -> LoadResult:
        plan, tally = self._plan, self._tally
        offered, attained, late, refused, verdict = tally.totals(plan.target_share)
        latency = tally.latency()
        share = cpu_s / wall_s
        return LoadResult(
            url=self._target.url,
            target=self._target.name,
            arrivals=str(plan.arrivals),
            rate_per_s=plan.rate_per_s or offered / plan.seconds,
            offered_per_s=offered / plan.seconds,
            seconds=plan.seconds,
            warm_up_s=plan.warm_up_s,
            seed=plan.seed,
            deadline_ms=plan.deadline_s * 1e3,
            in_flight_limit=plan.in_flight_limit,
            offered=offered,
            attained=attained,
            late=late,
            refused=refused,
            errors=dict(sorted(tally.errors.items())),
            statuses=dict(sorted(tally.statuses.items())),
            attainment=attained / offered,
            goodput_per_s=attained / plan.seconds,
            verdict=verdict,
            latency=latency.percentiles(),
            refusal_latency=tally.refusals.percentiles(),
            generator=Generator(
                cpu_s, share, share / read_machine().cores, self._transport.opened, tally.lag.percentiles()
            ),
            per_second=tuple(tally.second(number) for number in range(len(tally.seconds))),
            histogram=latency.rows(),
            void=tally.void(),
            first_error=tally.first_error,
        )


def _excerpt(body: bytes) -> str:
    return body[:_EXCERPT_BYTES].decode("utf-8", "replace").strip()
