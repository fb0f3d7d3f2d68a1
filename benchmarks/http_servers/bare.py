"""A bare `asyncio.Protocol` over httptools and uvloop: the candidate for Setpoint's own HTTP/1.1 server.

One parser per connection, no task per request, one `transport.write` per answer, answers in the order of the
requests. It already pays for what a server owes its users, so that the comparison is fair: limits of header and
body, header/body/idle deadlines (one sweep a second instead of a timer per request), back-pressure, a drain, and the
client's disconnect as a plain callback.

    python bare.py PORT
"""

from __future__ import annotations

import asyncio
import math
import signal
import sys
from collections import deque
from email.utils import formatdate
from typing import cast

import httptools
import msgspec
import uvloop
from echo import answer

MAX_HEADER_BYTES = 32 * 1024
MAX_BODY_BYTES = 64 * 1024 * 1024
MAX_PIPELINED = 32
HEADER_TIMEOUT_S = 10.0
BODY_TIMEOUT_S = 30.0
IDLE_TIMEOUT_S = 75.0
SWEEP_S = 1.0

REASONS = {200: b"OK", 400: b"Bad Request", 408: b"Request Timeout", 413: b"Content Too Large"}
REASONS |= {431: b"Request Header Fields Too Large"}
HEAD = b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ndate: %b\r\ncontent-length: %d\r\n%b\r\n"


class Refusal(Exception):
    """Ends a connection with `status`; raised inside a parser callback."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Server:
    """What the connections share: the loop's time, the Date header and the set of open connections."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.connections: set[Connection] = set()
        self.draining = False
        self.sweep()

    def sweep(self) -> None:
        """Renew the Date header and close every connection whose deadline has passed."""
        self.date = formatdate(usegmt=True).encode()
        now_s = self.loop.time()
        for connection in [one for one in self.connections if one.deadline_s < now_s]:
            connection.expire()
        self.loop.call_later(SWEEP_S, self.sweep)

    def drain(self) -> None:
        """Close idle connections; the others end with their last answer."""
        self.draining = True
        for connection in list(self.connections):
            connection.close_if_idle()


class Exchange:
    """One request: its answer (None until made) and its place in the connection's order."""

    __slots__ = ("cancelled", "connection", "keep_alive", "response")

    def __init__(self, connection: Connection, keep_alive: bool) -> None:
        self.connection = connection
        self.keep_alive = keep_alive
        self.cancelled = False  # True once the client has left: a scheduler would drop the request from its queue
        self.response: bytes | None = None

    def respond(self, status: int, payload: bytes) -> None:
        """Give the answer, now or later, from any callback of the loop."""
        self.keep_alive = self.keep_alive and not self.connection.server.draining
        close = b"" if self.keep_alive else b"connection: close\r\n"
        self.response = HEAD % (status, REASONS[status], self.connection.server.date, len(payload), close) + payload
        self.connection.flush()


class Connection(asyncio.Protocol):
    """One client connection; `deadline_s` is when the client must have moved on (infinite while we owe the answer)."""

    transport: asyncio.Transport

    def __init__(self, server: Server) -> None:
        self.server = server
        self.parser = httptools.HttpRequestParser(self)
        self.pending: deque[Exchange] = deque()
        self.reading = False  # between the first byte of a request and its last
        self.in_headers = False
        self.deadline_s = server.loop.time() + IDLE_TIMEOUT_S

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's class does not inherit from asyncio's
        self.server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.server.connections.discard(self)
        for exchange in self.pending:
            exchange.cancelled = True
        self.pending.clear()

    def data_received(self, data: bytes) -> None:
        rest: bytes | memoryview = data
        try:
            while rest:
                try:
                    self.parser.feed_data(rest)
                    break
                except httptools.HttpParserUpgrade as offer:
                    rest = memoryview(rest)[offer.args[0] :]
                    self.decline_upgrade()
            # The parser gathers a header by itself until it is complete, so its bytes are counted here as well.
            if self.in_headers:
                self.header_bytes += len(data)
                if self.header_bytes > MAX_HEADER_BYTES:
                    raise Refusal(431)
        except Refusal as refusal:
            self.refuse(refusal.status)
        except httptools.HttpParserCallbackError as error:
            self.refuse(error.__context__.status if isinstance(error.__context__, Refusal) else 400)
        except httptools.HttpParserError:
            self.refuse(400)
        if len(self.pending) > MAX_PIPELINED:
            self.transport.pause_reading()

    def decline_upgrade(self) -> None:
        """Go on in HTTP/1.1. httptools takes all that follows an offer for the other protocol, even a declared body
        (Java's client offers h2c with every POST), so a fresh parser reads the same head again without the offer."""
        if self.parser.get_method() == b"CONNECT":
            raise Refusal(400)
        kept = [b"%b: %b\r\n" % one for one in self.headers if one[0].lower() not in (b"upgrade", b"connection")]
        head = b"%b %b HTTP/1.1\r\n%b\r\n" % (self.parser.get_method(), self.url, b"".join(kept))
        self.parser = httptools.HttpRequestParser(self)
        self.parser.feed_data(head)

    def on_message_begin(self) -> None:
        self.reading = self.in_headers = True
        self.url = b""
        self.header_bytes = self.body_bytes = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.chunks: list[bytes] = []
        self.deadline_s = self.server.loop.time() + HEADER_TIMEOUT_S

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.header_bytes += len(name) + len(value)
        if self.header_bytes > MAX_HEADER_BYTES:
            raise Refusal(431)
        if name.lower() == b"content-length" and int(value) > MAX_BODY_BYTES:
            raise Refusal(413)
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.in_headers = False
        self.deadline_s = self.server.loop.time() + BODY_TIMEOUT_S

    def on_body(self, chunk: bytes) -> None:
        self.body_bytes += len(chunk)
        if self.body_bytes > MAX_BODY_BYTES:
            raise Refusal(413)
        self.chunks.append(chunk)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self.reading = False
        self.deadline_s = math.inf
        exchange = Exchange(self, self.parser.should_keep_alive())
        self.pending.append(exchange)
        body = self.chunks[0] if len(self.chunks) == 1 else b"".join(self.chunks)
        self.chunks = []  # an idle connection keeps no body alive
        try:
            exchange.respond(200, answer(self.url.decode("ascii"), body))
        except (msgspec.MsgspecError, UnicodeDecodeError, IndexError) as error:
            exchange.respond(400, msgspec.json.encode({"error": str(error)}))

    def flush(self) -> None:
        """Write every answer whose turn has come."""
        while self.pending and self.pending[0].response is not None:
            exchange = self.pending.popleft()
            assert exchange.response is not None
            self.transport.write(exchange.response)
            if not exchange.keep_alive:
                self.transport.close()
                return
        if not self.pending:
            self.transport.resume_reading()
            if not self.reading:
                self.deadline_s = self.server.loop.time() + IDLE_TIMEOUT_S

    def pause_writing(self) -> None:
        self.transport.pause_reading()  # a client that does not read its answers may not send more

    def resume_writing(self) -> None:
        self.transport.resume_reading()

    def refuse(self, status: int) -> None:
        """Answer `status` after the answers still owed, then close."""
        self.transport.pause_reading()
        self.reading = False
        self.deadline_s = math.inf
        self.pending.append(Exchange(self, keep_alive=False))
        self.pending[-1].respond(status, b"")

    def expire(self) -> None:
        if self.reading:
            self.refuse(408)
        else:
            self.transport.close()

    def close_if_idle(self) -> None:
        if not self.reading and not self.pending:
            self.transport.close()


async def main(port: int) -> None:
    """Serve until SIGTERM or SIGINT, then drain."""
    loop = asyncio.get_running_loop()
    server = Server(loop)
    listener = await loop.create_server(lambda: Connection(server), "127.0.0.1", port, backlog=2048)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()
    listener.close()
    server.drain()
    while server.connections:
        await asyncio.sleep(0.01)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
