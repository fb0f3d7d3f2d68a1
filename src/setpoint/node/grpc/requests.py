"""Requests that came over gRPC: each is awaited by the call that brought it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from setpoint.core import SetpointError, StepTime
from setpoint.node.http import TraceContext
from setpoint.node.service import ModelService
from setpoint.wire import BatchOutputs, InferRequest
from setpoint.wire import grpc as wire
from setpoint.worker import TensorRequest


class GrpcTensorRequest(TensorRequest):
    """Tensors, by ``ModelInfer`` or on a stream.

    Attributes:
        service: the model that is asked.
        trace: that its call belongs to; None where its client names none.
        steps: what each step took, where the model is a composition.
    """

    __slots__ = ("_codec", "_decoded", "_response", "_streams", "service", "steps", "trace")

    def __init__(
        self, service: ModelService, endpoint: str, decoded: InferRequest, codec: wire.GrpcCodec, *, streams: bool
    ) -> None:
        super().__init__(endpoint, decoded.rows, (endpoint, decoded.inner_shapes), decoded.arrays)
        self.service = service
        self.trace: TraceContext | None = None
        self.steps: Sequence[StepTime] = ()
        self._decoded = decoded
        self._codec = codec
        self._streams = streams
        self._response: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    @property
    def id(self) -> str:
        """The client's own name for it; empty without."""
        return self._decoded.id

    async def response(self) -> bytes:
        """The encoded answer. Where the call is cancelled meanwhile, the request is taken out of its queue.

        Raises:
            SetpointError: there is none, and why.
        """
        try:
            return await self._response
        except asyncio.CancelledError:
            self.abandon()
            raise

    def abandon(self) -> None:
        """The client has left; nothing where the request was answered."""
        if not self.ended:
            self._response.cancel()
            self.service.cancel(self)

    def tell(self, steps: Sequence[StepTime]) -> None:
        """Keep it for what follows the answer."""
        self.steps = steps

    def answer(self, outputs: BatchOutputs, start: int, end: int) -> None:
        """Encode the outputs, while they are valid."""
        if self._response.done():
            return  # the call was cancelled in this turn of the event loop, and its task has not heard of it yet
        if self._streams:
            response = self._codec.encode(self._decoded, outputs, start, end, wire.FINAL_RESPONSE)
            self._response.set_result(wire.stream_response(response))
        else:
            self._response.set_result(b"".join(self._codec.encode(self._decoded, outputs, start, end)))

    def fail(self, error: SetpointError) -> None:
        """Hand the error to the call."""
        if not self._response.done():
            self._response.set_exception(error)
            self._response.exception()  # so that it counts as seen: asyncio would log it where the client has left
