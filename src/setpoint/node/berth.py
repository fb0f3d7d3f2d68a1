"""A served model whose workers may be ended while nobody asks it, and come back when somebody does."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Protocol

from setpoint.core import Clock, DeadlineExceeded, Draining, Limits, NotReady, QueueFull, RefusedError
from setpoint.machine import pss_bytes
from setpoint.node.config import ModelConfig
from setpoint.node.crew import NS, Launch
from setpoint.node.service import ModelService
from setpoint.worker import Request, WorkerHandle

_LOOK_S = 0.01
_SERIAL = itertools.count(1)


class Harbour(Protocol):
    """Who decides when a model wakes."""

    def cold(self, berth: Berth, patience_ns: int) -> RefusedError | None:
        """A request came for a model that is not awake, and can wait for so long; why it should not, if so."""
        ...

    def forgone(self, berth: Berth) -> None:
        """Nobody waits for it any more."""
        ...


class Berth(ModelService):
    """One model in one version. Requests that come while it is not awake wait here, as long as their clients do.

    Attributes:
        key: distinguishes it from every other, also of its name and version: one may leave while the next one comes.
        failure: why its last wake failed; empty where it did not.
        awake: whether requests go to its workers.
        pinned: it must not be parked: it is being replaced, or is leaving.
        used_ns: when the last request came.
    """

    def __init__(
        self,
        config: ModelConfig,
        limits: Limits,
        clock: Clock,
        on_bug: Callable[[BaseException], str],
        harbour: Harbour,
        launch: Launch = WorkerHandle,
    ) -> None:
        """Asleep; see ``ModelService``."""
        super().__init__(config, limits, clock, on_bug, launch)
        self.key = f"{self.reference}#{next(_SERIAL)}"
        self.failure = ""
        self.awake = False
        self.pinned = False
        self._limits = limits
        self._harbour = harbour
        self._held: dict[Request, int] = {}

    @property
    def reference(self) -> str:
        """Name and version, for people."""
        return self.config.bundle.reference

    @property
    def ready(self) -> bool:
        """Whether it can answer: awake with a worker, or parked and not known to be unable to wake."""
        return super().ready if self.awake else not (self._closing or self.failure)

    @property
    def in_flight(self) -> int:
        """Requests that wait, here or in the queue, or are in a worker."""
        return len(self._held) + super().in_flight

    @property
    def held(self) -> int:
        """Requests that wait for it to wake."""
        return len(self._held)

    def memory_bytes(self) -> int:
        """What its workers hold, what they share with others counted in parts. Reads a file for each: some 0.5 ms."""
        return held_bytes(self)

    # --- waking and resting --------------------------------------------------------------------------------------

    async def wake(self) -> None:
        """Start the workers, warm them up, then let in whoever waits.

        Raises:
            SetpointError: the model cannot be loaded, or has been closed. No worker is left; who waits still does.
        """
        if self._closing:
            raise Draining(f"model {self.name!r} is being unloaded")
        try:
            await self._crew.start()
        except (Exception, asyncio.CancelledError):
            await self.rest()
            raise
        self.failure = ""
        self.awake = True
        self._let_in()

    async def rest(self) -> None:
        """End the workers; requests that come meanwhile wait here. There must be none in the queue or in a worker."""
        self.awake = False
        self._crew.close()
        await self._crew.ended()

    async def drained(self, timeout_s: float) -> bool:
        """Wait until no request is left in it; False where that took too long."""
        end_s = asyncio.get_running_loop().time() + timeout_s
        while self.in_flight:
            if asyncio.get_running_loop().time() >= end_s:
                return False
            await asyncio.sleep(_LOOK_S)
        return True

    async def leave(self, timeout_s: float) -> None:
        """Answer what was accepted, for at most so long, then end."""
        if not await self.drained(timeout_s):
            self.refuse_held(NotReady(f"model {self.name!r} was unloaded before it was awake"))
        await self.close()

    # --- requests ------------------------------------------------------------------------------------------------

    def _enqueue(self, request: Request, now_ns: int) -> RefusedError | None:
        """Let a request wait for a worker; where there is none because the model sleeps, for its wake. Or why not."""
        if self.awake or self._closing:
            return super()._enqueue(request, now_ns)
        limit = self._limits.queue_limit_rows
        if len(self._held) >= limit:
            return QueueFull(f"{limit} requests wait already for model {self.name!r} to wake, which is the limit")
        patience_ns = request.timeout_ns or int(self._limits.request_timeout_s * NS)
        refusal = self._harbour.cold(self, patience_ns)
        if refusal is None:
            self._held[request] = now_ns + patience_ns
        return refusal

    def _let_in(self) -> None:
        """Those who waited for the wake wait for a worker now. An objective's bound counts from here."""
        now_ns = self._now_ns()
        held, self._held = self._held, {}
        for request in held:
            if not request.timeout_ns:
                request.deadline_ns = 0
            error = super()._enqueue(request, now_ns)
            if error is not None:
                self._ledger.fail(request, error)

    def cancel(self, request: Request) -> None:
        """The client has left."""
        if self._held.pop(request, None) is None:
            super().cancel(request)
            return
        request.gone = True
        self._ledger.cancelled(request)
        self._if_forgone()

    def refuse_held(self, error: RefusedError) -> None:
        """Refuse whoever waits for it to wake."""
        held, self._held = self._held, {}
        for request in held:
            self._ledger.fail(request, error)

    def sweep(self, now_ns: int) -> None:
        """Called a few times a second; see ``ModelService.sweep``."""
        late = [request for request, limit_ns in self._held.items() if limit_ns <= now_ns]
        for request in late:
            del self._held[request]
            waited_s = (now_ns - request.arrived_ns) / NS
            message = f"the request waited {waited_s:.1f} s for model {self.name!r} to wake"
            self._ledger.fail(request, DeadlineExceeded(message, 1.0))
        if late:
            self._if_forgone()
        super().sweep(now_ns)

    def _if_forgone(self) -> None:
        if not self._held:
            self._harbour.forgone(self)

    def abandon(self) -> None:
        """Refuse what is not answered by now, and tell the workers to end."""
        self.awake = False
        self._closing = True
        self.refuse_held(Draining("the node was shut down before the model was awake"))
        super().abandon()


def held_bytes(service: ModelService) -> int:
    """What the workers of a service hold; see ``Berth.memory_bytes``."""
    return sum(pss_bytes(slot.handle.pid) for slot in service.slots if slot.handle is not None and slot.handle.pid)
