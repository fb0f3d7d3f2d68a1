"""Requests by the Open Inference Protocol V2 over REST: answered in JSON or with binary tensors, also compressed."""

from __future__ import annotations

from functools import partial

from setpoint.node.door import Door
from setpoint.node.http import Exchange
from setpoint.node.requests import Canceller, HttpTensorRequest
from setpoint.wire import BINARY, JSON_LENGTH, BatchOutputs, InferRequest, V2Codec, answer_coding

_JSON = b"application/json"
_NO_HEADERS: tuple[tuple[bytes, bytes], ...] = ()


class V2TensorRequest(HttpTensorRequest):
    """Tensors by V2."""

    __slots__ = ("_door", "_v2")

    def __init__(
        self, exchange: Exchange, endpoint: str, decoded: InferRequest, codec: V2Codec, canceller: Canceller, door: Door
    ) -> None:
        super().__init__(exchange, endpoint, decoded, codec, canceller)
        self._v2 = codec
        self._door = door

    def answer(self, outputs: BatchOutputs, start: int, end: int) -> None:
        """Write the outputs."""
        exchange = self._exchange
        if not self._decoded.binary and b"accept-encoding" not in exchange.headers:
            super().answer(outputs, start, end)
            return
        self.tell_run()
        content_type, headers = _JSON, _NO_HEADERS
        if self._decoded.binary:
            pieces, json_bytes = self._v2.encode_binary(self._decoded, outputs, start, end)
            body = b"".join(pieces)
            content_type, headers = BINARY, ((JSON_LENGTH, b"%d" % json_bytes),)
        else:
            body = self._v2.encode(self._decoded, outputs, start, end)
        coding = answer_coding(exchange.headers.get(b"accept-encoding"), len(body))
        if coding:
            headers += ((b"content-encoding", coding.encode()), (b"vary", b"accept-encoding"))
            self._door.pack(exchange, body, coding, partial(_respond, exchange, content_type, headers))
        else:
            exchange.respond(200, body, content_type, headers)


def _respond(exchange: Exchange, content_type: bytes, headers: tuple[tuple[bytes, bytes], ...], body: bytes) -> None:
    exchange.respond(200, body, content_type, headers)
