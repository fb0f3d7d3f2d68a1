"""The listening side: connections, their limits, draining."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

from setpoint.core import Clock, Draining, InternalError, InvalidConfiguration, Limits, RefusedError, SetpointError
from setpoint.node.http.connection import HttpConnection
from setpoint.node.http.exchange import Exchange
from setpoint.wire import body_of, headers_of, status_of

Handler = Callable[[Exchange], None]
_SWEEP_S = 0.5
_BACKLOG = 1024


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
        self._handler = handler
        self._on_bug = on_bug
        self._connections: set[HttpConnection] = set()
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._idle = asyncio.Event()
        self.responses: Counter[int] = Counter()
        self.limits = limits
        self.now_ns = clock.now_ns
        self.in_flight = 0
        self.draining = False

    @property
    def connections(self) -> int:
        """Open connections."""
        return len(self._connections)

    async def listen(self, host: str, port: int) -> tuple[str, int]:
        """Start accepting; port 0 picks a free one. Returns where it listens.

        Raises:
            InvalidConfiguration: the address is taken or not ours.
        """
        loop = asyncio.get_running_loop()
        try:
            # Not reuse_port: two nodes on one port would share its requests silently.
            self._server = await loop.create_server(
                lambda: HttpConnection(self), host, port, backlog=_BACKLOG, reuse_port=False
            )
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise InvalidConfiguration(
                f"cannot listen on {host}:{port} ({reason.lower()}); choose another with --host or --port"
            ) from error
        self._sweeper = loop.create_task(self._sweep())
        address: tuple[str, int] = self._server.sockets[0].getsockname()[:2]
        return address

    def handle(self, exchange: Exchange) -> None:
        """Give one request to the handler."""
        try:
            self._handler(exchange)
        except SetpointError as error:
            respond_error(exchange, error)
        except Exception as bug:
            # The boundary: whatever went wrong inside, this client gets an answer and the others are not disturbed.
            reference = self._on_bug(bug)
            if not exchange.answered:
                respond_error(exchange, InternalError(f"a bug in Setpoint, logged under {reference}"))

    def opened(self, connection: HttpConnection) -> None:
        """A connection was made."""
        self._connections.add(connection)
        if len(self._connections) > self.limits.connection_limit:
            limit = self.limits.connection_limit
            connection.refuse_and_close(RefusedError(f"the node's limit of {limit} connections is reached"))

    def closed(self, connection: HttpConnection) -> None:
        """A connection is gone."""
        self._connections.discard(connection)

    def began(self, exchange: Exchange) -> None:
        """A request is in flight."""
        self.in_flight += 1

    def ended(self, exchange: Exchange) -> None:
        """A request is not in flight any more."""
        self.in_flight -= 1
        if self.draining and self.in_flight == 0:
            self._idle.set()

    async def drain(self, timeout_s: float) -> bool:
        """Answer what is in flight, refuse what is new, then close everything. False when time ran out first.

        The listener stays open meanwhile, so that new clients read a 503 and not a refused connection.
        """
        self.draining = True
        if self.in_flight == 0:
            self._idle.set()
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_s)
            drained = True
        except TimeoutError:
            drained = False
        await self.close()
        return drained

    def refuse_while_draining(self) -> None:
        """Raise ``Draining`` if the node is shutting down."""
        if self.draining:
            raise Draining("the node is shutting down; send the request to another one")

    async def close(self) -> None:
        """Stop listening and drop what is left, flushing answers already written."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.close_if_idle()
        for _ in range(20):
            if not self._connections:
                return
            await asyncio.sleep(0.05)
        for connection in list(self._connections):
            connection.abort()
        await asyncio.sleep(0)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            now_ns = self.now_ns()
            for connection in list(self._connections):
                connection.check_time(now_ns)


def respond_error(exchange: Exchange, error: SetpointError) -> None:
    """Answer with an error, unless the client has its answer already."""
    if not exchange.answered:
        headers = tuple((name.encode(), value.encode()) for name, value in headers_of(error))
        exchange.respond(status_of(error), body_of(error), headers=headers)
