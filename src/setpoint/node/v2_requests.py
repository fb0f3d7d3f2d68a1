"""Requests by the Open Inference Protocol V2 over REST: answered in JSON or with binary tensors, also compressed."""

from __future__ import annotations

from functools import partial
from typing import cast

from setpoint.node.answer_headers import run_lines
from setpoint.node.door import Door
from setpoint.node.http import Exchange
from setpoint.node.requests import HttpTensorRequest
from setpoint.wire import BINARY, JSON_LENGTH, BatchOutputs, V2Codec, answer_coding

_JSON = b"application/json"
_NO_HEADERS: tuple[tuple[bytes, bytes], ...] = ()


class V2TensorRequest(HttpTensorRequest):
    """Tensors by V2."""

    __slots__ = ("door",)

    door: Door
    """Set by whoever makes the request."""

    def answer(self, outputs: BatchOutputs, start: int, end: int) -> None:
        """Write the outputs."""
        exchange = self._exchange
        exchange.lines += run_lines(self.variant, self.started_ns - self.arrived_ns, self.run_ns)
        if not self._decoded.binary and b"accept-encoding" not in exchange.headers:
            exchange.respond(200, self._codec.encode(self._decoded, outputs, start, end))
            return
        codec = cast(V2Codec, self._codec)
        content_type, headers = _JSON, _NO_HEADERS
        if self._decoded.binary:
            pieces, json_bytes = codec.encode_binary(self._decoded, outputs, start, end)
            body = b"".join(pieces)
            content_type, headers = BINARY, ((JSON_LENGTH, b"%d" % json_bytes),)
        else:
            body = codec.encode(self._decoded, outputs, start, end)
        coding = answer_coding(exchange.headers.get(b"accept-encoding"), len(body))
        if coding:
            headers += ((b"content-encoding", coding.encode()), (b"vary", b"accept-encoding"))
            self.door.pack(exchange, body, coding, partial(_respond, exchange, content_type, headers))
        else:
            exchange.respond(200, body, content_type, headers)


def _respond(exchange: Exchange, content_type: bytes, headers: tuple[tuple[bytes, bytes], ...], body: bytes) -> None:
    exchange.respond(200, body, content_type, headers)
