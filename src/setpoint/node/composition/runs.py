"""Requests on their way through a composition: this stands where a model of one piece has its queue and dispatch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import cast

from setpoint.core import COMPOSITION_ENGINE, Limits, QueueFull, RequestTooLarge, SetpointError
from setpoint.node.composition.graph import Graph
from setpoint.node.composition.run import Arrays, Run
from setpoint.node.ledger import Ledger
from setpoint.node.slot import Slot
from setpoint.observe import ModelMetrics
from setpoint.scheduling import Reason, Refuse
from setpoint.wire import BatchOutputs
from setpoint.worker import Request, StreamRequest, TensorRequest


class Runs:
    """The requests of one composition.

    Attributes:
        rows_limit: see ``Host``.
        now_ns: the node's clock.
        due: it begins with what has come at the end of this turn of the event loop.
    """

    def __init__(
        self,
        graph: Graph,
        ledger: Ledger,
        metrics: ModelMetrics,
        limits: Limits,
        now_ns: Callable[[], int],
        bound_ns: int,
    ) -> None:
        """Nothing is on its way yet; ``bound_ns`` is the longest that a request may take."""
        self.rows_limit = limits.queue_limit_rows
        self.now_ns = now_ns
        self._graph = graph
        self._ledger = ledger
        self._metrics = metrics
        self._bound_ns = bound_ns
        self._held_limit_bytes = limits.composition_limit_bytes
        self._held_bytes = 0
        self._runs: dict[Request, Run] = {}
        self._new: list[Run] = []
        self.due = False
        self._rows = 0
        self._loop: asyncio.AbstractEventLoop

    # --- as a queue ----------------------------------------------------------------------------------------------

    def arrived(self, request: Request, now_ns: int) -> Refuse[Request] | None:
        """Begin with it at the end of this turn of the event loop; or why not."""
        if self._runs and self._rows + request.rows > self.rows_limit:
            return Refuse(request, Reason.QUEUE_FULL, limit=self.rows_limit)
        latest_ns = now_ns + self._bound_ns
        if not 0 < request.deadline_ns < latest_ns:
            request.deadline_ns = latest_ns
        run = Run(cast(TensorRequest, request), self._graph, self)
        self._runs[request] = run
        self._new.append(run)
        self._rows += request.rows
        return None

    def cancelled(self, request: Request) -> bool:
        """Its client has left: take back what its steps were asked. Whether it was on its way."""
        request.gone = True
        run = self._end(request)
        if run is not None:
            run.stop()
        return run is not None

    @property
    def waiting_requests(self) -> int:
        """Requests on their way."""
        return len(self._runs)

    @property
    def waiting_rows(self) -> int:
        """Their rows, as they came."""
        return self._rows

    def waiting(self) -> Iterator[Request]:
        """Those of which no worker has been given anything yet."""
        return (request for request, run in self._runs.items() if not run.begun)

    def tick(self, now_ns: int) -> None:
        """Time has its effect on the steps' own queues."""

    # --- as a dispatch -------------------------------------------------------------------------------------------

    def begin(self, slots: Sequence[Slot]) -> None:
        """Work on the running event loop."""
        self._loop = asyncio.get_running_loop()

    def soon(self) -> None:
        """Begin with what has come at the end of this turn of the event loop."""
        if not self.due:
            self.due = True
            self._loop.call_soon(self.now)

    def now(self) -> None:
        """Begin with what has come."""
        self.due = False
        new, self._new = self._new, []
        for run in new:
            if run.over:
                continue
            try:
                run.begin()
            except Exception as bug:
                self._end(run.request)
                run.stop()
                self._ledger.fail_for_bug([run.request], bug)

    def abandon(self, error: SetpointError) -> None:
        """Fail whatever is on its way with this error."""
        for request, run in list(self._runs.items()):
            self._end(request)
            run.stop()
            self._ledger.fail(request, error)

    def cancel_stream(self, request: StreamRequest) -> None:
        """A composition streams nothing."""

    def resume(self, request: StreamRequest) -> None:
        """A composition streams nothing."""

    # --- what runs say -------------------------------------------------------------------------------------------

    def hold(self, size_bytes: int) -> None:
        """See ``Host``: of all requests together."""
        if size_bytes > self._held_limit_bytes:
            raise RequestTooLarge(
                f"a tensor between steps has {size_bytes} bytes, more than the {self._held_limit_bytes} that all "
                "requests of a composition may hold"
            )
        if size_bytes > 0 and self._held_bytes + size_bytes > self._held_limit_bytes:
            raise QueueFull(
                f"the requests of this composition hold {self._held_bytes} bytes between their steps, and "
                f"{self._held_limit_bytes} is the limit"
            )
        self._held_bytes += size_bytes

    def completed(self, run: Run, outputs: Arrays) -> None:
        """Answer."""
        request = run.request
        if self._end(request) is None:
            return
        request.variant = COMPOSITION_ENGINE
        now_ns = self.now_ns()
        request.started_ns = run.started_ns or now_ns
        # As Triton counts an ensemble: each request is one execution. The batches of the steps are counted with them.
        self._metrics.batches.add(request.rows, now_ns, run.run_ns, now_ns - request.started_ns)
        request.tell(run.times)
        self._ledger.outputs(request, BatchOutputs(outputs, together=False), 0, request.rows, run.run_ns)

    def failed(self, run: Run, error: SetpointError) -> None:
        """Say why there is no answer, and how far it came."""
        request = run.request
        if self._end(request) is None:
            return
        request.tell(run.times)
        self._ledger.fail(request, error)

    def _end(self, request: Request) -> Run | None:
        run = self._runs.pop(request, None)
        if run is not None:
            self._rows -= request.rows
        return run
