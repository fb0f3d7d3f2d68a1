"""What every request meets before it is read: is the node still open, and is this a body that we read."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from setpoint.core import RequestTooLarge, UnsupportedMedia
from setpoint.node.http import Exchange, HttpServer
from setpoint.node.http.refusals import too_many_bodies
from setpoint.node.shared_memory import Regions
from setpoint.node.slices import Slices
from setpoint.wire import CODINGS, check_depth, deflate, inflate

JSON = b"application/json"
_NOT_JSON = (b"application/octet-stream", b"multipart/form-data")
Handler = Callable[[Exchange], None]


class Door:
    """Checks that routes share.

    Attributes:
        limits: of the node.
        refuse_while_draining: raises ``Draining`` when the node is shutting down.
        slices: for readings and writings that take long.
        memory: regions that clients share with the node.
    """

    def __init__(self, server: HttpServer, memory: Regions) -> None:
        self.limits = server.limits
        self.refuse_while_draining = server.refuse_while_draining
        self.slices = Slices(server.bug)
        self.memory = memory
        self._hold_body = server.hold_body

    def unpacking(self, handler: Handler) -> Handler:
        """The same handler, for bodies that may come compressed: it sees them as they were before."""

        def handle(exchange: Exchange) -> None:
            if b"content-encoding" in exchange.headers:
                self._unpack(exchange, handler)
            else:
                handler(exchange)

        return handle

    def _unpack(self, exchange: Exchange, handler: Handler) -> None:
        encoding = exchange.headers.pop(b"content-encoding")
        coding = encoding.strip().lower().removeprefix(b"x-").decode("latin-1")
        if coding in ("", "identity"):
            handler(exchange)
            return
        if coding not in CODINGS:
            exchange.lines += b"accept-encoding: %b\r\n" % ", ".join(CODINGS).encode()
            raise UnsupportedMedia(
                f"content-encoding {coding[:40]!r} is not supported; send the body plain, or as {' or '.join(CODINGS)}"
            )
        self.refuse_while_draining()
        packed, exchange.body = exchange.body, b""
        work = inflate(packed, coding, self.limits.body_limit_bytes)
        self.slices.run(exchange, work, partial(self._unpacked, exchange, handler))

    def _unpacked(self, exchange: Exchange, handler: Handler, body: bytes) -> None:
        if not self._hold_body(len(body)):
            self._hold_body(-len(body))
            raise too_many_bodies(self.limits)
        exchange.hold_body(len(body))
        exchange.body = body
        handler(exchange)

    def pack(self, exchange: Exchange, body: bytes, coding: str, then: Callable[[bytes], None]) -> None:
        """Compress an answer and give it to ``then``."""
        self.slices.run(exchange, deflate(body, coding), then)

    def check_json(self, exchange: Exchange) -> None:
        """Refuse bodies that cannot be JSON, or would take too long to read."""
        if len(exchange.body) > self.limits.json_limit_bytes:
            raise RequestTooLarge(
                f"the JSON body has {len(exchange.body)} bytes, more than the limit of {self.limits.json_limit_bytes} "
                "(--max-json); send fewer rows a request"
            )
        check_depth(exchange.body, self.limits.json_depth_limit)
        # Others are tried whatever they are called: curl calls JSON a form.
        headers = exchange.headers
        content_type = headers.get(b"content-type", JSON)
        if content_type != JSON and content_type.split(b";", 1)[0].strip().lower() in _NOT_JSON:
            raise UnsupportedMedia(f"expected application/json, got {content_type.decode('latin-1')[:80]}")
        if b"inference-header-content-length" in headers:
            raise UnsupportedMedia("binary tensor data is for routes of the Open Inference Protocol, under /v2/")


def media_type(exchange: Exchange) -> bytes:
    """What the body says that it is, without parameters; empty where it does not."""
    return exchange.headers.get(b"content-type", b"").split(b";", 1)[0].strip().lower()
