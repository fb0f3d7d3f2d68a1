"""Requests that came over HTTP: each knows its exchange and how its answer is written."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Protocol

from setpoint.core import SetpointError, StepTime
from setpoint.node.answer_headers import run_lines, step_lines
from setpoint.node.http import Exchange, respond_error
from setpoint.wire import BatchOutputs, InferRequest, sse
from setpoint.worker import CallRequest, Request, StreamRequest, TensorRequest


class Canceller(Protocol):
    """Takes back a request whose client has left."""

    def cancel(self, request: Request) -> None:
        """The client has left."""
        ...


class StreamSource(Canceller, Protocol):
    """Where events come from."""

    def resume(self, request: StreamRequest) -> None:
        """The client of a congested stream has caught up."""
        ...


class TensorEncoder(Protocol):
    """Writes the response body for outputs."""

    def encode(self, request: InferRequest, outputs: BatchOutputs, start: int, end: int) -> bytes:
        """The body for rows ``start`` to ``end`` of a batch."""
        ...


class HttpTensorRequest(TensorRequest):
    """Tensors, by V2 or by the native route."""

    __slots__ = ("_canceller", "_codec", "_decoded", "_exchange")

    def __init__(
        self, exchange: Exchange, endpoint: str, decoded: InferRequest, codec: TensorEncoder, canceller: Canceller
    ) -> None:
        # The root's, past its child's: one call less for the busiest object of a node.
        Request.__init__(self, endpoint, decoded.rows, (endpoint, decoded.inner_shapes))
        self.inputs = decoded.arrays
        self._exchange = exchange
        self._decoded = decoded
        self._codec = codec
        self._canceller = canceller
        exchange.on_disconnect = self._abandon

    def _abandon(self) -> None:
        self._canceller.cancel(self)

    def tell(self, steps: Sequence[StepTime]) -> None:
        """Say in the answer's headers what each step took."""
        self._exchange.lines += step_lines(steps, self._exchange.trace)

    def answer(self, outputs: BatchOutputs, start: int, end: int) -> None:
        """Write the outputs."""
        self._exchange.lines += run_lines(self.variant, self.started_ns - self.arrived_ns, self.run_ns)
        self._exchange.respond(200, self._codec.encode(self._decoded, outputs, start, end))

    def fail(self, error: SetpointError) -> None:
        """Write the error."""
        respond_error(self._exchange, error)


class HttpCallRequest(CallRequest):
    """A body for an endpoint of a Python class."""

    __slots__ = ("_canceller", "_exchange")

    def __init__(self, exchange: Exchange, endpoint: str, rows: int, raw: bool, canceller: Canceller) -> None:
        super().__init__(endpoint, rows, (endpoint, raw), exchange.body, raw=raw)
        self._exchange = exchange
        self._canceller = canceller
        exchange.on_disconnect = self._abandon

    def _abandon(self) -> None:
        self._canceller.cancel(self)

    def answer(self, json: bytes) -> None:
        """Write the answer."""
        self._exchange.lines += run_lines(self.variant, self.started_ns - self.arrived_ns, self.run_ns)
        self._exchange.respond(200, json)

    def fail(self, error: SetpointError) -> None:
        """Write the error."""
        respond_error(self._exchange, error)


class HttpStreamRequest(StreamRequest):
    """A body for a streaming endpoint, answered with server-sent events.

    Raises:
        RefusedError: the node answers as many streams as it may.
    """

    __slots__ = ("_exchange", "_source")

    def __init__(self, exchange: Exchange, endpoint: str, raw: bool, source: StreamSource) -> None:
        lane: Hashable = (endpoint, raw)
        super().__init__(endpoint, lane, exchange.body, raw=raw)
        exchange.reserve_stream()
        self._exchange = exchange
        self._source = source
        exchange.on_disconnect = self._abandon
        exchange.on_writable = self._resume

    def _abandon(self) -> None:
        self._source.cancel(self)

    def _resume(self) -> None:
        self._source.resume(self)

    @property
    def congested(self) -> bool:
        """Whether the client is behind."""
        return self._exchange.congested

    def event(self, json: bytes) -> None:
        """Write one event; the first one begins the response."""
        if not self._exchange.answered:
            self._begin()
        self._exchange.send(sse.event(json))

    def end(self) -> None:
        """End the response; a stream without events is an empty one."""
        self._exchange.on_writable = None
        if not self._exchange.answered:
            self._begin()
        self._exchange.end_stream()

    def fail(self, error: SetpointError) -> None:
        """An error status before the first event; afterwards an event that says so, then the end."""
        self._exchange.on_writable = None
        if not self._exchange.answered:
            respond_error(self._exchange, error)
        else:
            self._exchange.send(sse.error_event(error))
            self._exchange.end_stream()

    def _begin(self) -> None:
        self._exchange.lines += run_lines(self.variant, self.started_ns - self.arrived_ns, self.run_ns)
        self._exchange.begin_stream(sse.CONTENT_TYPE)
