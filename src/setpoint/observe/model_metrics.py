"""What is counted of one model. Plain integers, written by the node's one thread."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from setpoint.core import RefusedError, RequestError, SetpointError
from setpoint.observe.batches import BatchCounts
from setpoint.observe.cache_counts import CacheCounts
from setpoint.observe.counts import RequestCounts, Windows
from setpoint.observe.rolling import RollingHistogram


class EndedRequest(Protocol):
    """What is read of a request when it ends; times are on the node's clock."""

    arrived_ns: int
    started_ns: int
    """When a worker was given it; 0 if none was."""
    run_ns: int
    """What the batch with it took in the engine."""
    deadline_ns: int
    """0 where it has none."""
    variant: str
    """That made its answer; empty where the model has only one."""
    tenant: str
    """Empty where it is not known."""


class ModelMetrics:
    """Counters and histograms of one served model.

    Every request that entered the model's queue ends in exactly one outcome: ``ok``, ``cancelled`` (the client left),
    or the ``kind`` of its error. So accepted requests equal the sum of ``outcomes`` and those still in flight.
    ``counts`` holds more: also what was refused at the door.

    Attributes:
        accepted: requests that entered the queue, or that the cache took care of.
        errors: of those, the ones that were told an error, by its kind.
        counts: every request that came, by how it ended, judged by its deadline.
        windows: the same over the last seconds.
        queue_ns, run_ns, total_ns: waiting, in a worker, arrival to answer; of answered requests.
        failed_ns: sum of what those took until they were told.
        batches: that workers ran.
        retries: requests given to a second worker.
        restarts: workers replaced, by reason.
        cache: of the response cache; None without one.
    """

    def __init__(self) -> None:
        self.accepted = 0
        self.errors: Counter[str] = Counter()
        self.counts = RequestCounts()
        self.windows = Windows(self.counts)
        self.queue_ns = RollingHistogram()
        self.run_ns = RollingHistogram()
        self.total_ns = RollingHistogram()
        self.failed_ns = 0
        self.batches = BatchCounts()
        self.retries = 0
        self.restarts: Counter[str] = Counter()
        self.cache: CacheCounts | None = None

    @property
    def outcomes(self) -> dict[str, int]:
        """Accepted requests by how they ended: ``ok``, ``cancelled``, or the kind of their error."""
        counts = self.counts
        ends = {"ok": counts.in_time + counts.late, "cancelled": counts.cancelled, **self.errors}
        return {outcome: count for outcome, count in ends.items() if count}

    def tick(self, now_ns: int) -> None:
        """Called some times a second: windows and the last minute move on."""
        if self.windows.mark(now_ns):
            for histogram in (self.queue_ns, self.run_ns, self.total_ns, self.batches.ratio_ppm):
                histogram.roll(now_ns)

    # --- requests ------------------------------------------------------------------------------------------------

    def offered(self, tenant: str) -> None:
        """A request came, whatever becomes of it."""
        self.counts.offered += 1
        if tenant:
            self.counts.tenant(tenant).offered += 1

    def refused_at_door(self, request: EndedRequest, error: SetpointError) -> None:
        """A request was refused before it entered the queue."""
        self._missed(request, error)

    def answered(self, request: EndedRequest, now_ns: int) -> None:
        """A worker's answer was written."""
        self.queue_ns.add(request.started_ns - request.arrived_ns)
        self.run_ns.add(request.run_ns)
        self.reached(request, now_ns)

    def answered_together(self, requests: Sequence[EndedRequest], ended_ns: Sequence[int]) -> None:
        """A worker's answers to the requests of one batch were written, at these times: ``answered`` for each.

        One batch has one variant and one run; and what is added up in one call costs half.
        """
        if not requests:
            return
        first = requests[0]
        self.run_ns.add(first.run_ns, len(requests))
        self.queue_ns.add_all([request.started_ns - request.arrived_ns for request in requests])
        self.total_ns.add_all([end_ns - request.arrived_ns for request, end_ns in zip(requests, ended_ns, strict=True)])
        counts = self.counts
        counts.answers[first.variant] = counts.answers.get(first.variant, 0) + len(requests)
        late = 0
        for request, end_ns in zip(requests, ended_ns, strict=True):
            if 0 < request.deadline_ns < end_ns:
                late += 1
                if request.tenant:
                    counts.tenant(request.tenant).late += 1
            elif request.tenant:
                counts.tenant(request.tenant).in_time += 1
        counts.late += late
        counts.in_time += len(requests) - late

    def reached(self, request: EndedRequest, now_ns: int) -> None:
        """An answer was written that no worker made for this request."""
        self.total_ns.add(now_ns - request.arrived_ns)
        counts = self.counts
        variant = request.variant
        try:
            counts.answers[variant] += 1
        except KeyError:
            counts.answers[variant] = 1
        deadline_ns = request.deadline_ns
        if deadline_ns and now_ns > deadline_ns:
            counts.late += 1
            if request.tenant:
                counts.tenant(request.tenant).late += 1
        else:
            counts.in_time += 1
            if request.tenant:
                counts.tenant(request.tenant).in_time += 1

    def failed(self, request: EndedRequest, error: SetpointError, now_ns: int) -> None:
        """An accepted request ended with an error."""
        self.errors[error.kind] += 1
        self.failed_ns += now_ns - request.arrived_ns
        self._missed(request, error)

    def cancelled(self, request: EndedRequest) -> None:
        """The client of an accepted request left before its answer."""
        self.counts.cancelled += 1
        if request.tenant:
            self.counts.tenant(request.tenant).cancelled += 1

    def _missed(self, request: EndedRequest, error: SetpointError) -> None:
        counts = self.counts
        tenant = counts.tenant(request.tenant) if request.tenant else None
        if isinstance(error, RequestError):
            counts.invalid += 1
            if tenant is not None:
                tenant.invalid += 1
            return
        if isinstance(error, RefusedError):
            counts.refused[error.kind] = counts.refused.get(error.kind, 0) + 1
        else:
            counts.failed += 1
        if tenant is not None:
            tenant.missed += 1
