"""How a request ends: once, and counted."""

from __future__ import annotations

from collections.abc import Callable

from setpoint.core import InternalError, SetpointError
from setpoint.observe import ModelMetrics
from setpoint.wire import BatchOutputs
from setpoint.worker import CallRequest, Request, StreamRequest, TensorRequest


class Ledger:
    """Gives requests their answers or errors and writes each end into the metrics.

    Every accepted request ends here exactly once; where its client has left, the end is only written down.
    """

    def __init__(
        self, metrics: ModelMetrics, now_ns: Callable[[], int], on_bug: Callable[[BaseException], str]
    ) -> None:
        self._metrics = metrics
        self._now_ns = now_ns
        self._on_bug = on_bug

    def outputs(self, request: TensorRequest, outputs: BatchOutputs, start: int, end: int, run_ns: int) -> None:
        """Answer with rows ``start`` to ``end`` of a batch's outputs."""
        if request.gone:
            self.cancelled()
            return
        try:
            request.answer(outputs, start, end)
        except Exception as error:
            self._not_written(request, error)
        else:
            self.answered(request, run_ns)

    def json(self, request: CallRequest, json: bytes, run_ns: int) -> None:
        """Answer with JSON."""
        if request.gone:
            self.cancelled()
            return
        try:
            request.answer(json)
        except Exception as error:
            self._not_written(request, error)
        else:
            self.answered(request, run_ns)

    def stream_end(self, request: StreamRequest, run_ns: int) -> None:
        """Every event was sent."""
        if request.gone:
            self.cancelled()
        else:
            request.end()
            self.answered(request, run_ns)

    def answered(self, request: Request, run_ns: int) -> None:
        """Write down an answer that was given."""
        metrics = self._metrics
        metrics.outcomes["ok"] += 1
        metrics.queue_ns.add(request.started_ns - request.arrived_ns)
        metrics.run_ns.add(run_ns)
        metrics.total_ns.add(self._now_ns() - request.arrived_ns)

    def fail(self, request: Request, error: SetpointError) -> None:
        """End a request with an error."""
        if request.gone:
            self.cancelled()
            return
        self._metrics.outcomes[error.kind] += 1
        request.fail(error)

    def cancelled(self) -> None:
        """Write down a request whose client left before its answer."""
        self._metrics.outcomes["cancelled"] += 1

    def _not_written(self, request: Request, error: Exception) -> None:
        # The boundary to the wire: one answer that cannot be written must not take the batch's others with it.
        if isinstance(error, SetpointError):
            self.fail(request, error)
        else:
            self.fail(request, InternalError(f"a bug in Setpoint, logged under {self._on_bug(error)}"))
