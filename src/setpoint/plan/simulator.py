"""Discrete events in place of the world: arrivals, completions and wakes, told to the scheduler that the node runs.

Nothing of the scheduler is imitated here. What is simulated is its surroundings: clients who send whatever happens, and
workers whose batches take as long as a law says.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from heapq import heappop, heappush, merge

import msgspec

from setpoint.plan.arrivals import Arrivals, make_schedule
from setpoint.plan.outcome import Outcome, Recorder
from setpoint.plan.run_times import RunTimes
from setpoint.scheduling import Action, Refuse, Scheduler, Start

_TICK_NS = 100_000_000
_SEED_STRIDE = 1000
_BLOCK = 65_536
"""Arrivals turned from an array into numbers at once."""


class Traffic(msgspec.Struct, frozen=True):
    """What one tenant sends.

    Attributes:
        rows: of each request.
        deadline_ns: that its clients state; 0 where they state none.
        lane: the shape bucket of its requests.
    """

    arrivals: Arrivals
    rate_per_s: float
    tenant: str = ""
    rows: int = 1
    deadline_ns: int = 0
    lane: Hashable = "lane"
    priority: int = 0


class Fleet(msgspec.Struct, frozen=True):
    """What serves it.

    Attributes:
        names, accuracies, run_times: by variant, in the scheduler's order.
        outside_ns: what passes around each run: waking the worker, splitting the answers.
        request_ns: of a core, for each request, refused or not: reading and answering it, by the node and by a client
            on the same machine. While all workers are busy they have all cores, so that this is taken from one of them.
        lost_at_s: when a worker is lost; another one is there ``restart_s`` later.
    """

    workers: int
    names: tuple[str, ...]
    accuracies: tuple[float, ...]
    run_times: tuple[RunTimes, ...]
    outside_ns: int = 0
    request_ns: int = 0
    lost_at_s: tuple[float, ...] = ()
    restart_s: float = 0.5


class SimulatedRequest:
    """A request without content."""

    __slots__ = (
        "alone",
        "arrived_ns",
        "attempts",
        "deadline_ns",
        "gone",
        "lane",
        "order_ns",
        "priority",
        "rows",
        "tenant",
        "waiting",
    )
    retryable = True

    def __init__(self, arrived_ns: int, traffic: Traffic) -> None:
        self.arrived_ns = arrived_ns
        self.rows = traffic.rows
        self.lane = traffic.lane
        self.deadline_ns = arrived_ns + traffic.deadline_ns if traffic.deadline_ns else 0
        self.priority = traffic.priority
        self.tenant = traffic.tenant
        self.alone = False
        self.attempts = 0
        self.gone = False
        self.waiting = False
        self.order_ns = 0


Event = tuple[int, int, str, int]
"""Time, number, what, and which worker or which of its starts."""


def simulate(
    scheduler: Scheduler[SimulatedRequest],
    fleet: Fleet,
    traffic: Sequence[Traffic],
    *,
    bound_ns: int,
    duration_s: float,
    seed: int,
    watch: Callable[[int, Action[SimulatedRequest]], None] | None = None,
) -> Outcome:
    """Run until everything that arrived within the duration has been answered or refused.

    Args:
        bound_ns: the objective: a later answer is a miss, and so is one after its client's own deadline.
        watch: told of every action as it is taken.
    """
    return _Run(scheduler, fleet, traffic, bound_ns, duration_s, seed, watch).run()


class _Run:
    def __init__(
        self,
        scheduler: Scheduler[SimulatedRequest],
        fleet: Fleet,
        traffic: Sequence[Traffic],
        bound_ns: int,
        duration_s: float,
        seed: int,
        watch: Callable[[int, Action[SimulatedRequest]], None] | None,
    ) -> None:
        self._scheduler = scheduler
        self._fleet = fleet
        self._traffic = traffic
        self._bound_ns = bound_ns
        self._duration_s = duration_s
        self._watch = watch
        self._recorder = Recorder()
        self._recorder.answers_by_variant = [0] * len(fleet.names)
        for each in traffic:
            self._recorder.latencies_ms[each.tenant] = []
            self._recorder.in_time[each.tenant] = self._recorder.offered[each.tenant] = 0
        self._events: list[Event] = []
        self._numbers = 0
        self._batches: dict[int, tuple[int, Start[SimulatedRequest], int]] = {}
        self._taken_ns = [0] * fleet.workers
        self._taken_from = 0
        self._arrivals = self._merged(seed)

    def _merged(self, seed: int) -> Iterator[tuple[int, int]]:
        def one(index: int) -> Iterator[tuple[int, int]]:
            each = self._traffic[index]
            # A tenant's own seed: another tenant more changes nothing of when its requests come.
            times_ns = make_schedule(each.arrivals, each.rate_per_s, self._duration_s, seed * _SEED_STRIDE + index)
            for begin in range(0, len(times_ns), _BLOCK):
                for time_ns in times_ns[begin : begin + _BLOCK].tolist():
                    yield time_ns, index

        streams = [one(index) for index in range(len(self._traffic))]
        return streams[0] if len(streams) == 1 else merge(*streams)

    def run(self) -> Outcome:
        """Work through all events."""
        scheduler, events, traffic, offered = self._scheduler, self._events, self._traffic, self._recorder.offered
        for worker in range(self._fleet.workers):
            scheduler.worker_ready(worker)
        for index, time_s in enumerate(self._fleet.lost_at_s):
            self._later(int(time_s * 1e9), "lost", index % self._fleet.workers)
        self._later(_TICK_NS, "tick", 0)
        arrival = next(self._arrivals, None)
        while True:
            if arrival is not None and (not events or arrival[0] < events[0][0]):
                now_ns, index = arrival
                sender = traffic[index]
                request = SimulatedRequest(now_ns, sender)
                offered[sender.tenant] += 1
                self._take_time()
                refusal = scheduler.arrived(request, now_ns)
                if refusal is not None:
                    self._refused(refusal, now_ns)
                    if self._watch is not None:
                        self._watch(now_ns, refusal)
                else:
                    self._act(scheduler.decide(now_ns), now_ns)
                self._recorder.events += 1
                arrival = next(self._arrivals, None)
            elif events:
                event = heappop(events)
                if event[2] == "tick" and arrival is None and not scheduler.waiting_requests and not self._batches:
                    break
                self._happen(event)
            else:
                break
        return self._recorder.outcome(self._fleet.names, self._fleet.accuracies, self._fleet.workers, self._duration_s)

    def _later(self, time_ns: int, what: str, which: int) -> None:
        self._numbers += 1
        heappush(self._events, (time_ns, self._numbers, what, which))

    def _happen(self, event: Event) -> None:
        now_ns, number, what, which = event
        scheduler = self._scheduler
        self._recorder.events += 1
        if what == "done":
            held = self._batches.get(which)
            if held is None or held[0] != number:
                return  # that worker was lost meanwhile
            if self._taken_ns[which]:
                self._go_on(which, held, now_ns)
                return
            del self._batches[which]
            batch = scheduler.batch_done(which, held[2], now_ns)
            self._answered(batch, now_ns)
        elif what == "tick":
            scheduler.tick(now_ns)
            self._later(now_ns + _TICK_NS, "tick", 0)
        elif what == "lost":
            self._batches.pop(which, None)
            scheduler.worker_lost(which, now_ns)
            self._later(now_ns + int(self._fleet.restart_s * 1e9), "ready", which)
        elif what == "ready":
            scheduler.worker_ready(which)
        self._act(scheduler.decide(now_ns), now_ns)

    def _take_time(self) -> None:
        """A request is read: where no core is free, one of the workers waits for it."""
        if self._fleet.request_ns and len(self._batches) == self._fleet.workers:
            self._taken_from = (self._taken_from + 1) % self._fleet.workers
            self._taken_ns[self._taken_from] += self._fleet.request_ns

    def _go_on(self, worker: int, held: tuple[int, Start[SimulatedRequest], int], now_ns: int) -> None:
        """A batch is not done yet, since others had its core meanwhile."""
        taken_ns, self._taken_ns[worker] = self._taken_ns[worker], 0
        self._later(now_ns + taken_ns, "done", worker)
        self._batches[worker] = (self._numbers, held[1], held[2] + taken_ns)
        self._recorder.busy_ns += taken_ns

    def _act(self, actions: list[Action[SimulatedRequest]], now_ns: int) -> None:
        for action in actions:
            if self._watch is not None:
                self._watch(now_ns, action)
            if isinstance(action, Start):
                run_ns = self._fleet.run_times[action.variant].sample_ns(action.rows)
                elapsed_ns = run_ns + self._fleet.outside_ns
                self._later(now_ns + elapsed_ns, "done", action.worker)
                self._batches[action.worker] = (self._numbers, action, run_ns)
                self._taken_ns[action.worker] = 0
                self._recorder.busy_ns += elapsed_ns
                self._recorder.batches += 1
                self._recorder.rows += action.rows
            elif isinstance(action, Refuse):
                self._refused(action, now_ns)
            else:
                self._later(action.time_ns, "wake", 0)

    def _answered(self, batch: Start[SimulatedRequest], now_ns: int) -> None:
        recorder = self._recorder
        recorder.answers_by_variant[batch.variant] += len(batch.requests)
        for request in batch.requests:
            latency_ns = now_ns - request.arrived_ns
            recorder.latencies_ms[request.tenant].append(latency_ns / 1e6)
            if latency_ns <= self._bound_ns and (not request.deadline_ns or now_ns <= request.deadline_ns):
                recorder.in_time[request.tenant] += 1

    def _refused(self, refusal: Refuse[SimulatedRequest], now_ns: int) -> None:
        recorder = self._recorder
        recorder.refused[refusal.reason] = recorder.refused.get(refusal.reason, 0) + 1
        recorder.refusal_ages_ms.append((now_ns - refusal.request.arrived_ns) / 1e6)
