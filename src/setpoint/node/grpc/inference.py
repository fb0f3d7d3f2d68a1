"""ModelInfer and ModelStreamInfer: from a message to a request in a model's queue, and back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from setpoint.core import Draining, Limits, SetpointError
from setpoint.node.answer_headers import metadata_of, model_line, run_lines, step_lines
from setpoint.node.grpc.catalogue import Catalogue
from setpoint.node.grpc.requests import GrpcTensorRequest
from setpoint.node.http import trace_context
from setpoint.node.terms import read_terms, take_v2_terms
from setpoint.wire import grpc as wire

_OUR_METADATA = "setpoint-"
_TRACE_METADATA = ("traceparent", "tracestate")
_NS = 1e9


class Inference:
    """The calls that run models."""

    def __init__(self, catalogue: Catalogue, limits: Limits) -> None:
        self._catalogue = catalogue
        self._message_limit_bytes = limits.json_limit_bytes
        self._stream_limit = limits.pipeline_limit
        self._streams: set[_Stream] = set()

    async def infer(self, body: bytes, context: Any) -> bytes:
        """``ModelInfer``. What HTTP says in headers of an answer follows it as trailing metadata.

        Raises:
            SetpointError: why there is no answer.
        """
        request = self._submit(self._read(body), context, streams=False)
        response = await request.response()
        context.set_trailing_metadata(_told(request))
        return response

    async def stream(self, messages: AsyncIterator[bytes], context: Any) -> None:
        """``ModelStreamInfer``: one response for each request, in the order of the requests, errors among them."""
        stream = _Stream(self, context, self._stream_limit)
        self._streams.add(stream)
        try:
            await stream.run(messages)
        finally:
            self._streams.discard(stream)

    def drain(self) -> None:
        """Answer what streams have asked by now and read no more from them."""
        for stream in self._streams:
            stream.drain()

    def _read(self, body: bytes) -> wire.InferMessage:
        return wire.read_infer(body, self._message_limit_bytes)

    def ask(self, body: bytes, context: Any) -> GrpcTensorRequest | bytes:
        """One message of a stream: its request in the queue, or an encoded response that says why it is not there."""
        model, request_id = "", ""
        try:
            infer = self._read(body)
            model, request_id = infer.model_name, infer.id
            return self._submit(infer, context, streams=True)
        except SetpointError as error:
            return wire.stream_error(error.message, model, request_id)

    def _submit(self, infer: wire.InferMessage, context: Any, *, streams: bool) -> GrpcTensorRequest:
        service = self._catalogue.find(infer.model_name, infer.model_version)
        endpoint, codec = self._catalogue.codec(service)
        decoded = codec.decode(infer)
        request = GrpcTensorRequest(service, endpoint.name, decoded, codec, streams=streams)
        _read_headers(context, request)
        take_v2_terms(decoded, request)
        _hold_deadline(context, request)
        service.submit(request)
        return request


def _read_headers(context: Any, request: GrpcTensorRequest) -> None:
    """The same headers as HTTP's, as metadata."""
    headers = {
        name.encode(): value.encode() if isinstance(value, str) else value
        for name, value in context.invocation_metadata()
        if name.startswith(_OUR_METADATA) or name in _TRACE_METADATA
    }
    traceparent = headers.get(b"traceparent")
    if traceparent is not None:
        request.trace = trace_context(traceparent, headers.get(b"tracestate", b""))
    if headers:
        read_terms(headers, request)


def _told(request: GrpcTensorRequest) -> tuple[tuple[str, str], ...]:
    """Which model answered, which variant of it, and where the time went."""
    bundle = request.service.config.bundle
    run = run_lines(request.variant, request.started_ns - request.arrived_ns, request.run_ns)
    steps = step_lines(request.steps, request.trace)
    return metadata_of(model_line(bundle.name, bundle.digest) + steps + run)


def _hold_deadline(context: Any, request: GrpcTensorRequest) -> None:
    """gRPC's own deadline holds whatever else was said: behind it nobody listens."""
    remaining_s = context.time_remaining()
    if remaining_s is not None:
        remaining_ns = max(1, int(remaining_s * _NS))
        request.timeout_ns = min(remaining_ns, request.timeout_ns or remaining_ns)


class _Stream:
    """One ModelStreamInfer call: a reader that submits, and a writer that answers in the same order."""

    def __init__(self, inference: Inference, context: Any, limit: int) -> None:
        self._inference = inference
        self._context = context
        # Reading stops when so many are unanswered; then HTTP/2's flow control holds the client back.
        self._room = asyncio.Semaphore(limit)
        self._asked: asyncio.Queue[GrpcTensorRequest | bytes | None] = asyncio.Queue()
        self._reader: asyncio.Task[None] | None = None
        self._draining = False

    async def run(self, messages: AsyncIterator[bytes]) -> None:
        """Until the client has said everything and has every answer.

        Raises:
            Draining: the node ended the stream.
        """
        self._reader = asyncio.create_task(self._read(messages))
        try:
            while (asked := await self._asked.get()) is not None:
                await self._context.write(await self._response(asked))
                self._room.release()
            if self._draining:
                raise Draining("the node is shutting down; open the stream on another one")
            await self._reader  # it has ended, and this tells if it was a bug that ended it
        finally:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
            while not self._asked.empty():
                left = self._asked.get_nowait()
                if isinstance(left, GrpcTensorRequest):
                    left.abandon()

    def drain(self) -> None:
        """Read no more."""
        self._draining = True
        if self._reader is not None:
            self._reader.cancel()

    async def _read(self, messages: AsyncIterator[bytes]) -> None:
        try:
            async for body in messages:
                await self._room.acquire()
                self._asked.put_nowait(self._inference.ask(body, self._context))
        finally:
            self._asked.put_nowait(None)

    async def _response(self, asked: GrpcTensorRequest | bytes) -> bytes:
        if isinstance(asked, bytes):
            return asked
        try:
            return await asked.response()
        except SetpointError as error:
            return wire.stream_error(error.message, asked.service.name, asked.id)
