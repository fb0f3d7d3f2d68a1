"""Routes of one model by Triton's generate extension: text in, text out."""

from __future__ import annotations

from functools import partial

from setpoint.core import SetpointError
from setpoint.node.door import Door, Handler
from setpoint.node.http import Exchange
from setpoint.node.requests import HttpCallRequest, HttpStreamRequest
from setpoint.node.service import ModelService
from setpoint.node.terms import read_terms
from setpoint.wire import GenerateCodec, TextEndpoint, generate_error, no_text, text_endpoint


def generate(service: ModelService, door: Door, *, streams: bool) -> Handler:
    """``POST …/generate``, or ``…/generate_stream``; made once for a model."""
    text = text_endpoint(service.manifest.endpoints, streams=streams)
    if text is None:
        return partial(_no_text, service, door, streams)
    codec = GenerateCodec(text, service.name, str(service.config.bundle.version))
    return partial(_begin, service, door, streams, text, codec)


def _no_text(service: ModelService, door: Door, streams: bool, exchange: Exchange) -> None:
    door.refuse_while_draining()
    raise no_text(service.name, streams=streams)


def _begin(
    service: ModelService, door: Door, streams: bool, text: TextEndpoint, codec: GenerateCodec, exchange: Exchange
) -> None:
    door.refuse_while_draining()
    door.check_json(exchange)
    exchange.body, request_id = codec.decode(exchange.body)
    request: GenerateRequest | GenerateStream
    if streams:
        request = GenerateStream(exchange, text, codec, request_id, service)
    else:
        request = GenerateRequest(exchange, text, codec, request_id, service)
    read_terms(exchange.headers, request)
    service.submit(request)


class GenerateRequest(HttpCallRequest):
    """A text that waits for its answer."""

    __slots__ = ("_told",)

    def __init__(
        self, exchange: Exchange, text: TextEndpoint, codec: GenerateCodec, request_id: str, service: ModelService
    ) -> None:
        super().__init__(exchange, text.endpoint.name, 1, False, service)
        self._told = partial(codec.answer, request_id=request_id)

    def answer(self, json: bytes) -> None:
        """Write the answer."""
        super().answer(self._told(json))


class GenerateStream(HttpStreamRequest):
    """A text that is answered in pieces."""

    __slots__ = ("_told",)

    def __init__(
        self, exchange: Exchange, text: TextEndpoint, codec: GenerateCodec, request_id: str, service: ModelService
    ) -> None:
        super().__init__(exchange, text.endpoint.name, False, service)
        self._told = partial(codec.answer, request_id=request_id)

    def event(self, json: bytes) -> None:
        """Write one piece."""
        super().event(self._told(json))

    def fail(self, error: SetpointError) -> None:
        """An error status before the first piece; afterwards an event as any other, then the end."""
        if self._exchange.answered:
            self._exchange.send(generate_error(error))
            self.end()
        else:
            super().fail(error)
