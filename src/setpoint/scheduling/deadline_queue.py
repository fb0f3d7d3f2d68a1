"""Waiting requests in the order of their deadlines, by lane, counted in rows.

A lane is a sorted list and not a heap. Requests of one model mostly come with the same objective, hence in the order of
their deadlines, so that a push is an append; a batch is a slice from the front; a cancelled request is found by
bisection and really leaves, with the tensors that it holds. Measured per request, pushed and taken in batches of 8 with
256 waiting: 0.2 µs against 0.6 µs for ``heapq``; where deadlines are mixed, 0.4 against 0.6 µs.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort_right
from collections.abc import Hashable, Iterator
from operator import attrgetter
from typing import Any, Final, Generic, TypeVar

from setpoint.scheduling.schedulable import Schedulable

T = TypeVar("T", bound=Schedulable)
_order = attrgetter("order_ns")

ALONE: Final[Hashable] = object()
"""The lane of requests that run alone; they share it, so that many of them do not make many lanes."""
_LANES_REMEMBERED: Final = 64
"""Lanes that are kept while they are empty: making one for each batch would cost as much as queueing its requests."""
PRIORITY_STEP_NS: Final = 1 << 60
"""One level of priority is 36 years of deadline: one number sorts by both."""


def lane_of(request: Schedulable) -> Hashable:
    """The lane that a request waits in."""
    return ALONE if request.alone or request.lane is None else request.lane


class Lane(Generic[T]):
    """Requests that may share a batch, most urgent first."""

    __slots__ = ("items", "key", "memo", "mixed", "rows", "wide")

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.memo: Any = None
        """What the queue's owner keeps of the lane, so that it need not look it up for every request."""
        self.items: list[T] = []
        self.rows = 0
        self.wide = False
        """Some request has more than one row."""
        self.mixed = False
        """The order may differ from that of the deadlines: somebody has a priority, or uses more than its share."""

    def count_within(self, most_rows: int) -> tuple[int, int]:
        """How many requests from the front have at most ``most_rows`` together, and the rows they have.

        The first one always counts: a request larger than any batch is a batch by itself.
        """
        items = self.items
        if not self.wide:
            count = min(len(items), max(most_rows, 1))
            return count, count
        count, rows = 1, items[0].rows
        for request in items[1:]:
            if rows + request.rows > most_rows:
                break
            rows += request.rows
            count += 1
        return count, rows

    def rows_in_turn(self, enough_rows: int) -> int:
        """Rows of the requests at the front that were not moved back for what their tenant has had already.

        Args:
            enough_rows: from which on they are not counted further; a queue may be long.
        """
        rows = 0
        for request in self.items:
            if rows >= enough_rows or request.order_ns > request.deadline_ns + request.priority * PRIORITY_STEP_NS:
                break
            rows += request.rows
        return rows

    def rows_before(self, order_ns: int) -> int:
        """Rows of the requests that go before a new one of that order."""
        items = self.items
        if not items or items[-1].order_ns <= order_ns:
            return self.rows
        count = bisect_right(items, order_ns, key=_order)
        return sum([request.rows for request in items[:count]]) if self.wide else count


class DeadlineQueue(Generic[T]):
    """Waiting requests of one model.

    Invariants: ``rows`` and ``requests`` are sums over what waits; ``lanes`` holds those that are not empty; a request
    leaves exactly once, by ``take``, ``remove`` or ``drain``, and has ``waiting`` set exactly while it is here.
    """

    __slots__ = ("_known", "lanes", "requests", "rows")

    def __init__(self) -> None:
        self.lanes: dict[Hashable, Lane[T]] = {}
        self._known: dict[Hashable, Lane[T]] = {}
        self.rows = 0
        self.requests = 0

    def push(self, request: T, lead_ns: int = 0) -> None:
        """Add a request, ``lead_ns`` behind those of equal deadline and priority."""
        self.enter(self.lane(lane_of(request)), request, lead_ns)

    def lane(self, key: Hashable) -> Lane[T]:
        """The lane of that key, which may be empty."""
        lane = self._known.get(key)
        if lane is None:
            if len(self._known) >= _LANES_REMEMBERED + len(self.lanes):
                self._known = dict(self.lanes)  # forget the empty ones
            lane = self._known[key] = Lane(key)
        return lane

    def forget(self, key: Hashable) -> None:
        """Forget what was kept of a lane."""
        lane = self._known.get(key)
        if lane is not None:
            lane.memo = None

    def enter(self, lane: Lane[T], request: T, lead_ns: int) -> None:
        """As ``push``, where the lane is known already."""
        items = lane.items
        if not items:
            self.lanes[lane.key] = lane
        order_ns = request.deadline_ns
        if lead_ns or request.priority:
            order_ns += lead_ns + request.priority * PRIORITY_STEP_NS
            lane.mixed = True
        request.order_ns = order_ns
        request.waiting = True
        rows = request.rows
        if rows != 1:
            lane.wide = True
        if not items or items[-1].order_ns <= order_ns:
            items.append(request)
        else:
            insort_right(items, request, key=_order)
        lane.rows += rows
        self.rows += rows
        self.requests += 1

    def first_lane(self) -> Lane[T] | None:
        """The lane of the most urgent request; None when nothing waits."""
        lanes = self.lanes
        if len(lanes) < 2:
            return next(iter(lanes.values()), None)
        return min(lanes.values(), key=lambda lane: lane.items[0].order_ns)

    def take(self, lane: Lane[T], count: int, rows: int) -> list[T]:
        """Remove and return the first ``count`` requests of a lane, which have ``rows`` rows together."""
        items = lane.items
        if count == len(items):
            taken = items
            self._emptied(lane)
        else:
            taken = items[:count]
            del items[:count]
            lane.rows -= rows
        self.rows -= rows
        self.requests -= count
        for request in taken:
            request.waiting = False
        return taken

    def remove(self, request: T) -> bool:
        """Take a request out; False when it had already left."""
        if not request.waiting:
            return False
        lane = self.lanes[lane_of(request)]
        items = lane.items
        index = bisect_left(items, request.order_ns, key=_order)
        while items[index] is not request:  # those of equal order stand together
            index += 1
        self.remove_at(lane, index)
        return True

    def remove_at(self, lane: Lane[T], index: int) -> T:
        """Take out the request at a place in its lane."""
        request = lane.items.pop(index)
        request.waiting = False
        lane.rows -= request.rows
        self.rows -= request.rows
        self.requests -= 1
        if not lane.items:
            self._emptied(lane)
        return request

    def _emptied(self, lane: Lane[T]) -> None:
        del self.lanes[lane.key]
        lane.items = []
        lane.rows = 0
        lane.wide = lane.mixed = False

    def drain(self) -> list[T]:
        """Remove and return everything."""
        waiting = list(self)
        for request in waiting:
            request.waiting = False
        self.lanes.clear()
        self._known.clear()
        self.rows = self.requests = 0
        return waiting

    def __len__(self) -> int:
        return self.requests

    def __iter__(self) -> Iterator[T]:
        for lane in self.lanes.values():
            yield from lane.items
