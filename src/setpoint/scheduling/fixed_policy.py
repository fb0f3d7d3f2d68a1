"""A batching policy stated by hand, as Triton's dynamic batcher understands it.

First come, first served within a level of priority. A batch leaves when it is full, when the next request in line does
not fit into it, or when its oldest request has waited for the allowed delay. Nothing is predicted and nothing refused
but by the queue's size and its timeouts. For users who know what they want, and for comparison.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator
from itertools import chain, islice
from typing import Generic, TypeVar

from setpoint.scheduling.actions import Reason, Refuse, Start
from setpoint.scheduling.policy import Policy, Pool
from setpoint.scheduling.schedulable import Schedulable
from setpoint.scheduling.terms import FixedTerms

T = TypeVar("T", bound=Schedulable)
_NEVER_NS = 1 << 62


class _Entry(Generic[T]):
    __slots__ = ("arrived_ns", "request", "timeout_ns")

    def __init__(self, request: T, arrived_ns: int, timeout_ns: int) -> None:
        self.request = request
        self.arrived_ns = arrived_ns
        self.timeout_ns = timeout_ns


class _Level(Generic[T]):
    """One level of priority: those in time, then those delayed."""

    __slots__ = ("delayed", "in_time")

    def __init__(self) -> None:
        self.in_time: deque[_Entry[T]] = deque()
        self.delayed: deque[_Entry[T]] = deque()


class FixedPolicy(Policy[T]):
    """One model's queue under fixed terms, with one variant."""

    def __init__(self, terms: FixedTerms, lane_limit_rows: Callable[[Hashable], int] | None = None) -> None:
        """Queue nothing yet.

        Args:
            lane_limit_rows: the largest batch that a lane can have at all, where that may be less than the terms say.
        """
        self._terms = terms
        self._lane_limit_rows = lane_limit_rows
        self._levels: dict[int, _Level[T]] = {}
        self._delay_ns = terms.max_queue_delay_us * 1000
        self._max_batch_size = terms.max_batch_size

    def admit(self, request: T, pool: Pool, now_ns: int) -> Refuse[T] | None:
        """Let a request wait if its level of priority has room."""
        level = self._levels.get(request.priority)
        limit = self._terms.max_queue_size
        if limit and level is not None and len(level.in_time) + len(level.delayed) >= limit:
            return Refuse(request, Reason.QUEUE_FULL, 1.0, 0.0, limit)
        timeout_ns = now_ns + self._terms.default_timeout_us * 1000 if self._terms.default_timeout_us else _NEVER_NS
        if self._terms.allow_timeout_override and request.deadline_ns:
            timeout_ns = min(timeout_ns, request.deadline_ns)
        self._enter(_Entry(request, now_ns, timeout_ns))
        return None

    def _enter(self, entry: _Entry[T]) -> None:
        request = entry.request
        level = self._levels.get(request.priority)
        if level is None:
            self._levels[request.priority] = level = _Level()
            self._levels = dict(sorted(self._levels.items()))
        request.waiting = True
        level.in_time.append(entry)
        self.requests += 1

    def put_back(self, request: T, pool: Pool, now_ns: int) -> None:
        """Wait again, before all others: it has waited once already."""
        self._enter(_Entry(request, now_ns - self._delay_ns, _NEVER_NS))
        line = self._levels[request.priority].in_time
        line.appendleft(line.pop())

    def remove(self, request: T) -> bool:
        """Take a waiting request out."""
        if not request.waiting:
            return False
        level = self._levels[request.priority]
        for line in (level.in_time, level.delayed):
            for place, entry in enumerate(line):
                if entry.request is request:
                    del line[place]
                    self._left(request)
                    return True
        raise AssertionError("a waiting request stands in its level's queue")

    def _left(self, request: T) -> None:
        request.waiting = False
        self.requests -= 1

    def drain(self) -> list[T]:
        """Take everything out."""
        requests = list(self)
        self._levels.clear()
        for request in requests:
            self._left(request)
        return requests

    @property
    def rows(self) -> int:
        """Rows that wait."""
        return sum(request.rows for request in self)

    def __iter__(self) -> Iterator[T]:
        """What waits."""
        for level in self._levels.values():
            for entry in chain(level.in_time, level.delayed):
                yield entry.request

    def take(self, worker: int, pool: Pool, now_ns: int, refused: list[Refuse[T]]) -> Start[T] | None:
        """A batch that is due, if there is one."""
        self._expire(now_ns, refused)
        entries: list[_Entry[T]] = []
        rows = 0
        closed = False
        for level in self._levels.values():
            for entry in chain(level.in_time, level.delayed):
                request = entry.request
                if entries and not self._shares_batch(entries[0].request, request, rows):
                    closed = True
                    break
                entries.append(entry)
                rows += request.rows
            if closed:
                break
        if not entries:
            return None
        oldest_ns = min(entry.arrived_ns for entry in entries)
        if not closed and rows < self._limit_rows_of(entries[0].request) and now_ns < oldest_ns + self._delay_ns:
            return None
        for entry in entries:
            level = self._levels[entry.request.priority]
            (level.in_time or level.delayed).popleft()
            self._left(entry.request)
        return Start(worker, 0, [entry.request for entry in entries], rows, 0)

    def _shares_batch(self, first: T, request: T, rows: int) -> bool:
        if first.alone or request.alone or first.lane is None or first.lane != request.lane:
            return False
        return rows + request.rows <= self._limit_rows_of(first)

    def _limit_rows_of(self, request: T) -> int:
        if request.alone or request.lane is None:
            return 1
        if self._lane_limit_rows is None:
            return self._max_batch_size
        return min(self._max_batch_size, self._lane_limit_rows(request.lane))

    def _expire(self, now_ns: int, refused: list[Refuse[T]]) -> None:
        """Refuse, or move behind the others, whatever has waited too long."""
        if not self._terms.default_timeout_us and not self._terms.allow_timeout_override:
            return
        for level in self._levels.values():
            late = [entry for entry in level.in_time if now_ns > entry.timeout_ns]
            if not late:
                continue
            level.in_time = deque(entry for entry in level.in_time if now_ns <= entry.timeout_ns)
            if self._terms.timeout_action == "DELAY":
                level.delayed.extend(late)
                continue
            for entry in late:
                self._left(entry.request)
                refused.append(Refuse(entry.request, Reason.EXPIRED, 1.0))

    def settle(self, pool: Pool, now_ns: int, refused: list[Refuse[T]]) -> int:
        """Refuse what is late; ask to be woken when a batch falls due or the next request is late."""
        self._expire(now_ns, refused)
        lines = [line for level in self._levels.values() for line in (level.in_time, level.delayed) if line]
        due = [line[0].arrived_ns + self._delay_ns for line in lines] if pool.idle else []
        for level in self._levels.values():
            # Without overrides the first to come is the first to be late.
            candidates = level.in_time if self._terms.allow_timeout_override else islice(level.in_time, 1)
            due += [entry.timeout_ns + 1 for entry in candidates if entry.timeout_ns != _NEVER_NS]
        return min(due, default=0)

    def observe(self, batch: Start[T], run_ns: int, elapsed_ns: int, now_ns: int) -> None:
        """Nothing is learned."""

    def tick(self, pool: Pool, now_ns: int) -> None:
        """Nothing goes by time but what ``settle`` asked for."""
