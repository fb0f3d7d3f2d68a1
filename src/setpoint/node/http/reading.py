"""Reading requests: from packets to whole exchanges, within every limit. Knows nothing of answers.

The parser is llhttp (through httptools), which is Node.js's; what it forgives or leaves open is judged here.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from enum import Enum
from typing import TYPE_CHECKING

import httptools

from setpoint.core import RequestError, SetpointError, UnsupportedMedia
from setpoint.node.http.exchange import Exchange, add_repeated
from setpoint.node.http.known_heads import HEAD_END, MISSES_ALLOWED
from setpoint.node.http.refusals import body_too_large, header_too_large, too_many_bodies, too_many_headers
from setpoint.node.http.straight_body import LARGE_BYTES, LARGEST_BYTES, StraightBody

if TYPE_CHECKING:
    from setpoint.node.http.known_heads import KnownHead
    from setpoint.node.http.server import HttpServer

_SMALL_CHUNK_BYTES = 1024
_SLASH = ord("/")
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_PREFACE_READ = ("Pause on PRI/Upgrade",)
"""What the parser says when it has read one, of any version."""
_HEADER_BYTES = len(b"a:\r\n")
"""Of the shortest header there is."""
_HEAD_END_BYTES = len(HEAD_END)
_OFFER_HEADERS = (b"connection", b"upgrade")


class Phase(Enum):
    """What the connection waits for; each phase has its time-out."""

    IDLE = "idle"
    HEADERS = "headers"
    BODY = "body"


_IDLE, _HEADERS, _BODY = Phase  # looking a member up in its class takes seven times as long


class RequestReader(asyncio.Protocol, ABC):
    """The reading half of a connection: the parser's listener.

    The half that answers inherits it, and is not called through an interface: a request is a dozen calls as it is.
    """

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._limits = server.limits
        self._parser = httptools.HttpRequestParser(self)
        self._small_head_bytes = min(self._limits.header_limit_bytes, self._limits.header_count_limit * _HEADER_BYTES)
        self._phase = _IDLE
        self._phase_since_ns = 0
        self._received_ns = 0
        # Requests handed on in this turn of the event loop: each connection has its turn, however much it sent.
        self._handled = 0
        # Since the request began, or since its last piece of body: its head, sizes of chunks, trailers.
        self._head_bytes = 0
        self._body: list[bytes | bytearray] = []
        self._body_bytes = 0
        self._reading: Exchange | None = None
        self._headers: dict[bytes, bytes] = {}
        # Its head offered another protocol: the parser stops behind it.
        self._offering: Exchange | None = None
        # Headers of this request beyond the first of each name.
        self._repeats = 0
        # What of the body being read counts towards the budget for all of them.
        self._counted_bytes = 0
        # What reads the rest of a large body in place of us.
        self._straight: StraightBody | None = None
        # No request was read yet. A preface behind one would be somebody else's, smuggled through a proxy.
        self._fresh = True
        self._refusal: SetpointError | None = None
        # Nothing more will be read: the connection closes behind its last answer.
        self._ending = False
        # How many more heads may be strange before they are no longer looked for among those that are known.
        self._familiar = MISSES_ALLOWED
        # The packet being read, up to the end of the first request in it, if it began between two requests.
        self._packet = b""

    # --- the other half's ----------------------------------------------------------------------------------------

    @abstractmethod
    def _accept(self, exchange: Exchange) -> None:
        """A whole request is here."""

    @abstractmethod
    def _refuse(self, error: SetpointError) -> None:
        """Nothing can be read any more; say why, behind what was accepted."""

    @abstractmethod
    def _speak_http2(self, rest: bytes) -> None:
        """The client began with the preface of HTTP/2, and this behind it."""

    @abstractmethod
    def _invite_body(self) -> None:
        """A client waits with its body until it is told that it may come."""

    @abstractmethod
    def _straight_body(self, declared_bytes: int, pieces: list[bytes | bytearray]) -> StraightBody | None:
        """Read the rest of a body past the parser, where the transport allows it."""

    @abstractmethod
    def _read_on(self) -> None:
        """What comes next is for the parser again."""

    # --- packets -------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Bytes arrived."""
        if self._ending:
            return
        # One reading of the clock for all that this packet begins or completes.
        self._received_ns = self._server.now_ns()
        self._handled = 0
        self._packet = b""
        if self._familiar > 0 and self._phase is _IDLE:
            end = data.find(HEAD_END) + _HEAD_END_BYTES
            known = self._server.known_heads.find(data[:end])
            if known is not None and len(data) == end + known.body_bytes:
                self._take_known(known, data[end:])
                return
            self._familiar -= 1
            self._packet = data
        self._head_bytes += len(data)
        try:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                self._decline_upgrade(memoryview(data)[offer.args[0] :])
        except httptools.HttpParserCallbackError as error:
            self._refuse(self._server.bug(error.__context__ or error))
            return
        except httptools.HttpParserError as error:
            if self._fresh and error.args == _PREFACE_READ and self._is_http2_preface():
                self._speak_http2(data[len(HTTP2_PREFACE) - self._head_bytes + len(data) :])
                return
            self._refuse(RequestError(f"not a valid HTTP/1.1 request: {error}"))
            return
        if self._phase is _BODY and self._refusal is None:
            self._count_body(self._body_bytes)
            if self._reading is not None and self._refusal is None:
                self._read_straight(self._reading)
        if self._refusal is not None:
            self._refuse(self._refusal)
        elif self._phase is not _IDLE and self._head_bytes > self._limits.header_limit_bytes:
            self._refuse(header_too_large(self._limits))

    def _take_known(self, known: KnownHead, body: bytes) -> None:
        """A whole request is here, and what its head says is known."""
        self._familiar = MISSES_ALLOWED
        self._fresh = False
        self._phase_since_ns = self._received_ns
        exchange = Exchange(self)  # type: ignore[arg-type]  # as in on_message_begin
        exchange.method = known.method
        exchange.path = known.path
        exchange.query = known.query
        exchange.headers = known.headers.copy()
        exchange.body = body
        try:
            self._accept(exchange)
        except Exception as bug:
            self._refuse(self._server.bug(bug))
            return
        if self._refusal is not None:
            self._refuse(self._refusal)

    def _is_http2_preface(self) -> bool:
        """The parser forgives another version and another target."""
        return self._parser.get_http_version() == "2.0" and self._reading is not None and self._reading.path == b"*"

    def _decline_upgrade(self, rest: memoryview) -> None:
        """Go on in HTTP/1.1 where a client offers another protocol, as Java's does with its first request.

        The parser takes all that follows an offer for the other protocol, even a declared body. So a fresh one reads
        the same head again, without the offer.
        """
        self._packet = b""
        while self._offering is not None:
            offering, self._offering = self._offering, None
            self._parser = httptools.HttpRequestParser(self)
            headers = [b"%b: %b" % header for header in offering.headers.items() if header[0] not in _OFFER_HEADERS]
            if not offering.keep_alive:
                headers.append(b"connection: close")
            version = b"1.0" if offering.http_10 else b"1.1"
            lines = [b"%b %b HTTP/%b" % (offering.method, offering.path, version), *headers, b"", b""]
            try:
                self._parser.feed_data(b"\r\n".join(lines))
                self._parser.feed_data(rest)
                return
            except httptools.HttpParserUpgrade as offer:
                rest = rest[offer.args[0] :]
        self._ending = True  # CONNECT: what follows is not HTTP, and its answer says that we close

    def _judge_head(self, exchange: Exchange) -> SetpointError | None:
        """For all heads but small ones, whose bytes are too few for anything to be too much."""
        limits = self._limits
        if exchange.head_bytes > limits.header_limit_bytes:
            return header_too_large(limits)
        if len(exchange.headers) + self._repeats > limits.header_count_limit:
            return too_many_headers(limits)
        return None

    # --- large bodies, past the parser ---------------------------------------------------------------------------

    def _read_straight(self, exchange: Exchange) -> None:
        """Let the kernel write the rest of a large body where it belongs, if there is much, and memory for all of it.

        That is half of what all bodies may hold: somebody who declares much and sends nothing leaves the other half.
        """
        declared_bytes = int(exchange.headers.get(b"content-length", 0))
        if not self._body_bytes + LARGE_BYTES <= declared_bytes <= LARGEST_BYTES:
            return
        held_bytes = self._server.held_body_bytes - self._counted_bytes + declared_bytes
        if held_bytes <= self._limits.bodies_limit_bytes // 2:
            self._straight = self._straight_body(declared_bytes, self._body)
            if self._straight is not None:
                self._body = []
                self._count_body(declared_bytes)

    def body_grew(self, received_bytes: int) -> None:
        """More of it is here."""
        self._body_bytes = received_bytes

    def body_complete(self, body: bytes) -> None:
        """All of a large body is here."""
        self._received_ns = self._server.now_ns()
        self._handled = 0
        exchange, self._reading = self._reading, None
        assert exchange is not None, "its reading ends with it"
        self._parser = httptools.HttpRequestParser(self)  # the other one still waits for this body
        exchange.body = body
        exchange.hold_body(self._counted_bytes)
        self._counted_bytes = 0
        self._forget_body()
        self._complete(exchange)
        if self._refusal is not None:
            self._refuse(self._refusal)
        elif not exchange.keep_alive:
            self._ending = True  # what comes behind it does not count, and only the other parser knew

    def _count_body(self, held_bytes: int) -> None:
        """A body that is not here whole takes its part of what all such bodies may hold, until it is answered."""
        more_bytes = held_bytes - self._counted_bytes
        self._counted_bytes += more_bytes
        if not self._server.hold_body(more_bytes):
            self._refusal = too_many_bodies(self._limits)

    def _forget_body(self) -> None:
        """It was handed on, or never will be."""
        self._body = []
        self._body_bytes = 0
        if self._straight is not None:
            self._straight = None
            self._read_on()
        if self._counted_bytes:
            self._server.hold_body(-self._counted_bytes)
            self._counted_bytes = 0

    # --- httptools' side -----------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """First byte of a request."""
        # Not by cast(), which is a call: the other half makes this a whole connection.
        exchange = self._reading = Exchange(self)  # type: ignore[arg-type]
        self._headers = exchange.headers
        self._repeats = 0
        self._phase = _HEADERS
        self._phase_since_ns = self._received_ns

    def on_url(self, url: bytes) -> None:
        """Some of the request target."""
        exchange = self._reading
        if exchange is not None:
            exchange.path += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header; or a trailer, which nobody here needs."""
        if self._phase is _HEADERS:
            headers = self._headers
            name = name.lower()
            if name in headers:
                self._repeats += 1
                add_repeated(headers, name, value)
            else:
                headers[name] = value

    def on_headers_complete(self) -> None:
        """Decide whether the body may come."""
        exchange = self._reading
        if exchange is None:
            return
        parser = self._parser
        exchange.method = parser.get_method()
        exchange.keep_alive = parser.should_keep_alive()
        headers = exchange.headers
        self._phase = _BODY
        self._phase_since_ns = self._received_ns
        if not exchange.keep_alive or b"connection" in headers:  # HTTP/1.1 keeps alive without saying so
            version = parser.get_http_version()
            exchange.http_10 = version == "1.0"
            if version not in ("1.0", "1.1"):
                self._refusal = RequestError(f"expected HTTP/1.1 or HTTP/1.0, got HTTP/{version}")
                return
            if parser.should_upgrade() and exchange.method != b"CONNECT":
                self._offering, self._reading = exchange, None
                return
        if b"?" in exchange.path:
            exchange.path, _, exchange.query = exchange.path.partition(b"?")
        if exchange.path[0] != _SLASH:
            _resolve_target(exchange)
        declared = headers.get(b"content-length")
        if self._head_bytes > self._small_head_bytes and (refusal := self._judge_head(exchange)) is not None:
            self._refusal = refusal
        elif declared is not None:
            if int(declared) > self._limits.body_limit_bytes:
                self._refusal = body_too_large(self._limits)
        elif b"transfer-encoding" in headers and headers[b"transfer-encoding"].strip().lower() != b"chunked":
            coding = headers[b"transfer-encoding"].decode("latin-1")[:40]
            self._refusal = UnsupportedMedia(f"transfer-encoding {coding!r} is not supported; send it chunked only")
        if b"expect" in headers and self._refusal is None and not exchange.http_10:
            self._invite_body()

    def on_body(self, chunk: bytes) -> None:
        """Some of the body."""
        self._head_bytes = 0  # from here on it counts what frames the body: sizes of chunks, trailers
        self._body_bytes += len(chunk)
        body = self._body
        if self._body_bytes > self._limits.body_limit_bytes:
            self._refusal = body_too_large(self._limits)
            body.clear()
        elif self._refusal is not None:
            return
        elif not body or len(chunk) >= _SMALL_CHUNK_BYTES:
            body.append(chunk)
        elif isinstance(body[-1], bytearray):  # an object for each chunk of two bytes would hold 30 times the body
            body[-1] += chunk
        else:
            body.append(bytearray(chunk))

    def on_message_complete(self) -> None:
        """A whole request is here."""
        exchange, self._reading = self._reading, None
        if exchange is None or self._refusal is not None:
            return
        body = self._body
        if body:
            exchange.body = body[0] if len(body) == 1 else b"".join(body)  # type: ignore[assignment]  # the first is bytes
            if self._counted_bytes:
                exchange.hold_body(self._counted_bytes)
                self._counted_bytes = 0
            self._forget_body()
        self._complete(exchange)

    def _complete(self, exchange: Exchange) -> None:
        self._head_bytes = 0
        self._fresh = False
        self._phase = _IDLE
        if self._packet:
            self._server.known_heads.learn(self._packet, exchange)
            self._packet = b""
        if not exchange.keep_alive:
            self._familiar = 0  # what comes behind it does not count, and only the parser knows that
        self._accept(exchange)


def _resolve_target(exchange: Exchange) -> None:
    """Request targets that are no paths: absolute URLs, as to a proxy, and what follows CONNECT."""
    if exchange.method == b"CONNECT":
        exchange.keep_alive = False
    elif (scheme_end := exchange.path.find(b"://")) > 0:
        path_start = exchange.path.find(b"/", scheme_end + 3)
        exchange.path = exchange.path[path_start:] if path_start > 0 else b"/"
