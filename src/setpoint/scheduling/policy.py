"""The seam between mechanism and judgement: ``Scheduler`` keeps the books, a ``Policy`` decides."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import insort
from collections.abc import Iterator
from typing import Generic, TypeVar

from setpoint.scheduling.actions import Refuse, Start
from setpoint.scheduling.schedulable import Schedulable

T = TypeVar("T", bound=Schedulable)


class Pool:
    """The workers of one model, as a policy sees them.

    Attributes:
        workers: how many there are.
        idle: those without a batch.
        busy_until_ns: ascending, when each of the others is expected to be free; may lie in the past.
    """

    __slots__ = ("busy_until_ns", "idle", "workers")

    def __init__(self) -> None:
        self.workers = 0
        self.idle: list[int] = []
        self.busy_until_ns: list[int] = []

    def start_ns(self, place: int, batch_ns: float, now_ns: int) -> float:
        """When the batch at a place in the line begins, if those before it take ``batch_ns`` each.

        Args:
            place: 0 is the next batch to begin.
        """
        if not self.workers:
            return now_ns
        turn, slot = divmod(place, self.workers)
        slot -= len(self.idle)
        begin_ns = now_ns if slot < 0 else max(now_ns, self.busy_until_ns[slot])
        return begin_ns + turn * batch_ns

    def occupy(self, until_ns: int) -> None:
        """A worker was given a batch."""
        insort(self.busy_until_ns, until_ns)

    def release(self, until_ns: int) -> None:
        """A batch that was expected until then is done or lost."""
        self.busy_until_ns.remove(until_ns)


class Policy(ABC, Generic[T]):
    """Owns the waiting requests of one model and decides about them. Pure: the time is an argument.

    Attributes:
        requests: how many wait. Kept as a plain number because it is looked at on every event.
    """

    requests: int = 0

    @abstractmethod
    def admit(self, request: T, pool: Pool, now_ns: int) -> Refuse[T] | None:
        """Let a new request wait, or say why not."""

    @abstractmethod
    def put_back(self, request: T, pool: Pool, now_ns: int) -> None:
        """A request whose batch came to nothing waits again, whatever the limits say."""

    @abstractmethod
    def remove(self, request: T) -> bool:
        """Take a waiting request out; False when it does not wait."""

    @abstractmethod
    def take(self, worker: int, pool: Pool, now_ns: int, refused: list[Refuse[T]]) -> Start[T] | None:
        """The batch for an idle worker, or None to leave it idle; what is given up on the way goes to ``refused``."""

    @abstractmethod
    def settle(self, pool: Pool, now_ns: int, refused: list[Refuse[T]]) -> int:
        """Called when no more batches can start: give up what has become hopeless.

        Returns:
            when to decide again at the latest; 0 for not before the next event.
        """

    @abstractmethod
    def observe(self, batch: Start[T], run_ns: int, elapsed_ns: int, now_ns: int) -> None:
        """A batch is done: it ran for ``run_ns`` and was back ``elapsed_ns`` after it started."""

    @abstractmethod
    def tick(self, pool: Pool, now_ns: int) -> None:
        """Called some times a second: do what goes by time."""

    @abstractmethod
    def drain(self) -> list[T]:
        """Remove and return all that waits."""

    @property
    @abstractmethod
    def rows(self) -> int:
        """Rows that wait."""

    @abstractmethod
    def __iter__(self) -> Iterator[T]:
        """What waits."""
