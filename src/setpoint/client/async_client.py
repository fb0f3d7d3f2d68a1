"""An asynchronous client for one node."""

from __future__ import annotations

import contextlib
import copy
import ssl
from collections.abc import AsyncGenerator, Mapping, Sequence
from types import TracebackType
from typing import Any

import msgspec
from numpy.typing import ArrayLike, NDArray

from setpoint.client.asynchronous import AsyncConnections
from setpoint.client.client import context_for, terms_of
from setpoint.client.exchange import Address
from setpoint.client.operations import ModelInfo, Operations
from setpoint.client.retrying import Retries
from setpoint.client.sse import EventReader
from setpoint.core import SystemClock


class AsyncClient:
    """As ``Client``, for the event loop that it is first used on.

    >>> async with AsyncClient("http://127.0.0.1:8000") as client:
    ...     answers = await asyncio.gather(*(client.infer("iris", X=[row]) for row in rows))
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 60.0,
        retries: Retries | None = None,
        headers: Mapping[str, str] | None = None,
        tenant: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Nothing is sent yet; arguments and errors are those of ``Client``."""
        address = Address.parse(url)
        clock = SystemClock()
        self._terms = terms_of(timeout_s, retries, headers, tenant)
        self._operations = Operations(self._terms, clock)
        self._connections = AsyncConnections(address, context_for(address, tls), clock)

    async def ready(self) -> bool:
        """Whether the node says that it can serve."""
        return await self._connections.run(self._operations.ready())

    def within(self, timeout_s: float) -> AsyncClient:
        """The same client with another timeout; it shares the connections."""
        other = copy.copy(self)
        other._terms = msgspec.structs.replace(self._terms, timeout_s=timeout_s)
        other._operations = self._operations.on(other._terms)
        return other

    async def models(self) -> tuple[ModelInfo, ...]:
        """The models that the node serves."""
        return await self._connections.run(self._operations.models())

    async def infer(
        self,
        model: str,
        inputs: Mapping[str, ArrayLike] | None = None,
        /,
        *,
        outputs: Sequence[str] | None = None,
        timeout_s: float | None = None,
        priority: int | None = None,
        **named: ArrayLike,
    ) -> dict[str, NDArray[Any]]:
        """Run a model on named arrays; see ``Client.infer``."""
        given = {**(inputs or {}), **named}
        return await self._connections.run(self._operations.infer(model, given, outputs, timeout_s, priority))

    async def call(self, route: str, /, **arguments: Any) -> Any:
        """Call an endpoint by its native route; see ``Client.call``."""
        return await self._connections.run(self._operations.call(route, arguments))

    async def call_raw(self, route: str, body: bytes) -> Any:
        """Call an endpoint that takes bytes, with the bytes as the body; returns the decoded JSON answer."""
        return await self._connections.run(self._operations.call_raw(route, body))

    async def stream(self, route: str, /, **arguments: Any) -> AsyncGenerator[Any]:
        """Call a streaming endpoint; yields each event's decoded JSON. Close the generator to stop it.

        Raises:
            SetpointError: as the node answered, at the first event or where the stream breaks off.
        """
        events = EventReader()
        pieces = self._connections.stream(self._operations.stream(route, arguments), self._terms.timeout_s)
        async with contextlib.aclosing(pieces):
            async for piece in pieces:
                for data in events.feed(piece):
                    yield msgspec.json.decode(data)

    async def metrics(self) -> str:
        """The node's metrics as Prometheus text."""
        return await self._connections.run(self._operations.metrics())

    async def close(self) -> None:
        """Close the connections."""
        await self._connections.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
