"""What a scheduler needs to know of a request. Requests are queued as they are: nothing is wrapped around them."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Protocol


class Schedulable(Protocol):
    """One request. The first group is its owner's and is only read; the second is the scheduler's."""

    rows: int
    """Rows of work, at least 1."""
    lane: Hashable
    """Requests of equal lanes may share a batch (same endpoint, same shape bucket); None shares with nobody."""
    deadline_ns: int
    """When its answer must be there. 0 asks for the objective's bound from its arrival; an earlier one is kept."""
    priority: int
    """0 is the usual level. A request waits for all those of a lower number, which are more urgent."""
    tenant: str
    """Whose request it is, for fair shares."""

    @property
    def retryable(self) -> bool:
        """Whether another worker may still try: nothing of its answer has left."""
        ...

    alone: bool
    """It must not share a batch any more: one that it was in failed or took its worker along, and it may be why."""
    attempts: int
    """How many workers have been given it."""
    gone: bool
    """Nobody waits for its answer."""
    waiting: bool
    """It is in the queue."""
    order_ns: int
    """Its place in the queue: its deadline, moved back by its priority and by what its tenant uses beyond its share."""
