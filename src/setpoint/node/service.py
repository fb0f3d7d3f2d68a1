"""One served model: it takes requests, and sees each of them answered exactly once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from setpoint.core import Clock, Draining, Limits, NotReady, RefusedError
from setpoint.node.config import ModelConfig
from setpoint.node.crew import Launch
from setpoint.node.dispatch import COME_BACK_S
from setpoint.node.heartbeat import last_minute_lag
from setpoint.node.ledger import Ledger
from setpoint.node.machinery import Machinery, machinery_of
from setpoint.node.refusals import refusal_error
from setpoint.node.slot import Slot
from setpoint.observe import CacheCounts, ModelMetrics, ModelReport, QueueReport, model_report
from setpoint.worker import Request, StreamRequest, WorkerHandle

if TYPE_CHECKING:
    from setpoint.node.cache.front import ResponseCache


class ModelService:
    """Takes requests for one model and sees each of them answered exactly once."""

    def __init__(
        self,
        config: ModelConfig,
        limits: Limits,
        clock: Clock,
        on_bug: Callable[[BaseException], str],
        launch: Launch = WorkerHandle,
    ) -> None:
        """Nothing is started yet.

        Args:
            config: the model.
            limits: of the node.
            clock: for deadlines and durations.
            on_bug: logs a bug of ours and returns the reference under which it was logged.
            launch: starts one worker.
        """
        self.config = config
        self.manifest = config.bundle.manifest
        self.metrics = ModelMetrics()
        self.accuracies = {variant.name: variant.accuracy for variant in self.manifest.variants}
        self._now_ns = clock.now_ns
        self._ledger = Ledger(self.metrics, clock.now_ns, on_bug)
        self.variants, self._scheduler, self._dispatch, self._crew = self._machinery(limits, clock, on_bug, launch)
        self.awake = True
        """Whether requests go to its workers; a ``Berth`` has times when they do not."""
        self.used_ns = 0
        """When the last request came."""
        self._closing = False
        self._cache: ResponseCache | None = None
        if config.cache is not None:
            from setpoint.node.cache.opening import open_cache  # only where it is asked for

            self.metrics.cache = CacheCounts()
            self._cache = self._ledger.cache = open_cache(
                config.cache,
                config.bundle,
                config.objective,
                limits,
                counts=self.metrics.cache,
                now_ns=clock.now_ns,
                on_bug=on_bug,
                ends=self._ledger,
                enqueue=self._enqueue,
            )

    def _machinery(
        self, limits: Limits, clock: Clock, on_bug: Callable[[BaseException], str], launch: Launch
    ) -> Machinery:
        """Queue, dispatch and workers; a composition's are others."""
        return machinery_of(self.config, limits, clock, launch, self._ledger, self.metrics)

    # --- life ----------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Work on the running event loop."""
        self._dispatch.begin(self._crew.slots)
        if self._cache is not None:
            self._cache.begin()

    async def start(self) -> None:
        """Start the workers and wait until every one of them is ready.

        Raises:
            SetpointError: the model cannot be loaded.
        """
        self.begin()
        await self._crew.start()

    async def close(self) -> None:
        """End the workers and wait until they have ended. A node drains before it closes."""
        self.abandon()
        await self._crew.ended()
        if self._cache is not None:
            await self._cache.close()

    def abandon(self) -> None:
        """Refuse what is not answered by now, and tell the workers to end."""
        self._closing = True
        error = Draining("the node was shut down before the request was answered")
        self._dispatch.abandon(error)
        if self._cache is not None:
            self._cache.abandon(error)
        self._crew.close()

    @property
    def name(self) -> str:
        """What clients call the model."""
        return self.config.bundle.name

    @property
    def ready(self) -> bool:
        """Whether some worker can take a batch, now or behind the one it holds."""
        return self._crew.ready

    @property
    def parts(self) -> Sequence[ModelService]:
        """The models that it consists of, where it is a composition; none otherwise."""
        return ()

    @property
    def slots(self) -> Sequence[Slot]:
        """The places of its workers."""
        return self._crew.slots

    @property
    def queue_rows(self) -> int:
        """Rows that wait."""
        return self._scheduler.waiting_rows

    def oldest_wait_ns(self, now_ns: int) -> int:
        """Since when the request waits that has waited longest; 0 when none does."""
        return max((now_ns - request.arrived_ns for request in self._scheduler.waiting()), default=0)

    @property
    def devices(self) -> dict[str, str]:
        """By variant, the device that workers run it on; empty before the first of them is ready."""
        return dict(zip(self.variants, self._crew.devices, strict=False))

    def report(self) -> ModelReport:
        """How the objective is held, for ``GET /v2/models/NAME/stats``; the event loop is the running node's."""
        now_ns = self._now_ns()
        waiting = QueueReport(
            self._scheduler.waiting_requests, self.queue_rows, round(self.oldest_wait_ns(now_ns) / 1e6, 3)
        )
        objective = str(self.config.objective) if self.config.objective is not None else None
        return model_report(self.metrics, now_ns, waiting, self.accuracies, objective, last_minute_lag())

    @property
    def in_flight(self) -> int:
        """Requests that wait or are in a worker. Counted where they are, so that the metrics can be checked with it."""
        elsewhere = self._cache.waiting if self._cache is not None else 0
        return self._scheduler.waiting_requests + elsewhere + sum(len(slot.requests) for slot in self.slots)

    # --- requests ------------------------------------------------------------------------------------------------

    def submit(self, request: Request) -> None:
        """Take a request. It will be answered or failed, once, unless the client leaves.

        Raises:
            QueueFull, Overloaded, OverShare, DeadlineExceeded: it would not be answered in time, or too much waits.
            NotReady: there is no worker, and none is likely to come soon.
            Draining: the node is shutting down.
        """
        metrics = self.metrics
        if request.tenant:
            metrics.offered(request.tenant)
        else:
            metrics.counts.offered += 1
        now_ns = self._now_ns()
        request.arrived_ns = self.used_ns = now_ns
        if request.timeout_ns:
            request.deadline_ns = now_ns + request.timeout_ns
        error: RefusedError | None
        if self.awake and self._cache is None and not self._closing and not self._crew.refusal:
            # What nearly always happens, and so without the calls in which the other cases are told apart.
            refusal = self._scheduler.arrived(request, now_ns)
            if refusal is not None:
                error = refusal_error(self.name, refusal)
            else:
                error = None
                if not self._dispatch.due:
                    self._dispatch.soon()
        else:
            error = self._take(request, now_ns)
        if error is not None:
            metrics.refused_at_door(request, error)
            try:
                raise error
            finally:
                # Its traceback holds this frame, and the frame would hold it: a heap of such rings, one a refusal, is
                # what the garbage collector stops everything for, 23 ms every few thousand refusals.
                del error
        metrics.accepted += 1

    def _take(self, request: Request, now_ns: int) -> RefusedError | None:
        """Answer a request that arrives now, or let it wait; returns why not."""
        if self._cache is None:
            return self._enqueue(request, now_ns)
        if self._cache.take(request, now_ns):
            return None
        error = self._enqueue(request, now_ns)
        if error is not None:
            self._cache.abandoned(request)
        return error

    def _enqueue(self, request: Request, now_ns: int) -> RefusedError | None:
        if self._closing:
            return Draining("the node is shutting down; send the request to another one")
        if self._crew.refusal:
            return NotReady(self._crew.refusal, COME_BACK_S)
        refusal = self._scheduler.arrived(request, now_ns)
        if refusal is not None:
            return refusal_error(self.name, refusal)
        self._dispatch.soon()
        return None

    def cancel(self, request: Request) -> None:
        """The client has left: take its request out of the queue, or forget about its answer."""
        if self._cache is not None and self._cache.cancel(request):
            return
        if self._scheduler.cancelled(request):
            self._ledger.cancelled(request)
        elif isinstance(request, StreamRequest):
            self._dispatch.cancel_stream(request)

    def resume(self, request: StreamRequest) -> None:
        """The client of a congested stream has caught up, or left: take events again."""
        self._dispatch.resume(request)

    def sweep(self, now_ns: int) -> None:
        """Called a few times a second: refuse what waited too long, replace workers that take too long."""
        self._scheduler.tick(now_ns)
        self._dispatch.now()
        self._crew.sweep(now_ns)
        if self._cache is not None:
            self._cache.sweep(now_ns)
        self.metrics.tick(now_ns)
