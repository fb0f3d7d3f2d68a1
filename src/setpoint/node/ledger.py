"""How a request ends: once, and counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from setpoint.core import InternalError, SetpointError
from setpoint.observe import ModelMetrics
from setpoint.wire import BatchOutputs
from setpoint.worker import CallRequest, Request, StreamRequest, TensorRequest

if TYPE_CHECKING:
    from setpoint.node.cache.front import ResponseCache


class Ledger:
    """Gives requests their answers or errors and writes each end into the metrics.

    Every accepted request ends here exactly once; where its client has left, the end is only written down.

    Attributes:
        cache: hears what became of each request; None without one.
    """

    def __init__(
        self, metrics: ModelMetrics, now_ns: Callable[[], int], on_bug: Callable[[BaseException], str]
    ) -> None:
        self._metrics = metrics
        self._now_ns = now_ns
        self._on_bug = on_bug
        self.cache: ResponseCache | None = None

    def batch(self, requests: Sequence[TensorRequest], outputs: BatchOutputs, run_ns: int) -> None:
        """Answer each request of a batch with its rows; as ``outputs``, and counted together."""
        now_ns = self._now_ns
        answered: list[Request] = []
        ended_ns: list[int] = []
        start = 0
        try:
            for request in requests:
                end = start + request.rows
                if self._written(request, run_ns, request.answer, outputs, start, end):
                    answered.append(request)
                    ended_ns.append(now_ns())
                if self.cache is not None:
                    self.cache.keep_outputs(request, outputs, start, end)
                start = end
        finally:
            self._metrics.answered_together(answered, ended_ns)

    def outputs(self, request: TensorRequest, outputs: BatchOutputs, start: int, end: int, run_ns: int) -> None:
        """Answer with rows ``start`` to ``end`` of a batch's outputs."""
        if self._written(request, run_ns, request.answer, outputs, start, end):
            self._metrics.answered(request, self._now_ns())
        if self.cache is not None:
            self.cache.keep_outputs(request, outputs, start, end)

    def json(self, request: CallRequest, json: bytes, run_ns: int) -> None:
        """Answer with JSON."""
        if self._written(request, run_ns, request.answer, json):
            self._metrics.answered(request, self._now_ns())
        if self.cache is not None:
            self.cache.keep_json(request, json)

    def given(self, request: Request, give: Callable[[], None]) -> None:
        """Answer with what is known: ``give`` writes it."""
        try:
            give()
        except Exception as error:
            self._not_written(request, error)
        else:
            request.ended = True
            self._metrics.reached(request, self._now_ns())

    def stream_end(self, request: StreamRequest, run_ns: int) -> None:
        """Every event was sent."""
        if self._written(request, run_ns, request.end):
            self._metrics.answered(request, self._now_ns())

    def fail(self, request: Request, error: SetpointError) -> None:
        """End a request with an error; nothing where it has ended already."""
        self._fail(request, error)
        if self.cache is not None:
            self.cache.failed(request, error)

    def fail_for_bug(self, requests: Iterable[Request], bug: Exception) -> None:
        """End those requests that a bug of ours left without an end: nobody may wait for ever."""
        error = self._internal(bug)
        for request in requests:
            self.fail(request, error)

    def cancelled(self, request: Request) -> None:
        """Write down a request whose client left before its answer, and that no worker holds any more."""
        self._write_off(request)
        if self.cache is not None:
            self.cache.abandoned(request)

    def _fail(self, request: Request, error: SetpointError) -> None:
        if request.gone:
            self._write_off(request)
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

    def _write_off(self, request: Request) -> None:
        if not request.ended:
            request.ended = True
            self._metrics.cancelled(request)

    def _written(self, request: Request, run_ns: int, give: Callable[..., None], *what: object) -> bool:
        """Let the wire write a worker's answer; False where its client has left, or it cannot be written."""
        if request.gone:
            self._write_off(request)
            return False
        request.run_ns = run_ns
        try:
            give(*what)
        except Exception as error:
            self._not_written(request, error)
            return False
        request.ended = True
        return True

    def _not_written(self, request: Request, error: Exception) -> None:
        # The boundary to the wire: one answer that cannot be written must not take the batch's others with it, nor
        # those that wait for the same answer and may want it in another form.
        self._fail(request, error if isinstance(error, SetpointError) else self._internal(error))

    def _internal(self, bug: Exception) -> InternalError:
        return InternalError(f"a bug in Setpoint, logged under {self._on_bug(bug)}")
