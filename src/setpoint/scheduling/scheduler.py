"""The scheduler of one model: it is told what happens, and says what to do. No IO, no clock.

Events are methods and change the state; ``decide`` answers with actions to all that happened since it was last called.
So whoever reads twenty requests in one turn of an event loop tells of each and asks once, and they share a batch.

Every request that ``arrived`` is told of ends in exactly one way: it is in a ``Start`` whose batch is done, in a
``Refuse``, or cancelled.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Generic, TypeAlias, TypeVar

from setpoint.scheduling.actions import Action, Reason, Refuse, Start, WakeAt
from setpoint.scheduling.policy import Policy, Pool
from setpoint.scheduling.schedulable import Schedulable

T = TypeVar("T", bound=Schedulable)
_TICK_NS: Final = 100_000_000
_ATTEMPTS: Final = 2
"""A request whose worker was lost is given to one more."""


_Running: TypeAlias = tuple[Start[T], int, int]
"""A batch, when it started, and until when it is expected to run."""


class Scheduler(Generic[T]):
    """Keeps the books of one model's workers and requests; its policy decides.

    Attributes:
        pool: the workers.
        arrived, answered, cancelled, refused: requests, by how they ended; ``refused`` by reason.
    """

    def __init__(self, policy: Policy[T]) -> None:
        self._policy = policy
        self._running: dict[int, _Running[T]] = {}
        self._pending: list[Action[T]] = []
        self._next_tick_ns = 0
        self._wake_ns = 0
        self.pool = Pool()
        self.arrived_requests = 0
        self.answered_requests = 0
        self.cancelled_requests = 0
        self.refused_requests: dict[Reason, int] = dict.fromkeys(Reason, 0)

    # --- events --------------------------------------------------------------------------------------------------

    def worker_ready(self, worker: int) -> None:
        """A worker can take its first batch."""
        self.pool.workers += 1
        self.pool.idle.append(worker)

    def arrived(self, request: T, now_ns: int) -> Refuse[T] | None:
        """A request arrived. It waits, or is refused at once: then there will be no other word of it."""
        if now_ns >= self._next_tick_ns:
            self.tick(now_ns)
        self.arrived_requests += 1
        refusal = self._policy.admit(request, self.pool, now_ns)
        if refusal is not None:
            self.refused_requests[refusal.reason] += 1
        return refusal

    def cancelled(self, request: T) -> bool:
        """Nobody waits for this request's answer any more.

        Returns:
            whether it waited and has left. If not, it runs, and its answer goes nowhere; a lost worker will not bring
            it back.
        """
        request.gone = True
        if not self._policy.remove(request):
            return False
        self.cancelled_requests += 1
        return True

    def batch_done(self, worker: int, run_ns: int, now_ns: int) -> Start[T]:
        """A worker has done its batch and can take the next one.

        Args:
            run_ns: what the engine took; the rest of the time since the start was spent around it.

        Returns:
            the batch.
        """
        batch, started_ns = self._release(worker)
        self._count_done(batch.requests)
        self._policy.observe(batch, run_ns, now_ns - started_ns, now_ns)
        return batch

    def batch_failed(self, worker: int, now_ns: int) -> list[T]:
        """A worker could not run its batch, and can take another one.

        Returns:
            the request whose own failure it is; empty where several shared the batch: they wait again, to run alone.
        """
        requests = self._release(worker)[0].requests
        if len(requests) == 1:
            self._count_done(requests)
            return requests
        for request in requests:
            self._return(request, now_ns)
        return []

    def batch_ended(self, worker: int, requests: Sequence[T]) -> None:
        """A worker's batch is over, however each of its requests ended; nothing is learned from it.

        Nothing happens where these are not what it holds: then their batch is known to be done.
        """
        running = self._running.get(worker)
        if running is not None and running[0].requests is requests:
            self._count_done(self._release(worker)[0].requests)

    def worker_lost(self, worker: int, now_ns: int) -> None:
        """A worker is gone. What it held runs once more, each request alone, or is refused if it cannot.

        Nothing happens where the worker was never ready, or its loss is known.
        """
        for request in self._lose(worker):
            if request.gone or (request.attempts < _ATTEMPTS and request.retryable):
                self._return(request, now_ns)
            else:
                self._pending.append(self._count_refused(Refuse(request, Reason.WORKER_LOST)))

    def worker_deaf(self, worker: int, now_ns: int) -> None:
        """A worker is gone that did not even take the batch it was to start: for its requests nothing has happened."""
        for request in self._lose(worker):
            request.attempts -= 1
            if request.gone:
                self.cancelled_requests += 1
            else:
                self._policy.put_back(request, self.pool, now_ns)

    def tick(self, now_ns: int) -> None:
        """Time has passed; to be called some times a second while nothing else happens."""
        self._next_tick_ns = now_ns + _TICK_NS
        self._policy.tick(self.pool, now_ns)

    def drain(self) -> list[Refuse[T]]:
        """Give up everything that waits; batches that run go on."""
        return [self._count_refused(Refuse(request, Reason.DRAINING)) for request in self._policy.drain()]

    # --- decisions -----------------------------------------------------------------------------------------------

    def decide(self, now_ns: int) -> list[Action[T]]:
        """What to do now: batches to start, requests to refuse, perhaps when to ask again."""
        actions, self._pending = self._pending, []
        policy = self._policy
        if not policy.requests:
            return actions
        if now_ns >= self._next_tick_ns:
            self.tick(now_ns)
        pool = self.pool
        refused: list[Refuse[T]] = []
        while pool.idle and policy.requests:
            batch = policy.take(pool.idle[-1], pool, now_ns, refused)
            if batch is None:
                break
            pool.idle.pop()
            until_ns = now_ns + batch.predicted_ns
            self._running[batch.worker] = (batch, now_ns, until_ns)
            pool.occupy(until_ns)
            for request in batch.requests:
                request.attempts += 1
            actions.append(batch)
        if policy.requests:
            wake_ns = policy.settle(pool, now_ns, refused)
            if wake_ns and wake_ns != self._wake_ns:
                self._wake_ns = wake_ns
                actions.append(WakeAt(wake_ns))
        for refusal in refused:
            actions.append(self._count_refused(refusal))
        return actions

    @property
    def waiting_requests(self) -> int:
        """Requests in the queue."""
        return self._policy.requests

    @property
    def waiting_rows(self) -> int:
        """Rows in the queue."""
        return self._policy.rows

    def waiting(self) -> Iterator[T]:
        """The requests in the queue, in no particular order."""
        return iter(self._policy)

    @property
    def running_requests(self) -> int:
        """Requests on workers."""
        return sum(len(batch.requests) for batch, _, _ in self._running.values())

    # --- books ---------------------------------------------------------------------------------------------------

    def _release(self, worker: int) -> tuple[Start[T], int]:
        batch, started_ns, until_ns = self._running.pop(worker)
        self.pool.release(until_ns)
        self.pool.idle.append(worker)
        return batch, started_ns

    def _lose(self, worker: int) -> list[T]:
        """Forget a worker; returns what it held."""
        pool = self.pool
        if worker in self._running:
            requests = self._release(worker)[0].requests
        elif worker in pool.idle:
            requests = []
        else:
            return []
        pool.idle.remove(worker)
        pool.workers -= 1
        return requests

    def _return(self, request: T, now_ns: int) -> None:
        if request.gone:
            self.cancelled_requests += 1
        else:
            request.alone = True
            self._policy.put_back(request, self.pool, now_ns)

    def _count_done(self, requests: list[T]) -> None:
        gone = sum([request.gone for request in requests])
        self.cancelled_requests += gone
        self.answered_requests += len(requests) - gone

    def _count_refused(self, refusal: Refuse[T]) -> Refuse[T]:
        self.refused_requests[refusal.reason] += 1
        return refusal
