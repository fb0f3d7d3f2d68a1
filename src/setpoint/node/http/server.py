"""The listening side: connections, their limits, draining."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

from setpoint.core import Clock, Draining, InternalError, InvalidConfiguration, Limits, RefusedError, SetpointError
from setpoint.node.http.connection import HttpConnection
from setpoint.node.http.descriptors import make_room
from setpoint.node.http.exchange import Exchange, respond_error
from setpoint.node.http.known_heads import KnownHeads
from setpoint.node.http.refusals import too_many_streams
from setpoint.node.http.tls import ServerTls

Handler = Callable[[Exchange], None]
_SWEEP_S = 0.5
_BACKLOG = 1024
_REFUSED_AT_ONCE = 256
"""Connections beyond the limit that may still read why; more are dropped without a word."""
_FLUSH_S = 1.0
_TLS_SHUTDOWN_S = 5.0
"""How long a client may take to agree that its connection is over."""


class Connection(Protocol):
    """What the server asks of each connection, whichever version of HTTP it speaks."""

    def check_time(self, now_ns: int) -> None:
        """Called about once a second: end what takes too long."""
        ...

    def drain(self) -> None:
        """The node begins to shut down."""
        ...

    def close_if_idle(self) -> None:
        """Close unless a request is in flight."""
        ...

    def abort(self) -> None:
        """Drop the connection now."""
        ...


class HttpServer:
    """Accepts connections and hands whole requests to ``handler``, which returns at once.

    What a handler raises becomes the answer: a ``SetpointError`` as its status and message, anything else as a 500
    whose details go to ``on_bug`` and not to the client.
    """

    def __init__(
        self,
        handler: Handler,
        limits: Limits,
        clock: Clock,
        on_bug: Callable[[BaseException], str],
    ) -> None:
        self.handler = handler
        self._on_bug = on_bug
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._idle = asyncio.Event()
        self.responses: Counter[int] = Counter()
        self.known_heads = KnownHeads()
        self.limits = limits
        self.connection_limit = limits.connection_limit
        self.now_ns = clock.now_ns
        self.in_flight = 0
        self.held_body_bytes = 0
        self.streams = 0
        self._keeping_promise = False
        self.draining = False

    @property
    def connections(self) -> int:
        """Open connections."""
        return len(self._connections)

    async def listen(self, host: str, port: int, tls: ServerTls | None = None) -> tuple[str, int]:
        """Start accepting; port 0 picks a free one. Returns where it listens.

        Args:
            host, port: where.
            tls: with it, everything is encrypted. Handshakes count as connections once they are over, and end like
                slow headers.

        Raises:
            InvalidConfiguration: the address is taken or not ours.
        """
        loop = asyncio.get_running_loop()
        encryption: dict[str, Any] = {}
        if tls is not None:
            encryption = {
                "ssl": tls.context,
                "ssl_handshake_timeout": self.limits.header_timeout_s,
                "ssl_shutdown_timeout": _TLS_SHUTDOWN_S,
            }
            # Browsers will choose it, and it had better not be loaded while others wait.
            import setpoint.node.http.http2_connection  # noqa: F401
        try:
            # Not reuse_port: two nodes on one port would share its requests silently.
            self._server = await loop.create_server(
                lambda: HttpConnection(self), host, port, backlog=_BACKLOG, reuse_port=False, **encryption
            )
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise InvalidConfiguration(
                f"cannot listen on {host}:{port} ({reason.lower()}); choose another with --host or --port"
            ) from error
        self._sweeper = loop.create_task(self._sweep())
        self.connection_limit = make_room(self.limits.connection_limit)
        address: tuple[str, int] = self._server.sockets[0].getsockname()[:2]
        return address

    def handle(self, exchange: Exchange) -> None:
        """Give one request to the handler."""
        try:
            self.handler(exchange)
        except SetpointError as error:
            respond_error(exchange, error)
        except Exception as bug:
            # The boundary: whatever went wrong inside, this client gets an answer and the others are not disturbed.
            respond_error(exchange, self.bug(bug))

    def handle_promised(self, exchange: Exchange) -> None:
        """Give the handler a request that was read before draining began: it is not too late for it."""
        before, self._keeping_promise = self._keeping_promise, True
        try:
            self.handle(exchange)
        finally:
            self._keeping_promise = before

    def bug(self, bug: BaseException) -> InternalError:
        """Log a bug of ours; returns what the client is told of it."""
        return InternalError(f"a bug in Setpoint, logged under {self._on_bug(bug)}")

    def soon(self, callback: Callable[[], None]) -> None:
        """Call back when the other connections have had their turn."""
        asyncio.get_running_loop().call_soon(callback)

    def opened(self, connection: HttpConnection) -> None:
        """A connection was made."""
        self._connections.add(connection)
        limit = self.connection_limit
        if len(self._connections) > limit + _REFUSED_AT_ONCE:
            connection.abort()
        elif len(self._connections) > limit:
            connection.refuse_and_close(RefusedError(f"the node's limit of {limit} connections is reached"))

    def continues(self, connection: Connection, successor: Connection) -> None:
        """A connection goes on in another protocol."""
        self._connections.discard(connection)
        self._connections.add(successor)

    def closed(self, connection: Connection) -> None:
        """A connection is gone."""
        self._connections.discard(connection)

    def began(self) -> None:
        """A request was read whole: it is in flight."""
        self.in_flight += 1

    def ended(self, requests: int = 1) -> None:
        """So many requests were answered, or their client has left."""
        self.in_flight -= requests
        if self.draining and self.in_flight == 0:
            self._idle.set()

    async def drain(self, timeout_s: float, give_up: Callable[[], None] | None = None) -> bool:
        """Answer what is in flight, refuse what is new, then close everything. False when time ran out first.

        The listener stays open meanwhile, so that new clients read a 503 and not a refused connection.

        Args:
            timeout_s: how long what is in flight may take.
            give_up: called when that is over, to answer what is left before its connections close.
        """
        self.draining = True
        for connection in list(self._connections):
            connection.drain()
        end_s = asyncio.get_running_loop().time() + timeout_s
        if self.in_flight == 0:
            self._idle.set()
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_s)
            drained = True
        except TimeoutError:
            drained = False
            if give_up is not None:
                give_up()
        # What was answered must still reach those who read slowly.
        await self.close(max(_FLUSH_S, end_s - asyncio.get_running_loop().time()))
        return drained

    def hold_body(self, more_bytes: int) -> bool:
        """So many bytes more (or fewer) of bodies are held; False when all of them are too many."""
        self.held_body_bytes += more_bytes
        return self.held_body_bytes <= self.limits.bodies_limit_bytes

    def reserve_stream(self) -> None:
        """Count one more streamed answer, or raise ``RefusedError`` if there are as many as may be."""
        if self.streams >= self.limits.stream_limit:
            raise too_many_streams(self.limits)
        self.streams += 1

    def release(self, body_bytes: int, streams: int) -> None:
        """An exchange holds so much no longer."""
        self.held_body_bytes -= body_bytes
        self.streams -= streams

    def refuse_while_draining(self) -> None:
        """Raise ``Draining`` if the node is shutting down, unless what is being handled came before."""
        if self.draining and not self._keeping_promise:
            raise Draining("the node is shutting down; send the request to another one")

    async def close(self, flush_s: float = _FLUSH_S) -> None:
        """Stop listening and drop what is left, giving answers already written so long to be read."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.close_if_idle()
        end_s = asyncio.get_running_loop().time() + flush_s
        while asyncio.get_running_loop().time() < end_s:
            if not self._connections:
                return
            await asyncio.sleep(0.02)
        for connection in list(self._connections):
            connection.abort()
        await asyncio.sleep(0)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            now_ns = self.now_ns()
            for connection in list(self._connections):
                try:
                    connection.check_time(now_ns)
                except Exception as bug:
                    # Without it nothing would ever time out again, on any connection.
                    self._on_bug(bug)
