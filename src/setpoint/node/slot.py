"""The place of one worker in a model: which process fills it, and what that process is doing."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from setpoint.worker import Request, WorkerHandle


class State(StrEnum):
    """What a slot's worker is doing."""

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    DOWN = "down"


_STOOD_NS = 1_000_000_000
"""A worker that was ready for this long was well, even where nobody asked it anything."""


class Slot:
    """Mutable record of one worker place.

    Attributes:
        index: of the slot in its model.
        handle: the process, while there is one.
        state: what it is doing.
        lone_run_ns: what the last batch of a single request took in the worker; 0 before there was one.
        batch: number of the last batch sent to the process.
        began_ns, sent_ns: when that batch was taken up, and when its inputs lay before the process.
        requests: of the batch it holds.
        limit_ns: when it has taken too long for what it is doing; 0 while it owes nothing.
        served: whether this process has answered a batch.
        ready_ns: when this process became ready; 0 before.
        failed_starts: processes in a row that ended before they had served, or been ready for a while.
        end_reason: why we ended the process, for metrics and messages; empty when it ended by itself.
        streamed: pieces of the event that is being put together.
        paused: reports of the process are not read, since the client of its stream is behind.
    """

    __slots__ = (
        "batch",
        "began_ns",
        "end_reason",
        "failed_starts",
        "handle",
        "index",
        "limit_ns",
        "lone_run_ns",
        "paused",
        "ready_ns",
        "requests",
        "sent_ns",
        "served",
        "state",
        "streamed",
    )

    def __init__(self, index: int) -> None:
        self.index = index
        self.handle: WorkerHandle | None = None
        self.state = State.DOWN
        self.batch = 0
        self.began_ns = 0
        self.sent_ns = 0
        self.requests: Sequence[Request] = ()
        self.limit_ns = 0
        self.lone_run_ns = 0
        self.served = False
        self.ready_ns = 0
        self.failed_starts = 0
        self.end_reason = ""
        self.streamed: list[bytes] = []
        self.paused = False

    def begin(self, handle: WorkerHandle, limit_ns: int) -> None:
        """A process was started."""
        self.handle = handle
        self.state = State.STARTING
        self.batch = 0
        self.served = False
        self.ready_ns = 0
        self.end_reason = ""
        self.limit_ns = limit_ns

    def release(self) -> Sequence[Request]:
        """The worker is free again; returns what it held."""
        requests, self.requests = self.requests, ()
        self.state = State.IDLE
        self.limit_ns = 0
        return requests

    def vacate(self, now_ns: int) -> Sequence[Request]:
        """The process is gone; returns what it held."""
        requests, self.requests = self.requests, ()
        self.handle = None
        self.state = State.DOWN
        self.limit_ns = 0
        self.streamed.clear()
        self.paused = False
        stood = self.served or (self.ready_ns > 0 and now_ns - self.ready_ns >= _STOOD_NS)
        self.failed_starts = 0 if stood else self.failed_starts + 1
        return requests
