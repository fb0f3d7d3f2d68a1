"""What a scheduler says should happen. Whoever owns the workers and the clients makes it so."""

from __future__ import annotations

from enum import StrEnum
from typing import Generic, TypeAlias, TypeVar

import msgspec

from setpoint.scheduling.schedulable import Schedulable

T = TypeVar("T", bound=Schedulable)


class Reason(StrEnum):
    """Which limit a refused request met."""

    QUEUE_FULL = "queue_full"
    """As much waits as may wait."""
    HOPELESS = "hopeless"
    """Its deadline leaves less time than its own run takes, even if it ran at once."""
    OVERLOAD = "overload"
    """It would run in time alone, but not behind what waits already."""
    OVER_SHARE = "over_share"
    """As ``OVERLOAD``, and what waits before it waits because its own tenant uses more than its share."""
    SHED = "shed"
    """Admitted, then given up: the load or the batches before it turned out to be heavier than predicted."""
    EXPIRED = "expired"
    """Its deadline passed while it waited."""
    WORKER_LOST = "worker_lost"
    """It was on a worker that was lost, for the second time."""
    NO_WORKER = "no_worker"
    """There is no worker, and none came in time."""
    DRAINING = "draining"
    """The scheduler is being emptied."""


class Refuse(msgspec.Struct, Generic[T], frozen=True, gc=False):
    """Answer this request with a refusal, now.

    Attributes:
        retry_after_s: after this long a request like it is likely to be accepted, if others do not send more than now.
        attainable_rows_per_s: what can be answered in time at present, by the fastest variant allowed; 0 where unknown.
        limit: the number behind the reason: rows that may wait, or the milliseconds that the request would have taken.
    """

    request: T
    reason: Reason
    retry_after_s: float = 0.0
    attainable_rows_per_s: float = 0.0
    limit: float = 0.0

    def explain(self) -> str:
        """One sentence for the client: the limit it met, and what can be answered in time now."""
        sentence = _SENTENCES[self.reason].format(limit=self.limit)
        if self.attainable_rows_per_s and self.reason in _BY_LOAD:
            sentence += f"; now about {self.attainable_rows_per_s:.3g} rows/s are answered in time"
        return sentence


class Start(msgspec.Struct, Generic[T], frozen=True):
    """Give this worker this batch, to be run with this variant.

    Attributes:
        variant: index into the variants that the scheduler was given.
        requests: at least one, all of one lane, most urgent first.
        rows: the sum over them.
        predicted_ns: after which its worker is expected to be free again; 0 where nothing is predicted.
    """

    worker: int
    variant: int
    requests: list[T]
    rows: int
    predicted_ns: int


class WakeAt(msgspec.Struct, frozen=True, gc=False):
    """Ask again at this time at the latest, also when nothing happens until then. Replaces what was asked before."""

    time_ns: int


_BY_LOAD = {Reason.QUEUE_FULL, Reason.OVERLOAD, Reason.OVER_SHARE, Reason.SHED}
_SENTENCES = {
    Reason.QUEUE_FULL: "its queue is full (limit {limit:.0f})",
    Reason.HOPELESS: "its run alone takes about {limit:.3g} ms, longer than its deadline leaves",
    Reason.OVERLOAD: "behind what waits already it would be answered after {limit:.3g} ms, too late for its deadline",
    Reason.OVER_SHARE: "its tenant uses more than its share: it would be answered after {limit:.3g} ms, too late",
    Reason.SHED: "it waited, and would be too late now: load or run times turned out heavier than predicted",
    Reason.EXPIRED: "its deadline passed while it waited",
    Reason.WORKER_LOST: "its worker was lost, and it cannot be tried again",
    Reason.NO_WORKER: "there is no worker, and none came in time",
    Reason.DRAINING: "the node is shutting down",
}

Action: TypeAlias = Start[T] | Refuse[T] | WakeAt
