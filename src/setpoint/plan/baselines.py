"""Policies to compare with: what servers do today, and the steps that lead from there to ours.

They run under the same ``Scheduler``, so that nothing but the judgement differs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TypeVar

import numpy as np

from setpoint.core import Profile
from setpoint.scheduling import (
    DeadlineQueue,
    FixedPolicy,
    FixedTerms,
    MeasuredLaw,
    Policy,
    Pool,
    Reason,
    Refuse,
    Schedulable,
    Start,
)

T = TypeVar("T", bound=Schedulable)


def unbatched(bound_ns: int) -> Policy[T]:
    """One request at a time, in the order of arrival; what has expired is dropped."""
    return FixedPolicy(FixedTerms(1, 0, default_timeout_us=bound_ns // 1000))


def window(rows: int, delay_ms: float, bound_ns: int) -> Policy[T]:
    """Wait for ``rows`` or ``delay_ms``, whichever comes first; what has expired is dropped."""
    return FixedPolicy(FixedTerms(rows, int(delay_ms * 1e3), default_timeout_us=bound_ns // 1000))


class AimdPolicy(FixedPolicy[T]):
    """Clipper's rule as published: one row more while batches take less than the objective, a tenth less when not."""

    def __init__(self, bound_ns: int, most_rows: int, objective_ns: int) -> None:
        super().__init__(FixedTerms(most_rows, 0, default_timeout_us=bound_ns // 1000))
        self._most_rows = most_rows
        self._objective_ns = objective_ns
        self._size = 1.0
        self._resize()

    def _resize(self) -> None:
        self._max_batch_size = int(self._size)

    def observe(self, batch: Start[T], run_ns: int, elapsed_ns: int, now_ns: int) -> None:
        """Grow or shrink."""
        if run_ns <= self._objective_ns:
            if batch.rows >= self._max_batch_size:
                self._size = min(self._size + 1.0, self._most_rows)
        else:
            self._size = max(1.0, self._size * 0.9)
        self._resize()


class CorkPolicy(Policy[T]):
    """BentoML's dispatcher: wait while it seems to pay, drop the oldest if all that waits would be late as one batch.

    After the published source, with its 1 ms polling and its defaults; times in seconds as there.
    """

    def __init__(self, bound_ns: int, most_rows: int) -> None:
        self._bound_s = bound_ns / 1e9
        self._most_rows = most_rows
        self._line: deque[tuple[T, int]] = deque()
        self._samples: deque[tuple[int, float, float]] = deque(maxlen=50)
        self._each_s = min(2.0, self._bound_s * 2 / 30)
        self._base_s = min(1.0, self._bound_s / 30)
        self._usual_wait_s = 0.01
        self._refreshed_ns = 0
        self._wait_of: dict[int, float] = {}

    def admit(self, request: T, pool: Pool, now_ns: int) -> Refuse[T] | None:
        """Everybody waits."""
        request.waiting = True
        self._line.append((request, now_ns))
        self.requests += 1
        return None

    def put_back(self, request: T, pool: Pool, now_ns: int) -> None:
        """Wait again."""
        self.admit(request, pool, now_ns)

    def remove(self, request: T) -> bool:
        """Take a waiting request out."""
        for place, (each, _) in enumerate(self._line):
            if each is request:
                del self._line[place]
                request.waiting = False
                self.requests -= 1
                return True
        return False

    @property
    def rows(self) -> int:
        """Rows that wait."""
        return sum(request.rows for request in self)

    def __iter__(self) -> Iterator[T]:
        """What waits."""
        return (request for request, _ in self._line)

    def drain(self) -> list[T]:
        """Take everything out."""
        requests = list(self)
        self._line.clear()
        self.requests = 0
        return requests

    def _drop_late(self, pool: Pool, now_ns: int, refused: list[Refuse[T]]) -> None:
        while self._line:
            count = len(self._line)
            waited_s = (now_ns - self._line[0][1]) / 1e9
            late = count > 1 and waited_s + self._each_s * count + self._base_s >= self._bound_s
            if not late and not (count == 1 and not pool.idle and waited_s >= self._bound_s):
                return
            request, _ = self._line.popleft()
            request.waiting = False
            self.requests -= 1
            refused.append(Refuse(request, Reason.SHED))

    def take(self, worker: int, pool: Pool, now_ns: int, refused: list[Refuse[T]]) -> Start[T] | None:
        """A batch, if waiting does not seem to pay."""
        self._drop_late(pool, now_ns, refused)
        if not self._line:
            return None
        count = len(self._line)
        last_waited_s = (now_ns - self._line[-1][1]) / 1e9
        if count < self._most_rows and count * (last_waited_s + 0.001 + self._each_s) <= self._usual_wait_s * 0.95:
            return None
        taken = [self._line.popleft() for _ in range(min(count, self._most_rows))]
        self._wait_of[worker] = (now_ns - taken[-1][1]) / 1e9
        self.requests -= len(taken)
        for request, _ in taken:
            request.waiting = False
        return Start(worker, 0, [request for request, _ in taken], sum(request.rows for request, _ in taken), 0)

    def settle(self, pool: Pool, now_ns: int, refused: list[Refuse[T]]) -> int:
        """Drop what is late; look again in a millisecond."""
        self._drop_late(pool, now_ns, refused)
        return now_ns + 1_000_000 if self._line else 0

    def observe(self, batch: Start[T], run_ns: int, elapsed_ns: int, now_ns: int) -> None:
        """Fit time by rows anew every five seconds, by least squares over the last fifty batches."""
        self._samples.append((batch.rows, elapsed_ns / 1e9, self._wait_of.pop(batch.worker, 0.0)))
        if now_ns - self._refreshed_ns < 5e9:
            return
        self._refreshed_ns = now_ns
        sizes = np.array([[rows, 1.0] for rows, _, _ in self._samples])
        times = np.array([seconds for _, seconds, _ in self._samples])
        each_s, base_s = np.linalg.lstsq(sizes, times, rcond=None)[0]
        self._each_s, self._base_s = max(1e-6, float(each_s)), max(0.0, float(base_s))
        self._usual_wait_s = sum(wait_s for _, _, wait_s in self._samples) / len(self._samples)

    def tick(self, pool: Pool, now_ns: int) -> None:
        """Nothing."""


class EagerPolicy(Policy[T]):
    """Earliest deadline first with one variant, as many rows as the first one's deadline leaves time for.

    ``target_rows`` adds Nexus's rule: drop the first until a batch of that many (or of all that wait) is in time.
    """

    def __init__(self, profile: Profile, bound_ns: int, most_rows: int, margin: float, target_rows: int = 1) -> None:
        self._law = MeasuredLaw([(point.rows, point.p50_ms * 1e6 * margin) for point in profile.latency], most_rows)
        self._queue: DeadlineQueue[T] = DeadlineQueue()
        self._bound_ns = bound_ns
        self._target_rows = target_rows

    def admit(self, request: T, pool: Pool, now_ns: int) -> Refuse[T] | None:
        """Everybody waits."""
        request.deadline_ns = request.deadline_ns or now_ns + self._bound_ns
        self._queue.push(request)
        self.requests += 1
        return None

    def put_back(self, request: T, pool: Pool, now_ns: int) -> None:
        """Wait again."""
        self._queue.push(request)
        self.requests += 1

    def remove(self, request: T) -> bool:
        """Take a waiting request out."""
        removed = self._queue.remove(request)
        self.requests = self._queue.requests
        return removed

    @property
    def rows(self) -> int:
        """Rows that wait."""
        return self._queue.rows

    def __iter__(self) -> Iterator[T]:
        """What waits."""
        return iter(self._queue)

    def drain(self) -> list[T]:
        """Take everything out."""
        self.requests = 0
        return self._queue.drain()

    def take(self, worker: int, pool: Pool, now_ns: int, refused: list[Refuse[T]]) -> Start[T] | None:
        """A batch, after dropping what is hopeless or too small."""
        while (lane := self._queue.first_lane()) is not None:
            within = self._law.rows_within(lane.items[0].deadline_ns - now_ns)
            if within < min(self._target_rows, lane.rows):
                refused.append(Refuse(self._queue.remove_at(lane, 0), Reason.SHED))
                continue
            count, rows = lane.count_within(within)
            requests = self._queue.take(lane, count, rows)
            self.requests = self._queue.requests
            return Start(worker, 0, requests, rows, 0)
        self.requests = 0
        return None

    def settle(self, pool: Pool, now_ns: int, refused: list[Refuse[T]]) -> int:
        """Dropping waits for the next batch."""
        return 0

    def observe(self, batch: Start[T], run_ns: int, elapsed_ns: int, now_ns: int) -> None:
        """Nothing is learned."""

    def tick(self, pool: Pool, now_ns: int) -> None:
        """Nothing."""
