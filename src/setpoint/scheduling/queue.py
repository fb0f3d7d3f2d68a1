"""The queue of one model: work-conserving, bounded in rows, batching what may run together.

There is no batching timer. A free worker takes what waits at once; batches form because work waits while workers are
busy. (A window that waits for more work makes an idle server slow: 3 to 5 ms in the servers measured in
``benchmarks/peers``, for a model that runs in 8 µs.)

Requests that may share a batch share a *lane*: same endpoint, same shape but for the batch axis. Lanes are served in
the order of their oldest request, so no shape can starve another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, Protocol, TypeVar


class Queued(Protocol):
    """What the queue needs to know of a request."""

    rows: int
    """Rows of work, at least 1."""
    lane: Hashable
    """Requests of equal lanes may share a batch; None runs alone always."""
    alone: bool
    """This request must not share a batch: it was in one that failed, and may be why."""
    deadline_ns: int
    """When it is too late to start."""
    sequence: int
    """Order of arrival; the queue sets it."""
    waiting: bool
    """In the queue; the queue sets it."""


T = TypeVar("T", bound=Queued)


class BatchQueue(Generic[T]):
    """Waiting requests of one model.

    Invariants: ``rows`` is the sum over waiting requests; a request leaves exactly once, by ``take``, ``remove``,
    ``expire`` or ``drain``; within a lane requests leave in order of arrival, and retried ones before all others.
    """

    def __init__(self, limit_rows: int) -> None:
        self._limit_rows = limit_rows
        self._lanes: dict[Hashable, deque[T]] = {}
        self._sequence = 0
        self._front_sequence = 0
        self.rows = 0
        self.requests = 0

    def __len__(self) -> int:
        return self.requests

    def push(self, request: T) -> bool:
        """Add a request at the end; False, and nothing changes, where its rows would pass the limit.

        A request larger than the whole limit is accepted by an empty queue: refusing it would refuse it for ever.
        """
        if self.rows + request.rows > self._limit_rows and self.requests:
            return False
        self._sequence += 1
        request.sequence = self._sequence
        self._enter(request, front=False)
        return True

    def push_front(self, request: T) -> None:
        """Put back a request whose worker was lost: before everything that waits, and whatever the limit says."""
        self._front_sequence -= 1
        request.sequence = self._front_sequence
        self._enter(request, front=True)

    def _enter(self, request: T, *, front: bool) -> None:
        # A request that must run alone gets a lane of its own, so that it never holds up those behind it.
        key: Hashable = (request.sequence,) if request.alone or request.lane is None else request.lane
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = deque()
        if front:
            lane.appendleft(request)
        else:
            lane.append(request)
        request.waiting = True
        self.rows += request.rows
        self.requests += 1

    def take(self, batch_rows: Callable[[Hashable], int]) -> list[T]:
        """Remove and return the next batch: the oldest request and those of its lane that fit.

        Args:
            batch_rows: lane → most rows to put together now. A single request with more rows is a batch by itself.

        Returns:
            at least one request, or an empty list when nothing waits.
        """
        key = self._oldest_lane()
        if key is None:
            return []
        lane = self._lanes[key]
        head = lane[0]
        most_rows = 1 if head.alone or head.lane is None else batch_rows(head.lane)
        batch: list[T] = []
        rows = 0
        while lane:
            request = lane[0]
            if not request.waiting:  # removed while it waited; its rows were given back then
                lane.popleft()
                continue
            if batch and rows + request.rows > most_rows:
                break
            lane.popleft()
            request.waiting = False
            batch.append(request)
            rows += request.rows
        if not lane:
            del self._lanes[key]
        self.rows -= rows
        self.requests -= len(batch)
        return batch

    def _oldest_lane(self) -> Hashable | None:
        oldest_key: Hashable | None = None
        oldest_sequence = 0
        emptied: list[Hashable] = []
        for key, lane in self._lanes.items():
            while lane and not lane[0].waiting:
                lane.popleft()
            if not lane:
                emptied.append(key)
            elif oldest_key is None or lane[0].sequence < oldest_sequence:
                oldest_key, oldest_sequence = key, lane[0].sequence
        for key in emptied:
            del self._lanes[key]
        return oldest_key

    def remove(self, request: T) -> bool:
        """Take a request out because nobody waits for its answer; False when it had already left."""
        if not request.waiting:
            return False
        request.waiting = False  # the lane drops it when it comes to its head
        self.rows -= request.rows
        self.requests -= 1
        return True

    def expire(self, now_ns: int) -> list[T]:
        """Remove and return every request whose deadline has passed."""
        late = [request for request in self if request.deadline_ns <= now_ns]
        for request in late:
            self.remove(request)
        return late

    def drain(self) -> list[T]:
        """Remove and return everything, oldest first within each lane."""
        waiting = list(self)
        for request in waiting:
            self.remove(request)
        self._lanes.clear()
        return waiting

    def oldest_deadline_ns(self) -> int | None:
        """The earliest deadline among waiting requests."""
        return min((request.deadline_ns for request in self), default=None)

    def __iter__(self) -> Iterator[T]:
        for lane in self._lanes.values():
            for request in lane:
                if request.waiting:
                    yield request
