"""How a request ends: once, and counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable

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
            self.cancelled(request)
            return
        request.run_ns = run_ns
        try:
            request.answer(outputs, start, end)
        except Exception as error:
            self._not_written(request, error)
        else:
            self._answered(request)

    def json(self, request: CallRequest, json: bytes, run_ns: int) -> None:
        """Answer with JSON."""
        if request.gone:
            self.cancelled(request)
            return
        request.run_ns = run_ns
        try:
            request.answer(json)
        except Exception as error:
            self._not_written(request, error)
        else:
            self._answered(request)

    def stream_end(self, request: StreamRequest, run_ns: int) -> None:
        """Every event was sent."""
        if request.gone:
            self.cancelled(request)
            return
        request.run_ns = run_ns
        try:
            request.end()
        except Exception as error:
            self._not_written(request, error)
        else:
            self._answered(request)

    def fail(self, request: Request, error: SetpointError) -> None:
        """End a request with an error; nothing where it has ended already."""
        if request.gone:
            self.cancelled(request)
            return
        if request.ended:
            return
        request.ended = True
        self._metrics.failed(request, error, self._now_ns())
        try:
            request.fail(error)
        except Exception as bug:
            # Whoever is failed together with this one must still hear of it.
            self._on_bug(bug)

    def fail_for_bug(self, requests: Iterable[Request], bug: Exception) -> None:
        """End those requests that a bug of ours left without an end: nobody may wait for ever."""
        error = InternalError(f"a bug in Setpoint, logged under {self._on_bug(bug)}")
        for request in requests:
            self.fail(request, error)

    def cancelled(self, request: Request) -> None:
        """Write down a request whose client left before its answer."""
        if not request.ended:
            request.ended = True
            self._metrics.cancelled(request)

    def _answered(self, request: Request) -> None:
        request.ended = True
        self._metrics.answered(request, self._now_ns())

    def _not_written(self, request: Request, error: Exception) -> None:
        # The boundary to the wire: one answer that cannot be written must not take the batch's others with it.
        if isinstance(error, SetpointError):
            self.fail(request, error)
        else:
            self.fail_for_bug([request], error)
